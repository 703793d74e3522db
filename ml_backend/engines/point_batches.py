"""Many clicks on one image at once: what automatic mask generation asks of an engine.

Engines that can do it have `predict_points` beside `Engine`'s methods; those that cannot (GrabCut)
simply lack it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ml_backend.engines import Embedding

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam

__all__ = ["PointBatch", "PointBatchEngine", "decode_points"]


@dataclass(frozen=True, slots=True, eq=False)
class PointBatch:
    """What a model proposes at each of some points, taken as one positive click each.

    `low_res` holds the logits, float32 (points, masks a point, rows, columns); `scores` the
    predicted IoUs, float32 (points, masks a point). To see the logits on the image they are scaled
    bilinearly to `canvas_px` (height, width), whose top-left `content_px` (height, width) is the
    image. A pixel belongs to a mask where its logit is above `threshold`.
    """

    low_res: NDArray[np.float32]
    scores: NDArray[np.float32]
    canvas_px: tuple[int, int]
    content_px: tuple[int, int]
    threshold: float = 0.0


@runtime_checkable
class PointBatchEngine(Protocol):
    """An engine that answers many single clicks in one call."""

    def predict_points(self, embedding: Embedding, points_px: NDArray[np.float64]) -> PointBatch:
        """Propose masks at each (x, y) of an (n, 2) array of pixel coordinates."""


def decode_points(
    sam: Sam,
    features: torch.Tensor,
    dense_pe: torch.Tensor,
    embedding: Embedding,
    points_px: NDArray[np.float64],
) -> PointBatch:
    """Run the prompt encoder and mask decoder of a `segment_anything` model on single clicks.

    `features` are (1, channels, rows, columns) on the model's device, `dense_pe` the positional
    encoding of the prompt encoder. All three masks of every point come back.
    """
    import torch
    from segment_anything.utils.transforms import ResizeLongestSide

    side = sam.image_encoder.img_size
    transform = ResizeLongestSide(side)
    size = (embedding.height_px, embedding.width_px)
    coords = transform.apply_coords(np.asarray(points_px, np.float64), size)
    clicks = torch.as_tensor(coords, dtype=torch.float32, device=features.device)[:, None]
    labels = torch.ones(clicks.shape[:2], dtype=torch.int, device=features.device)
    with torch.inference_mode():
        sparse, dense = sam.prompt_encoder(points=(clicks, labels), boxes=None, masks=None)
        low_res, ious = sam.mask_decoder(
            image_embeddings=features,
            image_pe=dense_pe,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
    return PointBatch(
        low_res.float().cpu().numpy(),
        ious.float().cpu().numpy(),
        canvas_px=(side, side),
        content_px=transform.get_preprocess_shape(*size, side),
        threshold=float(sam.mask_threshold),
    )
