"""SAM, SAM 2 and SAM 2.1 from a folder in the layout of Hugging Face's `transformers`.

The folder holds `config.json`, `preprocessor_config.json` and safetensors. Nothing is downloaded,
no pickle is opened, no code of the folder is run. A lone positive click takes the best of three
masks and everything else the single one, as in the `segment_anything` engine.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ml_backend.engines import Embedding, EngineError, MaskProposal, Prompt
from ml_backend.logit_masks import logits_of

__all__ = ["TransformersEngine", "load_folder", "load_pretrained"]

# The model and the processor of each `model_type`. SAM 2.1 is published for video; its image part
# is a Sam2Model.
_CLASSES = {
    "sam": ("SamModel", "SamProcessor"),
    "sam2": ("Sam2Model", "Sam2Processor"),
    "sam2_video": ("Sam2Model", "Sam2Processor"),
}
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_MAX_CONFIG_BYTES = 1 << 20


class TransformersEngine:
    """A `SamModel` or `Sam2Model`; `encode` and `predict` from one thread at a time.

    The embedding holds one float16 array a level: SAM has one, SAM 2 adds two finer ones that its
    decoder draws the outline from.
    """

    notice: str | None = None

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        name: str,
        version: str,
        digest: str,
        device: str = "cpu",
    ) -> None:
        self.name = name
        self.model_version = version
        self.device = torch.device(device)
        self.cache_key = f"transformers:{model.config.model_type}:{digest}:processor-1:fp32"
        self._model = model.to(self.device).eval()
        self._images = processor.image_processor
        self._is_sam1 = model.config.model_type == "sam"
        self._last: tuple[Embedding, list[torch.Tensor]] | None = None
        self._lock = threading.Lock()

    def encode(self, image_rgb: NDArray[np.uint8]) -> Embedding:
        """Run the folder's own preprocessing and the image encoder."""
        height_px, width_px = image_rgb.shape[:2]
        pixels = self._images(
            images=image_rgb, input_data_format="channels_last", return_tensors="pt"
        )["pixel_values"]
        with torch.inference_mode():
            found = self._model.get_image_embeddings(pixels.to(self.device))
        levels = [found] if isinstance(found, torch.Tensor) else found
        arrays = {
            f"level_{number}": level[0].float().cpu().numpy().astype(np.float16)
            for number, level in enumerate(levels)
        }
        return Embedding(arrays, height_px, width_px)

    def predict(self, embedding: Embedding, prompt: Prompt) -> MaskProposal:
        """Run the prompt encoder and the mask decoder; the score is the predicted IoU."""
        size = (embedding.height_px, embedding.width_px)
        ambiguous = len(prompt.points_px) == 1 and prompt.box_px is None
        ambiguous = ambiguous and prompt.mask_input is None
        with torch.inference_mode():
            levels = self._levels(embedding)
            output = self._model(
                image_embeddings=levels[0] if self._is_sam1 else levels,
                multimask_output=ambiguous,
                **self._prompt_tensors(prompt, size),
            )
            ious = output.iou_scores[0, 0]
            best = int(ious.argmax())
            low_res = output.pred_masks[0, 0, best : best + 1]
            logits = self._to_image(low_res[None], size)[0, 0]
            return MaskProposal(
                (logits > 0).cpu().numpy(), float(ious[best]), low_res.float().cpu().numpy()
            )

    def mask_logits(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return a mask of an image as the `mask_input` of a prompt."""
        config = self._model.config
        side = (
            4 * config.prompt_encoder_config.image_size // config.prompt_encoder_config.patch_size
        )
        height_px, width_px = mask.shape
        rows, columns = self._resized((height_px, width_px))
        if self._is_sam1:
            full = self._images.pad_size
            full_rows, full_columns = int(full["height"]), int(full["width"])
        else:
            full_rows, full_columns = rows, columns
        return logits_of(
            mask, side, round(rows * side / full_rows), round(columns * side / full_columns)
        )

    def _prompt_tensors(self, prompt: Prompt, size: tuple[int, int]) -> dict[str, torch.Tensor]:
        """The prompt in the model's pixels, with the dimensions of batch and object in front."""
        rows, columns = self._resized(size)
        scale = torch.tensor([columns / size[1], rows / size[0]], dtype=torch.float64)
        tensors: dict[str, torch.Tensor] = {}
        if prompt.points_px:
            points = torch.tensor(prompt.points_px, dtype=torch.float64) * scale
            tensors["input_points"] = points.float()[None, None]
            tensors["input_labels"] = torch.tensor(prompt.positive, dtype=torch.int64)[None, None]
        if prompt.box_px is not None:
            box = torch.tensor(prompt.box_px, dtype=torch.float64).view(2, 2) * scale
            tensors["input_boxes"] = box.float().view(1, 1, 4)
        if prompt.mask_input is not None:
            mask = torch.from_numpy(np.array(prompt.mask_input, np.float32))
            tensors["input_masks"] = mask.view(1, 1, *mask.shape[-2:])
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the image inside the model's input.

        SAM keeps the proportions and pads; SAM 2 stretches.
        """
        if not self._is_sam1:
            return int(self._images.size["height"]), int(self._images.size["width"])
        scale = self._images.size["longest_edge"] / max(size)
        return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)

    def _levels(self, embedding: Embedding) -> list[torch.Tensor]:
        """The embedding as float32 tensors on the device; those of the last one are kept."""
        with self._lock:
            if self._last is not None and self._last[0] is embedding:
                return self._last[1]
            levels = [
                torch.from_numpy(np.array(embedding.arrays[f"level_{number}"], np.float32))[None]
                for number in range(len(embedding.arrays))
            ]
            levels = [level.to(self.device) for level in levels]
            self._last = (embedding, levels)
            return levels

    def _to_image(self, low_res: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Scale low-resolution logits to the image, as the processor does."""
        if self._is_sam1:
            padded = self._images.pad_size["height"], self._images.pad_size["width"]
            rows, columns = self._resized(size)
            low_res = functional.interpolate(low_res, padded, mode="bilinear", align_corners=False)[
                ..., :rows, :columns
            ]
        return functional.interpolate(low_res, size, mode="bilinear", align_corners=False)


def load_folder(folder: Path, device: str = "cpu") -> TransformersEngine:
    """Load a model folder. Raises EngineError with a sentence for one that cannot be served.

    Raises ImportError where `transformers` is not installed.
    """
    config = _read_config(folder)
    kind = config.get("model_type")
    if kind not in _CLASSES:
        raise EngineError(
            f"{folder / 'config.json'} describes a model of the type {kind!r}; this engine serves "
            f"{', '.join(_CLASSES)}."
        )
    if not any((folder / name).is_file() for name in _PROCESSOR_FILES):
        raise EngineError(
            f"{folder} has no preprocessor_config.json, so the size and the colours that the model "
            f"expects are unknown; copy that file from where the model came from."
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise EngineError(
            f"{folder} has no .safetensors file. Pickled weights (.bin, .pth) are not opened "
            f"because they can run code; convert them with `save_pretrained`."
        )
    model, processor = load_pretrained(folder, *_CLASSES[str(kind)], str(kind))
    digest = hashlib.sha256()
    present = [folder / name for name in _PROCESSOR_FILES if (folder / name).is_file()]
    for path in [folder / "config.json", *present, *weights]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    name = folder.resolve().name
    return TransformersEngine(
        model,
        processor,
        name=name,
        version=f"segstudio {kind} {name}",
        digest=digest.hexdigest()[:16],
        device=device,
    )


def _read_config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise EngineError(
            f"{folder} is a folder without config.json; give a model folder in the layout of "
            f"transformers (config.json, preprocessor_config.json, model.safetensors), or the "
            f"path of a checkpoint file."
        )
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise EngineError(f"{path} is larger than any model's configuration.")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(config, dict):
        raise EngineError(f"{path} holds no JSON object.")
    return config


def load_pretrained(
    folder: Path, model_class: str, processor_class: str, kind: str
) -> tuple[Any, Any]:
    """Load a model and its processor, classes of `transformers` by name, from a folder alone.

    Only tensors are read. Raises EngineError where the folder cannot be loaded, or lacks tensors
    of a `kind` model; ImportError where `transformers` is not installed.
    """
    # By name: its type information would take the type checker minutes.
    transformers = importlib.import_module("transformers")
    try:
        processor = getattr(transformers, processor_class).from_pretrained(
            folder, local_files_only=True
        )
        model, report = getattr(transformers, model_class).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a damaged folder makes the library raise
        raise EngineError(
            f"{folder} cannot be loaded as a {kind} model: {type(error).__name__}: {error}"
        ) from error
    # What a file lacks would be filled with random numbers and answer nonsense.
    lacking = sorted(report["missing_keys"]) + sorted(str(k) for k in report["mismatched_keys"])
    if lacking:
        raise EngineError(
            f"{folder} lacks {len(lacking)} tensors of a {kind} model, e.g. {lacking[0]}; the "
            f"weights belong to another model or the copy is incomplete."
        )
    return model, processor
