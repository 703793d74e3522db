"""SAM 2's memory, frame by frame, beside transformers' own way through a whole video."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from ml_backend.engines import EngineError
from ml_backend.engines.sam2_memory import Sam2Memory, has_memory, load_memory
from segstudio.masks import Mask

HEIGHT_PX, WIDTH_PX = 48, 80
SIZE = {"height": 64, "width": 64}


def save_video_model(folder: Path) -> None:
    """A very small SAM 2 for video with random weights."""
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=16, num_attention_heads=1, image_size=[64, 64], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128], num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[4, 4, 4, 4], global_attention_blocks=[3],
        window_positional_embedding_background_size=[7, 7],
    )  # fmt: skip
    config = transformers.Sam2VideoConfig(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=[128, 64, 32, 16],
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=128,
        ),
        prompt_encoder_config={"hidden_size": 128, "image_size": 64, "mask_input_channels": 8},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 64, "num_attention_heads": 2,
                             "iou_head_hidden_dim": 32},
        image_size=64, memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64, memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128, memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128, memory_fuser_num_layers=1, memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=64,
    )  # fmt: skip
    model = transformers.Sam2VideoModel(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15, generator=generator)
    model.save_pretrained(folder)
    transformers.Sam2Processor(transformers.Sam2ImageProcessor(size=SIZE)).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "sam2-video"
    save_video_model(path)
    return path


@pytest.fixture(scope="module")
def memory(folder: Path) -> Sam2Memory:
    return load_memory(folder)


def photo(frame: int) -> NDArray[np.uint8]:
    pixels = np.full((HEIGHT_PX, WIDTH_PX, 3), (90, 110, 120), np.uint8)
    pixels[10:30, 10 + 5 * frame : 34 + 5 * frame] = (200, 60, 50)
    pixels[34:44, 50 - 3 * frame : 66 - 3 * frame] = (30, 160, 90)
    return pixels


def masks() -> list[Mask]:
    first, second = np.zeros((2, HEIGHT_PX, WIDTH_PX), bool)
    first[10:30, 10:34] = True
    second[34:44, 50:66] = True
    return [Mask.from_dense(first), Mask.from_dense(second)]


def reference(folder: Path, frames: list[NDArray[np.uint8]]) -> list[NDArray[np.bool_]]:
    """The same through transformers' own processor, session and iterator."""
    model: Any = transformers.Sam2VideoModel.from_pretrained(folder)
    model.eval()
    images = transformers.Sam2ImageProcessor(size=SIZE)
    videos = transformers.Sam2VideoVideoProcessor(size=SIZE)
    processor: Any = transformers.Sam2VideoProcessor(images, videos, target_size=64)
    video = torch.cat(
        [images(images=one, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
         for one in frames]
    )  # fmt: skip
    session = processor.init_video_session()
    session.processed_frames = dict(enumerate(video))
    session.video_height, session.video_width = HEIGHT_PX, WIDTH_PX
    processor.add_inputs_to_inference_session(
        session, frame_idx=0, obj_ids=[1, 2], input_masks=[one.to_dense() for one in masks()]
    )
    found = []
    with torch.inference_mode():
        for output in model.propagate_in_video_iterator(session, start_frame_idx=0):
            sizes = [[HEIGHT_PX, WIDTH_PX]]
            (dense,) = processor.post_process_masks([output.pred_masks], original_sizes=sizes)
            found.append(dense[:, 0].numpy().astype(bool))
    return found[1:]


def test_masks_are_those_of_transformers_on_the_whole_video(
    folder: Path, memory: Sam2Memory
) -> None:
    frames = [photo(frame) for frame in range(9)]  # more than the seven that memory holds
    found = list(memory.follow(iter(frames), masks()))
    expected = reference(folder, frames)
    assert len(found) == len(expected) == 8
    for mine, theirs in zip(found, expected, strict=True):
        for mask, dense in zip(mine, theirs, strict=True):
            assert np.array_equal(mask.to_dense(), dense)
    assert any(not mask.is_empty for mine in found for mask in mine)


def test_without_masks_there_is_nothing_to_follow(memory: Sam2Memory) -> None:
    assert list(memory.follow([photo(0), photo(1), photo(2)], [])) == [(), ()]
    assert list(memory.follow([photo(0)], masks())) == []


def test_a_folder_without_the_memory_s_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    assert has_memory(folder) and not has_memory(tmp_path)
    from safetensors.torch import load_file, save_file

    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    kept = {name: one for name, one in weights.items() if not name.startswith("memory_")}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(EngineError, match="tensors of a sam2_video model"):
        load_memory(tmp_path)
