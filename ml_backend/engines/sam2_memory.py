"""SAM 2's memory: masks of one frame followed through the next frames of a video.

The folder is one for video in the layout of `transformers` (`sam2_video`, as SAM 2.1 is
published). Frames are handed in one by one and dropped when they have been seen; what stays is the
model's own memory of them.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ml_backend.engines.transformers import load_pretrained
from segstudio.masks import Mask

_MODEL_TYPE: Final = "sam2_video"
_MASK_THRESHOLD: Final = 0.5


class Sam2Memory:
    """A `Sam2VideoModel` with the image processor of its folder; used from one thread at a time."""

    def __init__(self, model: Any, images: Any, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self._model = model.to(self.device).eval()
        self._images = images

    def follow(
        self, frames: Iterable[NDArray[np.uint8]], masks: Sequence[Mask]
    ) -> Iterator[tuple[Mask, ...]]:
        """Yield the masks in each frame after the first, in their order; empty where one is gone.

        Args:
            frames: RGB photos of one size, in the order to follow; the first is that of the masks.
            masks: of the photos' size; none gives empty tuples.
        """
        session: Any = None
        for number, pixels in enumerate(frames):
            if not masks:
                if number:
                    yield ()
                continue
            size = pixels.shape[0], pixels.shape[1]
            if session is None:
                session = self._new_session(size)
                for at, mask in enumerate(masks):
                    session.add_mask_inputs(session.obj_id_to_idx(at + 1), 0, self._input(mask))
                session.obj_with_new_inputs = [at + 1 for at in range(len(masks))]
            session.add_new_frame(self._pixels(pixels), number)
            with torch.inference_mode():
                found = self._model(session, frame_idx=number).pred_masks
                logits = functional.interpolate(
                    found.float(), size, mode="bilinear", align_corners=False
                )[:, 0]
            # Its features have been taken over; frames would otherwise pile up.
            session.processed_frames[number] = session.processed_frames[number][:0]
            if number:
                yield tuple(Mask.from_dense(one) for one in (logits > 0).cpu().numpy())

    def _new_session(self, size: tuple[int, int]) -> Any:
        module = importlib.import_module("transformers.models.sam2_video.modeling_sam2_video")
        session_class: Any = module.Sam2VideoInferenceSession
        return session_class(
            video=None,
            video_height=size[0],
            video_width=size[1],
            inference_device=self.device,
            inference_state_device=self.device,
            video_storage_device="cpu",
            dtype=torch.float32,
        )

    def _pixels(self, rgb: NDArray[np.uint8]) -> torch.Tensor:
        made = self._images(images=rgb, input_data_format="channels_last", return_tensors="pt")
        pixels: torch.Tensor = made["pixel_values"][0]
        return pixels

    def _input(self, mask: Mask) -> torch.Tensor:
        """The mask at the model's size, as the library's own processor makes it."""
        dense = torch.from_numpy(mask.to_dense()).float()[None, None].to(self.device)
        side = int(self._images.size["height"]), int(self._images.size["width"])
        if dense.shape[-2:] == side:
            return dense
        scaled = functional.interpolate(
            dense, side, mode="bilinear", align_corners=False, antialias=True
        )
        return (scaled >= _MASK_THRESHOLD).float()


def has_memory(folder: Path) -> bool:
    """Say whether a folder describes a SAM 2 for video."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == _MODEL_TYPE


def load_memory(folder: Path, device: str = "cpu") -> Sam2Memory:
    """Load the whole model of a folder, memory included.

    Raises EngineError where tensors are missing or the folder cannot be loaded. Raises ImportError
    where `transformers` is not installed.
    """
    model, processor = load_pretrained(folder, "Sam2VideoModel", "Sam2Processor", _MODEL_TYPE)
    return Sam2Memory(model, processor.image_processor, device)
