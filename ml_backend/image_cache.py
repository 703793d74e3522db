"""The bytes of a task's image, fetched once and kept for a short while.

A second click on an image must not download it again. The cache is bounded in bytes and in time
(an image can change behind its URL); threads that ask for the same image share one download.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

__all__ = ["CachedImage", "ImageCache"]


@dataclass(frozen=True, slots=True)
class CachedImage:
    """Encoded image bytes with their SHA-256, and when they were fetched (monotonic seconds)."""

    content: bytes = field(repr=False)
    sha256: str
    fetched_at_s: float


class ImageCache:
    """Least-recently-used bytes by reference.

    >>> cache = ImageCache(limit_bytes=100, ttl_s=60)
    >>> cache.get("a", lambda: b"pixels").content, cache.get("a", lambda: b"other").content
    (b'pixels', b'pixels')
    """

    def __init__(
        self, limit_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit_bytes = limit_bytes
        self.ttl_s = ttl_s
        self._clock = clock
        self._items: OrderedDict[str, CachedImage] = OrderedDict()
        self._bytes = 0
        self._fetching: dict[str, Future[CachedImage]] = {}
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def get(self, reference: str, fetch: Callable[[], bytes]) -> CachedImage:
        """Return the image of `reference`, calling `fetch` where it is absent or too old.

        Whatever `fetch` raises is raised to all who wait for it, and nothing is kept.
        """
        with self._lock:
            item = self._items.get(reference)
            if item is not None and self._clock() - item.fetched_at_s <= self.ttl_s:
                self._items.move_to_end(reference)
                return item
            future = self._fetching.get(reference)
            mine = future is None
            if future is None:
                future = self._fetching[reference] = Future()
        if not mine:
            return future.result()
        try:
            content = fetch()
            item = CachedImage(content, hashlib.sha256(content).hexdigest(), self._clock())
        except BaseException as error:
            with self._lock:
                del self._fetching[reference]
            future.set_exception(error)
            raise
        with self._lock:
            del self._fetching[reference]
            self._keep(reference, item)
        future.set_result(item)
        return item

    def _keep(self, reference: str, item: CachedImage) -> None:
        old = self._items.pop(reference, None)
        if old is not None:
            self._bytes -= len(old.content)
        if len(item.content) > self.limit_bytes:
            return
        self._items[reference] = item
        self._bytes += len(item.content)
        while self._bytes > self.limit_bytes:
            _, dropped = self._items.popitem(last=False)
            self._bytes -= len(dropped.content)
