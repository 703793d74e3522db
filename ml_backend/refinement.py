"""The low-resolution answers of earlier clicks, to be refined by the next click of the same region.

Label Studio sends all clicks of a region each time and no name for the region. So an answer is kept
under the image and its prompt, and a prompt finds the answer to itself without its last point.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from ml_backend.engines import Prompt

__all__ = ["RefinementMemory"]

_LOGIT_LIMIT = 32.0


class RefinementMemory:
    """A bounded memory of low-resolution masks by (image, prompt), kept as float16."""

    def __init__(self, limit_bytes: int = 64 << 20) -> None:
        self.limit_bytes = limit_bytes
        self._items: OrderedDict[Hashable, NDArray[np.float16]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def before(self, image_key: str, prompt: Prompt) -> NDArray[np.float32] | None:
        """Return the answer to the prompt without its last point, if it was given here."""
        earlier = prompt.before_last_point()
        if earlier is None:
            return None
        with self._lock:
            found = self._items.get((image_key, earlier))
            if found is None:
                return None
            self._items.move_to_end((image_key, earlier))
        return found.astype(np.float32)

    def keep(self, image_key: str, prompt: Prompt, low_res: NDArray[np.float32] | None) -> None:
        """Remember the answer to a prompt; engines that do not refine give None."""
        if low_res is None:
            return
        # Beyond that a logit says nothing more, and the small model was trained on clipped ones.
        kept = np.clip(low_res, -_LOGIT_LIMIT, _LOGIT_LIMIT).astype(np.float16)
        with self._lock:
            old = self._items.pop((image_key, prompt), None)
            self._bytes += kept.nbytes - (0 if old is None else old.nbytes)
            self._items[image_key, prompt] = kept
            while self._bytes > self.limit_bytes and len(self._items) > 1:
                _, dropped = self._items.popitem(last=False)
                self._bytes -= dropped.nbytes
