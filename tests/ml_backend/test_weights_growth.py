"""A grown model answers as the small one did, and every new block can learn."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("segment_anything")

import torch

from ml_backend.engines.tiny_sam import TinySamConfig, build_tiny_sam, save_tiny_sam
from ml_backend.weights.growth import grow_tiny_sam

SMALL = TinySamConfig(image_size_px=64, encoder_depth=2, global_blocks=(1,))
GROWN = TinySamConfig(image_size_px=64, encoder_depth=5, global_blocks=(1, 3))


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "small.safetensors"
    save_tiny_sam(build_tiny_sam(SMALL), path)
    return path


def test_a_grown_encoder_gives_what_the_small_one_gave(small_file: Path) -> None:
    small, grown = grow_tiny_sam(small_file, SMALL), grow_tiny_sam(small_file, GROWN)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(small.image_encoder(image), grown.image_encoder(image))
    assert len(grown.image_encoder.blocks) == 5
    assert [block.window_size for block in grown.image_encoder.blocks] == [8, 0, 8, 0, 8]


def test_new_blocks_receive_gradients_at_once(small_file: Path) -> None:
    encoder = grow_tiny_sam(small_file, GROWN).image_encoder
    encoder(torch.randn(1, 3, 64, 64)).square().sum().backward()
    for block in encoder.blocks[2:]:
        assert block.attn.proj.weight.grad.abs().sum() > 0
        assert block.mlp.lin2.weight.grad.abs().sum() > 0


def test_a_block_of_a_kind_the_file_lacks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "windowed.safetensors"
    save_tiny_sam(
        build_tiny_sam(TinySamConfig(image_size_px=64, encoder_depth=2, global_blocks=())), path
    )
    with pytest.raises(ValueError, match="no block like block 3"):
        grow_tiny_sam(path, TinySamConfig(image_size_px=64, encoder_depth=4, global_blocks=(3,)))
