"""Segment Anything (Kirillov et al., 2023) as an engine: the built-in small model, ViT-B, L and H.

Ambiguity: one click fits several nested objects. A lone positive click takes, of SAM's three masks,
the one with the best predicted IoU; any further point, a box, or an earlier mask settles the
question, and SAM's single mask is taken (as the authors advise).
"""

from __future__ import annotations

import hashlib
import pickle
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from segment_anything import sam_model_registry
from segment_anything.utils.transforms import ResizeLongestSide
from torch.nn import functional

from ml_backend.engines import Embedding, EngineError, MaskProposal, Prompt
from ml_backend.engines.blocked_encoder import BlockedEncoder, bfloat16_pays, fits
from ml_backend.engines.point_batches import PointBatch, decode_points
from ml_backend.engines.tiny_sam import TinySamConfig, build_tiny_sam
from ml_backend.logit_masks import logits_of

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

__all__ = ["SegmentAnythingEngine", "load_checkpoint", "pick_device"]

_VIT_OF_WIDTH = {TinySamConfig().encoder_width: "tiny", 768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
_WRAPPERS = ("model", "state_dict", "model_state_dict")
_PREFIXES = ("module.", "model.", "sam.")
_PREPROCESSING = "longest-side-1"


class SegmentAnythingEngine:
    """A `segment_anything` model. `encode` and `predict` must be called from one thread at a time.

    `version` is what annotators read, `digest` names the weights. On a CPU the image encoder is
    computed by `BlockedEncoder`: the same float32 numbers up to rounding, sooner. `bfloat16` rounds
    the encoder's linear layers; by default only the large models do, on a GPU that has it and on a
    CPU that was measured to gain by it. The prompt encoder and the decoder run in float32.
    """

    notice: str | None

    def __init__(
        self,
        sam: Sam,
        *,
        name: str,
        version: str,
        digest: str,
        device: str = "cpu",
        bfloat16: bool | None = None,
        notice: str | None = None,
    ) -> None:
        self.name = name
        self.model_version = version
        self.notice = notice
        self.device = torch.device(device)
        self._sam = sam.to(self.device).eval()
        self._transform = ResizeLongestSide(sam.image_encoder.img_size)
        large = sam.image_encoder.img_size >= 1024
        self._bfloat16 = (
            (large and _has_fast_bfloat16(self.device)) if bfloat16 is None else bfloat16
        )
        self._encode_pixels: Callable[[torch.Tensor], torch.Tensor] = self._run_reference
        way = "bf16" if self._bfloat16 else "fp32"
        if self.device.type == "cpu" and fits(sam.image_encoder):
            rounded = torch.bfloat16 if self._bfloat16 else torch.float32
            self._encode_pixels = BlockedEncoder(sam.image_encoder, linear_dtype=rounded)
            way += "-blocked"
        self.cache_key = f"sam:{digest}:{_PREPROCESSING}:{way}"
        with torch.inference_mode():
            # The same for every prompt; SAM computes it anew each time.
            self._dense_pe = self._sam.prompt_encoder.get_dense_pe()
        self._last: tuple[Embedding, torch.Tensor] | None = None
        self._lock = threading.Lock()

    def encode(self, image_rgb: NDArray[np.uint8]) -> Embedding:
        """Run the image encoder; the embedding is float16, (channels, rows, columns)."""
        height_px, width_px = image_rgb.shape[:2]
        resized = self._transform.apply_image(np.ascontiguousarray(image_rgb))
        pixels = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))[None]
        with torch.inference_mode():
            features = self._encode_pixels(self._sam.preprocess(pixels.to(self.device)))
        array = features[0].float().cpu().numpy().astype(np.float16)
        return Embedding({"features": array}, height_px, width_px)

    def _run_reference(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            features: torch.Tensor = self._sam.image_encoder(pixels)
        return features

    def predict(self, embedding: Embedding, prompt: Prompt) -> MaskProposal:
        """Run the prompt encoder and the mask decoder; the score is SAM's predicted IoU."""
        size = (embedding.height_px, embedding.width_px)
        with torch.inference_mode():
            low_res, ious = self._decode(embedding, prompt, size)
            best = int(ious.argmax())
            chosen = low_res[best : best + 1][None]
            logits = self._to_image(chosen, size)[0, 0]
            mask = (logits > self._sam.mask_threshold).cpu().numpy()
            return MaskProposal(mask, float(ious[best]), chosen[0].float().cpu().numpy())

    def mask_logits(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return a mask of an image as the `mask_input` of a prompt."""
        side = self._sam.prompt_encoder.mask_input_size[0]
        full_side = self._sam.image_encoder.img_size
        height_px, width_px = mask.shape
        rows, columns = self._transform.get_preprocess_shape(height_px, width_px, full_side)
        return logits_of(
            mask, side, round(rows * side / full_side), round(columns * side / full_side)
        )

    def predict_points(self, embedding: Embedding, points_px: NDArray[np.float64]) -> PointBatch:
        """Propose SAM's three masks at each of many single clicks, (n, 2) pixel coordinates."""
        features = self._features(embedding)
        return decode_points(self._sam, features, self._dense_pe, embedding, points_px)

    def _decode(
        self, embedding: Embedding, prompt: Prompt, size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        sam, device = self._sam, self.device
        points = boxes = masks = None
        if prompt.points_px:
            coords = self._transform.apply_coords(np.asarray(prompt.points_px, np.float64), size)
            points = (
                torch.as_tensor(coords, dtype=torch.float32, device=device)[None],
                torch.as_tensor(prompt.positive, dtype=torch.int, device=device)[None],
            )
        if prompt.box_px is not None:
            box = self._transform.apply_boxes(np.asarray(prompt.box_px, np.float64)[None], size)
            boxes = torch.as_tensor(box, dtype=torch.float32, device=device)
        if prompt.mask_input is not None:
            masks = torch.from_numpy(np.array(prompt.mask_input, np.float32))[None].to(device)
        ambiguous = len(prompt.points_px) == 1 and boxes is None and masks is None
        sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
        low_res, ious = sam.mask_decoder(
            image_embeddings=self._features(embedding),
            image_pe=self._dense_pe,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=ambiguous,
        )
        return low_res[0], ious[0]

    def _features(self, embedding: Embedding) -> torch.Tensor:
        """The embedding as a float32 tensor on the device; the last one is kept."""
        with self._lock:
            if self._last is not None and self._last[0] is embedding:
                return self._last[1]
            array = np.array(embedding.arrays["features"], np.float32)
            tensor = torch.from_numpy(array)[None].to(self.device)
            self._last = (embedding, tensor)
            return tensor

    def _to_image(self, low_res: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Scale low-resolution logits to the image, as `Sam.postprocess_masks` does."""
        side = self._sam.image_encoder.img_size
        rows, columns = self._transform.get_preprocess_shape(*size, side)
        full = functional.interpolate(low_res, (side, side), mode="bilinear", align_corners=False)
        return functional.interpolate(
            full[..., :rows, :columns], size, mode="bilinear", align_corners=False
        )


def pick_device(wanted: str) -> str:
    """Resolve `auto` to the first GPU or the CPU. Raises EngineError where the device is absent."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise EngineError(
            f"There is no device {wanted!r} here: torch {torch.__version__} sees no GPU. "
            f"Start with --device cpu, or install a driver and a CUDA build of torch."
        )
    return wanted


def load_checkpoint(path: Path) -> tuple[Sam, str, str]:
    """Load a Segment Anything checkpoint, published or fine-tuned; its shapes tell its size.

    Returns the model, its architecture (`tiny`, `vit_b`, `vit_l` or `vit_h`) and the SHA-256 of the
    file. Only tensors are read (safetensors, or `weights_only`), in any floating type; the names
    may be wrapped or prefixed as training scripts do it. Raises EngineError with a sentence for a
    file that is no SAM.
    """
    tensors = _state_dict(_read_tensors(path))
    embed = tensors.get("image_encoder.pos_embed")
    kind = _VIT_OF_WIDTH.get(embed.shape[-1]) if isinstance(embed, torch.Tensor) else None
    if kind is None:
        hint = ""
        if any(name.startswith("sam_mask_decoder.") for name in tensors):
            hint = (
                " It is a SAM 2 checkpoint in its original layout; serve its version for "
                "transformers instead, a folder with config.json."
            )
        raise EngineError(
            f"{path} is no Segment Anything checkpoint of the size ViT-B, ViT-L or ViT-H.{hint}"
        )
    sam = build_tiny_sam() if kind == "tiny" else sam_model_registry[kind]()
    wanted = sam.state_dict()
    faults = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unknown": sorted(tensors.keys() - wanted.keys()),
        "of another shape": sorted(
            name
            for name in wanted.keys() & tensors.keys()
            if not isinstance(tensors[name], torch.Tensor)
            or wanted[name].shape != tensors[name].shape
        ),
    }
    told = [
        f"{len(names)} tensors are {what} (e.g. {names[0]})"
        for what, names in faults.items()
        if names
    ]
    if told:
        raise EngineError(f"{path} does not fit the architecture {kind}: {', '.join(told)}.")
    sam.load_state_dict(tensors, strict=True)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return sam, kind, digest


def _read_tensors(path: Path) -> Any:
    """Read a file without running anything in it; EngineError says in words what is wrong."""
    if path.stat().st_size == 0:
        raise EngineError(f"{path} cannot be read as a checkpoint: it is empty.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Only the zip layout, torch's own since 2020, can be mapped into memory.
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        reason = "it holds other things than tensors, which could run code, or is no such file"
        raise EngineError(f"{path} cannot be read as a checkpoint: {reason}.") from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).split("\n", maxsplit=1)[0].rstrip(".") or type(error).__name__
        raise EngineError(
            f"{path} cannot be read as a checkpoint; it is damaged or incomplete ({reason})."
        ) from error


def _state_dict(content: Any) -> dict[str, Any]:
    """Unwrap what training scripts save around the tensors, and before their names."""
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        return {}
    for prefix in _PREFIXES:
        if content and all(str(name).startswith(prefix) for name in content):
            content = {str(name)[len(prefix) :]: tensor for name, tensor in content.items()}
    return {str(name): tensor for name, tensor in content.items()}


def _has_fast_bfloat16(device: torch.device) -> bool:
    """Say whether bfloat16 pays: GPUs since Ampere, CPUs with the instructions that gain by it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return ("amx_bf16" in flags or "avx512_bf16" in flags) and bfloat16_pays()
