"""The photos of a video's frames, a stretch at a time: grey and small for motion, whole for SAM."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend.embeddings import EmbeddingStore, embedding_key
from ml_backend.engines import Embedding, Engine
from ml_backend.sequence_index import Frame
from segstudio.client import Client
from segstudio.errors import SegstudioError
from segstudio.media import image_bytes, load_image
from segstudio.optical_flow import (
    MIN_SIDE_PX,
    Carrying,
    Flow,
    carry_along,
    dense_search,
    small_gray,
)


@dataclass(slots=True)
class Photos:
    """Where photos may come from, and what could not be had.

    `missing` counts them, with the first reason; a stretch with a missing photo moves by its masks
    alone.
    """

    client: Client | None = None
    local_roots: Sequence[Path] = ()
    allowed_hosts: tuple[str, ...] = ()
    wanted: bool = True
    missing: int = 0
    first_reason: str | None = None

    _last: tuple[int, NDArray[np.uint8] | None] | None = None

    def content(self, frame: Frame) -> bytes:
        """Return a photo's file. Raises SegstudioError where it cannot be had."""
        return image_bytes(
            frame.reference,
            self.client,
            self.local_roots,
            task_id=frame.task_id,
            allowed_hosts=self.allowed_hosts or None,
        )

    def colours(self, frames: Sequence[Frame]) -> Iterator[NDArray[np.uint8]]:
        """Yield the photos of frames in RGB. Raises SegstudioError where one cannot be had."""
        for frame in frames:
            yield load_image(self.content(frame))

    def grays(self, frames: Sequence[Frame]) -> list[NDArray[np.uint8]] | None:
        """Return the grey photos of successive frames; None where one is missing or too small."""
        if not self.wanted:
            return None
        grays: list[NDArray[np.uint8]] = []
        for frame in frames:
            gray = self._gray(frame)
            if gray is None or (grays and gray.shape != grays[0].shape):
                return None
            grays.append(gray)
        return grays

    def _gray(self, frame: Frame) -> NDArray[np.uint8] | None:
        if self._last is not None and self._last[0] == frame.task_id:
            return self._last[1]  # the key frame between two stretches
        gray: NDArray[np.uint8] | None = None
        try:
            gray = small_gray(load_image(self.content(frame)))
        except SegstudioError as error:
            self.missing += 1
            self.first_reason = self.first_reason or str(error)
        if gray is not None and min(gray.shape) < MIN_SIDE_PX:
            gray = None
        self._last = (frame.task_id, gray)
        return gray


@dataclass(slots=True)
class Embeddings:
    """The engine's embeddings of frames, shared with `serve` and `precompute`."""

    engine: Engine
    store: EmbeddingStore
    photos: Photos

    def of(self, frame: Frame) -> Embedding | None:
        """Return the embedding of a frame's photo; None where the photo cannot be had."""
        try:
            content = self.photos.content(frame)
            key = embedding_key(hashlib.sha256(content).hexdigest(), self.engine.cache_key)
            found = self.store.get(key)
            if found is None:
                found = self.engine.encode(load_image(content))
                self.store.put(key, found)
        except SegstudioError:
            return None
        return found


def carried_both_ways(
    grays: Sequence[NDArray[np.uint8]],
) -> Iterator[tuple[Carrying, Carrying]]:
    """Yield, for each frame between the first and the last, the motion to it from both of them.

    The motions from the last frame are kept as float16 until their turn comes: about 1 MB a frame.
    """
    pairs = [(dense_search(a, b), dense_search(b, a)) for a, b in pairwise(grays)]
    backward = [_packed(one) for one in carry_along((back, there) for there, back in pairs[::-1])]
    for step, forward in enumerate(carry_along(pairs)):
        at = len(pairs) - 2 - step
        if at < 0:
            return
        yield forward, _unpacked(backward[at])
        backward[at] = None


def carried_one_way(grays: Sequence[NDArray[np.uint8]]) -> Iterator[Carrying]:
    """Yield the motion from the first frame to each later one."""
    return carry_along((dense_search(a, b), dense_search(b, a)) for a, b in pairwise(grays))


def _packed(one: Carrying) -> tuple[NDArray[np.float16], NDArray[np.float16]] | None:
    return one.flow.displacement_px.astype(np.float16), one.trust.astype(np.float16)


def _unpacked(held: tuple[NDArray[np.float16], NDArray[np.float16]] | None) -> Carrying:
    if held is None:
        raise ValueError("This frame's motion was handed out already.")
    flow, trust = held
    return Carrying(Flow(flow.astype(np.float32)), trust.astype(np.float32))
