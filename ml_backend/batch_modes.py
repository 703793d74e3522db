"""What becomes of a task that nobody has clicked on: which images, which class, which masks.

`AutomaticJobs` computes automatic masks beside the requests: a grid of clicks can take longer than
Label Studio waits, so the work goes on after the request has given up, and the next request finds
the masks done. The model is asked in pieces of about a tenth of a second at batch priority, so a
click waits for one piece at most.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.automatic_masks import AutomaticMasks
from ml_backend.engines.point_batches import PointBatch
from ml_backend.images import ImageError, image_reference
from ml_backend.predictions import AnswerError, choose_control
from ml_backend.scheduler import BusyError
from segstudio.label_config import LabelConfig

__all__ = ["AutomaticJobs", "automatic_label", "image_places", "in_pieces"]

_CLASS_AGNOSTIC = (
    *("object", "objects", "region", "regions", "segment", "segments", "thing", "things"),
    *("instance", "instances", "mask", "masks", "item", "unknown", "unlabelled", "unlabeled"),
)
_MOST_PAGES = 100
_PIECE_S = 0.1
_FIRST_PIECE = 8
_MOST_POINTS = 64
_MAX_WAITING = 16
_MEMORY_BYTES = 64 << 20


def automatic_label(
    config: LabelConfig, to_name: str, wanted: str | None, preferred: str | None = None
) -> tuple[str, ...]:
    """Choose the label of masks that have no class.

    The label that the project names; else the only label that its masks can have; else the first
    one that is called object, region, segment, thing, instance, mask, item or unknown (also in the
    plural). Where no control asks for a label, none. Raises AnswerError where that leaves a choice
    to be made, or where no control can hold the label that is named.
    """
    if wanted is not None:
        choose_control(config, [wanted], to_name, preferred)
        return (wanted,)
    offered = [
        label.stored
        for control in config.controls
        if to_name in control.to_names
        for label in control.labels
    ]
    usable = [label for label in dict.fromkeys(offered) if _can_hold(config, label, to_name)]
    if len(usable) == 1:
        return (usable[0],)
    agnostic = [label for label in usable if label.strip().lower() in _CLASS_AGNOSTIC]
    if agnostic:
        return (agnostic[0],)
    if not usable:
        choose_control(config, (), to_name, preferred)  # a plain shape without labels, or the error
        return ()
    shown = ", ".join(map(repr, usable[:8])) + (" ..." if len(usable) > 8 else "")
    raise AnswerError(
        f"Automatic masks have no class, and {to_name!r} has {len(usable)} labels ({shown}): name "
        f'one in the extra parameters, for example {{"mode": "automatic", "label": '
        f'"{usable[0]}"}}, or add a label "Object" to the labelling interface.'
    )


def _can_hold(config: LabelConfig, label: str, to_name: str) -> bool:
    try:
        choose_control(config, [label], to_name)
    except AnswerError:
        return False
    return True


def image_places(data: Mapping[str, Any], config: LabelConfig) -> list[tuple[str, int]]:
    """The images of a task: (name of the Image tag, page), tags without an image left out."""
    places: list[tuple[str, int]] = []
    for tag in config.images:
        for page in range(_MOST_PAGES if tag.is_list else 1):
            try:
                image_reference(data, config, tag.name, page)
            except ImageError:
                break
            places.append((tag.name, page))
    return places


def in_pieces(
    points: NDArray[np.float64], decode: Callable[[NDArray[np.float64]], tuple[PointBatch, float]]
) -> Iterator[tuple[NDArray[np.float64], PointBatch]]:
    """Ask for a few points at a time, as many as take about a tenth of a second.

    `decode` also says how many seconds the device worked.
    """
    amount, done = _FIRST_PIECE, 0
    while done < len(points):
        piece = points[done : done + amount]
        batch, device_s = decode(piece)
        yield piece, batch
        done += len(piece)
        fitting = len(piece) * _PIECE_S / max(device_s, 1e-6)
        amount = max(1, int(min(fitting, 2 * amount, _MOST_POINTS)))


class AutomaticJobs:
    """Computes automatic masks one image at a time and keeps the last ones, within a limit."""

    def __init__(self, limit_bytes: int = _MEMORY_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="automatic")
        self._running: dict[Hashable, Future[AutomaticMasks]] = {}
        self._done: OrderedDict[Hashable, AutomaticMasks] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: Hashable, work: Callable[[], AutomaticMasks]) -> Future[AutomaticMasks]:
        """Return the masks of `key`, running `work` where nobody has. Raises BusyError."""
        with self._lock:
            done = self._done.get(key)
            if done is not None:
                self._done.move_to_end(key)
                finished: Future[AutomaticMasks] = Future()
                finished.set_result(done)
                return finished
            running = self._running.get(key)
            if running is not None:
                return running
            if len(self._running) >= _MAX_WAITING:
                raise BusyError(
                    f"{len(self._running)} images wait for automatic masks already; try again in "
                    f"a moment."
                )
            future = self._running[key] = self._pool.submit(work)
        future.add_done_callback(lambda ended: self._keep(key, ended))
        return future

    def close(self) -> None:
        """Start no more; what runs ends with its next piece, when the queue refuses it."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _keep(self, key: Hashable, ended: Future[AutomaticMasks]) -> None:
        with self._lock:
            self._running.pop(key, None)
            if ended.cancelled() or ended.exception() is not None:
                return
            self._done[key] = ended.result()
            self._bytes += _size_bytes(ended.result())
            while self._bytes > self.limit_bytes and len(self._done) > 1:
                _, dropped = self._done.popitem(last=False)
                self._bytes -= _size_bytes(dropped)


def _size_bytes(masks: AutomaticMasks) -> int:
    return masks.point_ious.nbytes + sum(one.mask.runs.nbytes for one in masks.masks)
