"""The transformers engine against the processor and the model called as their manual says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from ml_backend.embeddings import dumps, loads
from ml_backend.engines import Engine, EngineError, Prompt
from ml_backend.engines.registry import load_engine
from ml_backend.engines.transformers import TransformersEngine

DECODER = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}


def image(height_px: int = 75, width_px: int = 100) -> np.ndarray:
    rows, columns = np.mgrid[:height_px, :width_px]
    disc = np.hypot(rows - 35, columns - 60) < 20
    return np.where(disc[..., None], [200, 60, 50], [90, 110, 120]).astype(np.uint8)


def save_sam2(folder: Path) -> None:
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=16, num_attention_heads=1, image_size=[64, 64], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128], num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[4, 4, 4, 4], global_attention_blocks=[3],
        window_positional_embedding_background_size=[7, 7],
    )  # fmt: skip
    config = transformers.Sam2Config(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=[128, 64, 32, 16],
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=32,
        ),
        prompt_encoder_config=transformers.Sam2PromptEncoderConfig(
            hidden_size=32, image_size=64, mask_input_channels=8
        ),
        mask_decoder_config=transformers.Sam2MaskDecoderConfig(**DECODER),
    )  # fmt: skip
    save(folder, transformers.Sam2Model(config))
    size = {"height": 64, "width": 64}
    transformers.Sam2Processor(transformers.Sam2ImageProcessor(size=size)).save_pretrained(folder)


def save_sam(folder: Path) -> None:
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(
            hidden_size=32, output_channels=32, num_hidden_layers=2, num_attention_heads=2,
            image_size=64, patch_size=8, window_size=4, global_attn_indexes=[1], mlp_dim=64,
            num_pos_feats=16,
        ),
        prompt_encoder_config=transformers.SamPromptEncoderConfig(
            hidden_size=32, image_size=64, patch_size=8, mask_input_channels=8
        ),
        mask_decoder_config=transformers.SamMaskDecoderConfig(**DECODER),
    )  # fmt: skip
    save(folder, transformers.SamModel(config))
    images = transformers.SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 32}, mask_pad_size={"height": 32, "width": 32},
    )  # fmt: skip
    transformers.SamProcessor(images).save_pretrained(folder)


def save(folder: Path, model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # the initial weights are so small that every mask is flat
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2, generator=generator)
    model.save_pretrained(folder)


@pytest.fixture(scope="module", params=["sam", "sam2", "sam2_video"])
def folder(request, tmp_path_factory) -> Path:
    """A model folder; SAM 2.1 is published as `sam2_video` with the same image part."""
    path = tmp_path_factory.mktemp("models") / request.param
    (save_sam if request.param == "sam" else save_sam2)(path)
    if request.param == "sam2_video":
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {"model_type": "sam2_video"}))
    return path


@pytest.fixture(scope="module")
def engine(folder) -> TransformersEngine:
    found = load_engine(str(folder), "cpu")
    assert isinstance(found, TransformersEngine)
    return found


@pytest.fixture(scope="module")
def reference(folder) -> tuple[torch.nn.Module, transformers.ProcessorMixin]:
    kind = "Sam" if folder.name == "sam" else "Sam2"
    model = getattr(transformers, f"{kind}Model").from_pretrained(folder).eval()
    return model, getattr(transformers, f"{kind}Processor").from_pretrained(folder)


PROMPTS = {
    "one click": (Prompt(((60.0, 35.0),), (True,)), True),
    "two clicks": (Prompt(((60.0, 35.0), (5.0, 5.0)), (True, False)), False),
    "box": (Prompt(box_px=(38, 14, 82, 56)), False),
    "box and click": (Prompt(((60.0, 35.0),), (True,), (38, 14, 82, 56)), False),
}


@pytest.mark.parametrize(("prompt", "ambiguous"), PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("refined", [False, True], ids=["fresh", "refined"])
def test_masks_are_those_of_the_model_called_directly(
    reference, engine, prompt, ambiguous, refined
):
    model, processor = reference
    given: dict[str, object] = {}
    if prompt.points_px:
        given["input_points"] = [[[list(point) for point in prompt.points_px]]]
        given["input_labels"] = [[[int(flag) for flag in prompt.positive]]]
    if prompt.box_px is not None:
        given["input_boxes"] = [[[float(side) for side in prompt.box_px]]]
    inputs = processor(images=image(), return_tensors="pt", **given)
    sizes = [inputs[name] for name in ("original_sizes", "reshaped_input_sizes") if name in inputs]
    call = {
        name: inputs[name]
        for name in ("pixel_values", "input_points", "input_labels", "input_boxes")
        if name in inputs
    }
    if call.get("input_boxes") is not None:
        call["input_boxes"] = call["input_boxes"].float()
    if call.get("input_points") is not None:
        call["input_points"] = call["input_points"].float()
    if refined:
        side = 4 * model.prompt_encoder.image_embedding_size[0]
        earlier = torch.randn(1, side, side, generator=torch.Generator().manual_seed(1)) * 4
        call["input_masks"] = earlier[None]
        prompt = prompt.with_mask(earlier.numpy())
        ambiguous = False
    with torch.no_grad():
        output = model(**call, multimask_output=ambiguous)
    best = int(output.iou_scores[0, 0].argmax())
    masks = processor.image_processor.post_process_masks(output.pred_masks, *sizes)
    wanted = masks[0][0, best].numpy()
    found = engine.predict(engine.encode(image()), prompt)
    assert 0.02 < wanted.mean() < 0.98
    assert (found.mask == wanted).mean() > 0.995  # the embedding is kept in half precision
    assert found.score == pytest.approx(float(output.iou_scores[0, 0, best]), abs=0.02)
    assert found.low_res is not None
    logits = output.pred_masks[0, 0, best : best + 1].numpy()
    np.testing.assert_allclose(found.low_res, logits, atol=0.02 * np.abs(logits).max())


def test_an_embedding_with_all_its_levels_comes_back_from_the_store(folder, engine):
    embedding = engine.encode(image())
    assert len(embedding.arrays) == (1 if folder.name == "sam" else 3)
    prompt = Prompt(((60.0, 35.0),), (True,))
    again = engine.predict(loads(dumps(embedding)), prompt)
    assert (again.mask == engine.predict(embedding, prompt).mask).all()


def test_it_is_an_engine_named_after_its_folder(folder, engine):
    assert isinstance(engine, Engine)
    assert engine.model_version == f"segstudio {folder.name} {folder.name}"
    assert engine.cache_key.startswith(f"transformers:{folder.name}:")


@pytest.fixture
def broken(tmp_path) -> Path:
    path = tmp_path / "model"
    save_sam(path)
    return path


def test_other_weights_are_another_cache_key(broken):
    before = load_engine(str(broken)).cache_key
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"note": 1}))
    assert load_engine(str(broken)).cache_key != before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda p: (p / "config.json").unlink(), "folder without config.json"),
        (lambda p: (p / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda p: (p / "config.json").write_text("[]"), "holds no JSON object"),
        (lambda p: (p / "config.json").write_text('{"model_type": "bert"}'), "the type 'bert'"),
        (lambda p: (p / "processor_config.json").unlink(), "no preprocessor_config.json"),
        (
            lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin"),
            "can run code; convert",
        ),
        (lambda p: (p / "model.safetensors").write_bytes(b"\0" * 9), "cannot be loaded as a sam"),
        (lambda p: drop_a_tensor(p / "model.safetensors"), "lacks 1 tensors of a sam model"),
    ],
    ids=["no config", "half a config", "a list", "another model", "no processor", "pickle",
         "damaged", "incomplete"],
)  # fmt: skip
def test_a_folder_that_cannot_be_served_is_a_sentence(broken, change, sentence):
    change(broken)
    with pytest.raises(EngineError, match=sentence):
        load_engine(str(broken))


def drop_a_tensor(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    del tensors["mask_decoder.iou_token.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
