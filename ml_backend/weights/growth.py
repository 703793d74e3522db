"""Go on training with a deeper encoder: blocks are added to trained weights as the identity.

After Chen et al., "Net2Net: Accelerating Learning via Knowledge Transfer", 2016: the larger model
starts with exactly the function of the smaller one.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from segment_anything.modeling import Sam

from ml_backend.engines.tiny_sam import TinySamConfig, build_tiny_sam

__all__ = ["grow_tiny_sam"]

_BLOCKS = "image_encoder.blocks."


def grow_tiny_sam(path: Path, config: TinySamConfig | None = None) -> Sam:
    """Load weights whose encoder may have fewer blocks than `config`'s (default: the shipped size).

    A new block copies the last trained one of its kind, windowed or global, but its two output
    layers are zero: it passes its input on and learns from there. Raises RuntimeError where
    anything but the number of blocks differs, ValueError where a kind of block is missing.
    """
    held = {name: tensor.float() for name, tensor in load_file(path).items()}
    sam = build_tiny_sam(config)
    windows = [block.window_size for block in sam.image_encoder.blocks]
    known = 1 + max(int(name.split(".")[2]) for name in held if name.startswith(_BLOCKS))
    for index in range(known, len(windows)):
        alike = [old for old in range(known) if windows[old] == windows[index]]
        if not alike:
            raise ValueError(f"{path} has no block like block {index} to start that one from.")
        mark = f"{_BLOCKS}{alike[-1]}."
        for name in [name for name in held if name.startswith(mark)]:
            rest = name.removeprefix(mark)
            is_output = rest.startswith(("attn.proj.", "mlp.lin2."))
            tensor = torch.zeros_like(held[name]) if is_output else held[name].clone()
            held[f"{_BLOCKS}{index}.{rest}"] = tensor
    sam.load_state_dict(held, strict=True)
    return sam
