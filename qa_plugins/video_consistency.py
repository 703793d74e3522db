"""Video consistency (VC) of labels over windows of frames, as VSPW defines it, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

LabelMap = NDArray[np.uint16]


class VideoConsistency:
    """VC_k of each annotator against each other as the reference.

    Of the pixels to which the reference gives one class throughout k frames, the share whose label
    the annotator does not change either; the mean over all windows of k frames (Miao et al., VSPW,
    CVPR 2021). Pixels without a class in the reference do not count. For every annotator only
    how long each pixel has been constant is kept.
    """

    def __init__(self, windows: Sequence[int]) -> None:
        self._windows = tuple(windows)
        self._last: dict[int, LabelMap] = {}
        self._ages: dict[int, NDArray[np.uint16]] = {}
        self.sums: dict[tuple[int, int, int], list[float]] = {}

    def interrupt(self) -> None:
        """Begin anew: another video, or frames are missing."""
        self._last, self._ages = {}, {}

    def add(self, maps: Mapping[int, LabelMap]) -> None:
        """Take the label maps of the next frame by annotator; 0 is unlabelled."""
        ages: dict[int, NDArray[np.uint16]] = {}
        for person, labels in maps.items():
            last = self._last.get(person)
            ages[person] = np.ones(labels.shape, np.uint16)
            if last is not None and last.shape == labels.shape:
                before = np.minimum(self._ages[person], 60_000)
                ages[person] = np.where(labels == last, before + 1, 1).astype(np.uint16)
        self._last, self._ages = dict(maps), ages
        for person, reference in permutations(sorted(maps), 2):
            if ages[person].shape != ages[reference].shape:
                continue
            for frames in self._windows:
                stable = (ages[reference] >= frames) & (maps[reference] > 0)
                count = int(stable.sum())
                if count:
                    kept = int((stable & (ages[person] >= frames)).sum())
                    entry = self.sums.setdefault((person, reference, frames), [0.0, 0])
                    entry[0], entry[1] = entry[0] + kept / count, entry[1] + 1
