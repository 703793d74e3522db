"""The built-in small SAM: `segment_anything`'s own classes at a size a laptop CPU answers in time.

The architecture is SAM's (Kirillov et al., "Segment Anything", 2023), only narrower: a ViT image
encoder, a prompt encoder and a two-way mask decoder. `SamPredictor` runs it unchanged.
The weights are trained on generated scenes only; see `ml_backend/weights/README.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn

__all__ = ["DEFAULT_WEIGHTS", "TinySamConfig", "build_tiny_sam", "load_tiny_sam", "save_tiny_sam"]

DEFAULT_WEIGHTS = Path(__file__).resolve().parent.parent / "weights" / "tiny_sam.safetensors"


@dataclass(frozen=True)
class TinySamConfig:
    """Sizes of the small SAM; the shipped weights fit the defaults only."""

    image_size_px: int = 256
    patch_size_px: int = 8
    encoder_width: int = 128
    encoder_depth: int = 10
    encoder_heads: int = 2
    window_size_tokens: int = 8
    global_blocks: tuple[int, ...] = (3, 6, 9)
    prompt_width: int = 128
    decoder_depth: int = 2
    decoder_heads: int = 4
    decoder_mlp_width: int = 256
    mask_in_channels: int = 16

    @property
    def embedding_size_tokens(self) -> int:
        """Side of the square image embedding, in tokens."""
        return self.image_size_px // self.patch_size_px

    @property
    def mask_size_px(self) -> int:
        """Side of the low-resolution masks that come out and go in as `mask_input`, in pixels."""
        return 4 * self.embedding_size_tokens


def build_tiny_sam(config: TinySamConfig | None = None) -> Sam:
    """Build the small SAM with fresh random parameters, in evaluation mode.

    The frequencies of the positional encoding span 0.5 to 4 instead of SAM's 1, because a click
    must be told apart from its neighbours on 32x32 tokens by a much smaller decoder.
    """
    size = config or TinySamConfig()
    side = size.embedding_size_tokens
    sam = Sam(
        image_encoder=ImageEncoderViT(
            img_size=size.image_size_px,
            patch_size=size.patch_size_px,
            embed_dim=size.encoder_width,
            depth=size.encoder_depth,
            num_heads=size.encoder_heads,
            mlp_ratio=4,
            out_chans=size.prompt_width,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=size.window_size_tokens,
            global_attn_indexes=size.global_blocks,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=size.prompt_width,
            image_embedding_size=(side, side),
            input_image_size=(size.image_size_px, size.image_size_px),
            mask_in_chans=size.mask_in_channels,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=size.decoder_depth,
                embedding_dim=size.prompt_width,
                num_heads=size.decoder_heads,
                mlp_dim=size.decoder_mlp_width,
            ),
            transformer_dim=size.prompt_width,
            iou_head_depth=3,
            iou_head_hidden_dim=size.prompt_width,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    frequencies = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    frequencies.mul_(torch.logspace(-1, 2, frequencies.shape[1], base=2.0))
    return sam.eval()


def load_tiny_sam(path: Path | None = None) -> Sam:
    """Load the small SAM from a safetensors file, as float32 on the CPU in evaluation mode.

    `path` is by default the shipped file. Raises FileNotFoundError where there is no such file and
    ValueError where its tensors are not exactly those of the architecture.
    """
    file = path or DEFAULT_WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no weights file at {file}; reinstall the package, or train one with "
            f"`python -m ml_backend.weights.train --out {file.name}`."
        )
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
    except SafetensorError as error:
        raise ValueError(f"{file} is not a safetensors file: {error}.") from error
    sam = build_tiny_sam()
    try:
        sam.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{file} does not hold the built-in small SAM: {error}") from error
    return sam


def save_tiny_sam(sam: Sam, path: Path) -> None:
    """Write the parameters of `sam` as float16 safetensors, atomically (temporary file, rename)."""
    tensors = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in sam.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary, metadata={"format": "pt", "licence": "Apache-2.0"})
    temporary.replace(path)
