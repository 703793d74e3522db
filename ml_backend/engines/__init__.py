"""Segmentation engines: what the server asks of a model, and how one is found by name.

An engine turns an image into an `Embedding` once (slow) and a `Prompt` on that embedding into a
mask many times (fast). Coordinates are pixel indices of the image: (0, 0) is the centre of the
top-left pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from segstudio.errors import SegstudioError

__all__ = ["Embedding", "Engine", "EngineError", "MaskProposal", "Prompt"]


class EngineError(SegstudioError):
    """A model that cannot be loaded or run; the message is a sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the annotator pointed at, in pixel indices of the image.

    `points_px` are (x, y) with one flag each in `positive`; `box_px` is (x0, y0, x1, y1).
    `mask_input` is the low-resolution answer to the same prompt without its last point, for engines
    that refine; it takes no part in equality.
    """

    points_px: tuple[tuple[float, float], ...] = ()
    positive: tuple[bool, ...] = ()
    box_px: tuple[float, float, float, float] | None = None
    mask_input: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.points_px) != len(self.positive):
            raise ValueError(
                f"A prompt has {len(self.points_px)} points but {len(self.positive)} flags."
            )
        if not self.points_px and self.box_px is None:
            raise ValueError("A prompt needs at least one point or a box.")

    def before_last_point(self) -> Prompt | None:
        """Return this prompt without its last point; None where that leaves nothing.

        >>> Prompt(((1, 2), (3, 4)), (True, False)).before_last_point()
        Prompt(points_px=((1, 2),), positive=(True,), box_px=None)
        """
        if not self.points_px or (len(self.points_px) == 1 and self.box_px is None):
            return None
        return Prompt(self.points_px[:-1], self.positive[:-1], self.box_px)

    def with_mask(self, mask_input: NDArray[np.float32] | None) -> Prompt:
        """Return the same prompt with the earlier low-resolution answer to refine."""
        return replace(self, mask_input=mask_input)


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What an engine keeps of an image: named arrays, and the image's size in pixels."""

    arrays: Mapping[str, NDArray[Any]]
    height_px: int
    width_px: int

    @property
    def size_bytes(self) -> int:
        """Memory that the arrays take."""
        return sum(int(array.nbytes) for array in self.arrays.values())


@dataclass(frozen=True, slots=True, eq=False)
class MaskProposal:
    """One mask of the image's size (bool), its predicted IoU, and what refines it on a later click.

    `score` is the engine's own estimate and may lie outside 0..1; `low_res` is None for engines
    that do not refine.
    """

    mask: NDArray[np.bool_]
    score: float
    low_res: NDArray[np.float32] | None = None


@runtime_checkable
class Engine(Protocol):
    """A model behind the server. `encode` and `predict` are called from one thread at a time."""

    @property
    def name(self) -> str:
        """Short name, as given to `--model`."""

    @property
    def model_version(self) -> str:
        """Readable name that annotators see, e.g. `segstudio sam tiny 0.1`."""

    @property
    def cache_key(self) -> str:
        """Changes whenever the weights or the preprocessing do: embeddings are stored under it."""

    @property
    def notice(self) -> str | None:
        """One sentence for whoever starts the server, where the model has limits worth knowing."""

    def encode(self, image_rgb: NDArray[np.uint8]) -> Embedding:
        """Encode an RGB image of shape (height, width, 3)."""

    def predict(self, embedding: Embedding, prompt: Prompt) -> MaskProposal:
        """Segment what the prompt points at."""
