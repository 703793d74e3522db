"""The built-in small SAM: it loads, behaves as SAM does, and holds its figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("segment_anything")

import torch
from segment_anything import SamPredictor

from ml_backend.engines.tiny_sam import (
    DEFAULT_WEIGHTS,
    TinySamConfig,
    build_tiny_sam,
    load_tiny_sam,
    save_tiny_sam,
)
from ml_backend.weights.evaluate import coin_reference, evaluate_coins, evaluate_scenes
from ml_backend.weights.scenes import make_scene


@pytest.fixture(scope="module")
def predictor() -> SamPredictor:
    return SamPredictor(load_tiny_sam())


def test_shipped_file_is_at_most_8_mb() -> None:
    assert DEFAULT_WEIGHTS.stat().st_size <= 8_000_000


def test_shipped_weights_load_as_float32_in_evaluation_mode() -> None:
    sam = load_tiny_sam()
    assert {parameter.dtype for parameter in sam.parameters()} == {torch.float32}
    assert not sam.training
    assert sam.image_encoder.img_size == TinySamConfig().image_size_px == 256


def test_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*absent\.safetensors"):
        load_tiny_sam(tmp_path / "absent.safetensors")


def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(b"not tensors at all")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_tiny_sam(path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "narrow.safetensors"
    save_tiny_sam(build_tiny_sam(TinySamConfig(encoder_depth=4)), path)
    with pytest.raises(ValueError, match="does not hold the built-in small SAM"):
        load_tiny_sam(path)


def test_saving_and_loading_keeps_float16_values(tmp_path: Path) -> None:
    sam = load_tiny_sam()
    save_tiny_sam(sam, tmp_path / "copy.safetensors")
    again = load_tiny_sam(tmp_path / "copy.safetensors")
    for name, tensor in sam.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_two_loads_give_the_same_mask_bit_for_bit() -> None:
    image = make_scene(11).image
    logits = []
    for _ in range(2):
        predictor = SamPredictor(load_tiny_sam())
        predictor.set_image(image)
        logits.append(predictor.predict(np.array([[90.0, 90.0]]), np.array([1]))[2])
    assert np.array_equal(logits[0], logits[1])


@pytest.mark.parametrize(("multimask", "count"), [(True, 3), (False, 1)])
def test_a_click_gives_masks_at_the_pictures_size(
    predictor: SamPredictor, multimask: bool, count: int
) -> None:
    image = np.full((120, 200, 3), 60, np.uint8)
    image[30:90, 60:140] = 200
    predictor.set_image(image)
    masks, scores, logits = predictor.predict(
        np.array([[100.0, 60.0]]), np.array([1]), multimask_output=multimask
    )
    assert masks.shape == (count, 120, 200)
    assert scores.shape == (count,)
    assert logits.shape == (count, 128, 128)


def test_a_plain_rectangle_is_found_from_one_click_a_box_and_a_mask_prompt(
    predictor: SamPredictor,
) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(70, 6, (240, 320, 3))
    image[60:180, 90:230] += 110
    predictor.set_image(np.clip(image, 0, 255).astype(np.uint8))
    truth = np.zeros((240, 320), bool)
    truth[60:180, 90:230] = True
    click, label = np.array([[160.0, 120.0]]), np.array([1])
    masks, scores, logits = predictor.predict(click, label)
    best = int(scores.argmax())
    box = predictor.predict(box=np.array([90.0, 60, 230, 180]), multimask_output=False)
    again = predictor.predict(
        click, label, mask_input=logits[best : best + 1], multimask_output=False
    )
    for mask in (masks[best], box[0][0], again[0][0]):
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    # A clear case must also be scored as one.
    assert scores[best] > 0.9


def test_the_coin_reference_is_24_coins() -> None:
    data = pytest.importorskip("skimage.data")
    masks = coin_reference(data.coins())
    assert len(masks) == 24
    assert all(900 <= mask.sum() <= 4500 for mask in masks)


def test_real_coins_never_seen_in_training_hold_the_bars(predictor: SamPredictor) -> None:
    pytest.importorskip("skimage.data")
    figures = evaluate_coins(predictor, grabcut=False)
    assert len(figures.box) == 24
    assert np.median(figures.box) >= 0.85
    assert np.median(figures.one_click) >= 0.70


def test_unseen_scenes_hold_what_the_readme_reports(predictor: SamPredictor) -> None:
    # Floors a little under these ten scenes' 0.749, 0.853 and 0.841; the hundred have 0.804, 0.863
    # and 0.851, which are above the aims of 0.80, 0.83 and 0.83, as the README says.
    figures = evaluate_scenes(predictor, 10, grabcut=False).summary()
    assert figures["one_click_mean"] >= 0.73
    assert figures["three_clicks_mean"] >= 0.84
    assert figures["box_mean"] >= 0.83
