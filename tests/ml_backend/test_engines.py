from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from ml_backend.engines import Embedding, Engine, EngineError, Prompt
from ml_backend.engines.blocked_encoder import BlockedEncoder, bfloat16_pays
from ml_backend.engines.classical import ClassicalEngine
from ml_backend.engines.registry import load_engine
from ml_backend.engines.segment_anything import SegmentAnythingEngine, load_checkpoint
from ml_backend.engines.tiny_sam import TinySamConfig, build_tiny_sam, save_tiny_sam


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A textured red disc on a textured grey ground, and its mask."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:150, :200]
    mask = np.hypot(rows - 70, columns - 110) < 40
    image = np.where(mask[..., None], [200, 60, 50], [110, 115, 120])
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8), mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(((110.0, 70.0),), (True,)),
        Prompt(box_px=(65, 25, 155, 115)),
        Prompt(((110.0, 70.0), (20.0, 20.0)), (True, False), (65, 25, 155, 115)),
    ],
    ids=["click", "box", "both"],
)
def test_the_classical_engine_finds_a_disc(prompt):
    image, mask = scene()
    engine = ClassicalEngine()
    proposal = engine.predict(engine.encode(image), prompt)
    assert proposal.mask.shape == mask.shape
    assert iou(proposal.mask, mask) > 0.9
    assert 0 < proposal.score <= 1


def test_the_classical_engine_answers_the_same_twice():
    image, _ = scene()
    engine = ClassicalEngine()
    embedding = engine.encode(image)
    prompt = Prompt(((110.0, 70.0),), (True,))
    assert (engine.predict(embedding, prompt).mask == engine.predict(embedding, prompt).mask).all()


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(((0.0, 0.0),), (True,)),
        Prompt(box_px=(0, 0, 49, 29)),
        Prompt(box_px=(10, 10, 11, 11)),
        Prompt(((5.0, 5.0), (5.0, 5.0)), (True, False)),
    ],
)
def test_the_classical_engine_survives_a_plain_image(prompt):
    engine = ClassicalEngine()
    proposal = engine.predict(engine.encode(np.full((30, 50, 3), 80, np.uint8)), prompt)
    assert proposal.mask.shape == (30, 50)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (900, 30)])
@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(((-50.0, 9000.0),), (True,)),
        Prompt(((0.0, 0.0),), (False,)),
        Prompt(box_px=(-30, -30, 9000, 9000)),
        Prompt(box_px=(5000, 5000, 6000, 6000)),
        Prompt(box_px=(9, 9, 2, 2)),
    ],
    ids=["click outside", "only a negative", "box around all", "box outside", "box turned"],
)
def test_the_classical_engine_answers_prompts_at_and_beyond_the_border(size, prompt):
    engine = ClassicalEngine()
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    proposal = engine.predict(engine.encode(image), prompt)
    assert proposal.mask.shape == size
    assert 0 <= proposal.score <= 1


def test_a_box_around_half_of_a_large_image_is_answered_on_a_reduced_window():
    image = np.full((900, 1200, 3), 100, np.uint8)
    wanted = np.zeros((900, 1200), bool)
    wanted[200:700, 300:900] = True
    image[wanted] = (220, 40, 40)
    engine = ClassicalEngine()
    found = engine.predict(engine.encode(image), Prompt(box_px=(60, 60, 1140, 840))).mask
    assert iou(found, wanted) > 0.98


def test_a_negative_click_takes_a_second_object_away():
    image = np.full((100, 200, 3), 100, np.uint8)
    image[30:70, 20:80] = image[30:70, 110:170] = (220, 40, 40)
    engine = ClassicalEngine()
    embedding = engine.encode(image)
    both = engine.predict(embedding, Prompt(box_px=(10, 20, 180, 80))).mask
    one = engine.predict(
        embedding, Prompt(((50.0, 50.0), (140.0, 50.0)), (True, False), (10, 20, 180, 80))
    ).mask
    assert both[50, 50]
    assert both[50, 140]
    assert one[50, 50]
    assert not one[50, 140]


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return build_tiny_sam(TinySamConfig(encoder_depth=2, global_blocks=(1,)))


@pytest.fixture(scope="module")
def engine(sam: Sam) -> SegmentAnythingEngine:
    return SegmentAnythingEngine(sam, name="random", version="random 1", digest="0")


def test_an_engine_fits_the_protocol(engine):
    assert isinstance(engine, Engine)
    assert isinstance(ClassicalEngine(), Engine)


@pytest.mark.parametrize(
    ("prompt", "ambiguous"),
    [
        (Prompt(((110.0, 70.0),), (True,)), True),
        (Prompt(((110.0, 70.0), (20.0, 30.0)), (True, False)), False),
        (Prompt(box_px=(65, 25, 155, 115)), False),
        (Prompt(((110.0, 70.0),), (True,), (65, 25, 155, 115)), False),
    ],
    ids=["one click", "two clicks", "box", "box and click"],
)
def test_masks_are_those_of_the_reference_predictor(sam, engine, prompt, ambiguous):
    image, _ = scene()
    reference = SamPredictor(sam)
    reference.set_image(image)
    masks, scores, low_res = reference.predict(
        point_coords=np.array(prompt.points_px) if prompt.points_px else None,
        point_labels=np.array(prompt.positive, int) if prompt.points_px else None,
        box=np.array(prompt.box_px) if prompt.box_px else None,
        multimask_output=ambiguous,
    )
    best = int(scores.argmax())
    found = engine.predict(engine.encode(image), prompt)
    # the embedding is kept in half precision
    assert found.score == pytest.approx(float(scores[best]), abs=0.02)
    assert (found.mask == masks[best]).mean() > 0.99
    assert found.low_res is not None
    assert found.low_res.shape == (1, *low_res.shape[1:])


def test_an_earlier_mask_changes_the_answer(engine):
    image, _ = scene()
    embedding = engine.encode(image)
    prompt = Prompt(((110.0, 70.0), (90.0, 60.0)), (True, True))
    plain = engine.predict(embedding, prompt)
    assert plain.low_res is not None
    refined = engine.predict(embedding, prompt.with_mask(plain.low_res * -3))
    assert not np.allclose(plain.low_res, refined.low_res)


def test_an_embedding_from_disk_answers_like_a_fresh_one(engine):
    image, _ = scene()
    embedding = engine.encode(image)
    features = embedding.arrays["features"].copy()
    features.flags.writeable = False  # as read from a file
    stored = Embedding({"features": features}, 150, 200)
    prompt = Prompt(((110.0, 70.0),), (True,))
    a, b = engine.predict(embedding, prompt), engine.predict(stored, prompt)
    assert (a.mask == b.mask).all()
    assert a.score == b.score


def test_a_weights_file_is_served_by_its_path(sam, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_tiny_sam(build_tiny_sam(), path)
    found = load_engine(str(path), "cpu")
    assert found.model_version == "segstudio sam mine 0.1"
    assert found.cache_key != load_engine("classical").cache_key


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("vit_x", "There is no model 'vit_x'"),
        ("/nowhere/sam.pth", "There is no model '/nowhere/sam.pth'"),
    ],
)
def test_an_unknown_model_is_a_sentence(model, sentence):
    with pytest.raises(EngineError, match=sentence):
        load_engine(model)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"image_encoder.pos_embed": Path}, path)
    with pytest.raises(EngineError, match="cannot be read as a checkpoint"):
        load_checkpoint(path)


def test_fine_tuned_checkpoints_open_however_they_were_saved(tmp_path):
    tensors = build_tiny_sam().state_dict()
    half = {f"module.{name}": tensor.half() for name, tensor in tensors.items()}
    for number, content in enumerate([tensors, {"model": tensors}, {"state_dict": half}]):
        path = tmp_path / f"{number}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=number != 1)
        found, kind, digest = load_checkpoint(path)
        assert kind == "tiny"
        assert len(digest) == 64
        assert all(tensor.dtype == torch.float32 for tensor in found.state_dict().values())


def broken_checkpoint(path: Path, kind: str) -> None:
    if kind == "empty":
        path.write_bytes(b"")
        return
    if kind == "text":
        path.write_text("<html>Not found</html>")
        return
    tensors = dict(build_tiny_sam().state_dict())
    if kind == "lacks a tensor":
        del tensors["mask_decoder.iou_token.weight"]
    elif kind == "another shape":
        tensors["mask_decoder.iou_token.weight"] = torch.zeros(1, 5)
    elif kind == "sam 2":
        tensors = {"sam_mask_decoder.iou_token.weight": torch.zeros(1, 5)}
    torch.save(tensors, path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("empty", "cannot be read as a checkpoint: it is empty"),
        ("text", "cannot be read as a checkpoint"),
        ("truncated", "cannot be read as a checkpoint"),
        ("lacks a tensor", "1 tensors are missing .e.g. mask_decoder.iou_token.weight"),
        ("another shape", "1 tensors are of another shape .e.g. mask_decoder.iou_token.weight"),
        ("sam 2", "SAM 2 checkpoint in its original layout; serve its version for transformers"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_wrong_file_is_one_sentence(tmp_path, kind, sentence, suffix):
    if suffix == ".safetensors" and kind not in {"empty", "text"}:
        suffix = ".pt"
    path = tmp_path / f"mine{suffix}"
    broken_checkpoint(path, kind)
    with pytest.raises(EngineError, match=sentence) as caught:
        load_engine(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        TinySamConfig(encoder_depth=2, global_blocks=(1,)),
        TinySamConfig(image_size_px=80, encoder_depth=3, window_size_tokens=7, global_blocks=(1,)),
        TinySamConfig(image_size_px=64, encoder_depth=1, window_size_tokens=14, global_blocks=()),
    ],
    ids=["whole windows", "padded windows", "one window larger than the image"],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_blocked_encoder_computes_what_the_reference_does(config, threads, torch_threads):
    torch_threads(threads)
    encoder = random_encoder(config)
    pixels = torch.randn(1, 3, config.image_size_px, config.image_size_px)
    with torch.inference_mode():
        wanted = encoder(pixels)
    torch.testing.assert_close(BlockedEncoder(encoder)(pixels), wanted, rtol=1e-4, atol=1e-5)
    assert torch.get_num_threads() == threads


def test_two_encodings_at_once_leave_torch_its_threads(torch_threads):
    torch_threads(3)
    encoder = random_encoder(TinySamConfig(encoder_depth=2, global_blocks=(1,)))
    side = encoder.img_size
    first, second = torch.randn(2, 1, 3, side, side)
    with torch.inference_mode():
        wanted = [encoder(pixels) for pixels in (first, second)]
    # The first waits in its work until the second, which began later, is half through its own.
    second_works, first_is_done = threading.Event(), threading.Event()
    blocked = BlockedEncoder(encoder)
    found: dict[str, torch.Tensor] = {}

    class Waiting(BlockedEncoder):
        def __init__(self, before: Callable[[], object]) -> None:
            super().__init__(encoder)
            self.before = before

        def _add_global_attention(self, *work: Any) -> None:
            self.before()
            super()._add_global_attention(*work)

    def start_second_and_wait() -> None:
        other.start()
        assert second_works.wait(60)

    def wait_for_first() -> None:
        second_works.set()
        assert first_is_done.wait(60)

    def encode_second() -> None:
        found["second"] = Waiting(wait_for_first)(second)

    other = threading.Thread(target=encode_second)
    found["first"] = Waiting(start_second_and_wait)(first)
    first_is_done.set()
    other.join(60)
    threads: list[int] = []
    later = threading.Thread(target=lambda: threads.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert (torch.get_num_threads(), threads) == (3, [3])
    assert torch.equal(found["first"], blocked(first))
    for name, reference in zip(("first", "second"), wanted, strict=True):
        torch.testing.assert_close(found[name], reference, rtol=1e-4, atol=1e-5)


def test_an_encoding_that_fails_leaves_torch_its_threads(torch_threads, monkeypatch):
    torch_threads(3)
    encoder = random_encoder(TinySamConfig(encoder_depth=2, global_blocks=(1,)))
    blocked = BlockedEncoder(encoder)

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(blocked, "_add_mlp", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        blocked(torch.randn(1, 3, encoder.img_size, encoder.img_size))
    assert torch.get_num_threads() == 3


@pytest.fixture
def torch_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_bfloat16_rounds_the_linear_layers_only():
    config = TinySamConfig(image_size_px=64, encoder_depth=2, global_blocks=(1,))
    encoder = random_encoder(config)
    pixels = torch.randn(1, 3, 64, 64)
    exact = BlockedEncoder(encoder)(pixels)
    rounded = BlockedEncoder(encoder, linear_dtype=torch.bfloat16)(pixels)
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - exact).abs().max()) < 0.1


def random_encoder(config: TinySamConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    encoder = build_tiny_sam(config).image_encoder
    for name, parameter in encoder.named_parameters():
        if "pos" in name:  # SAM starts them at zero, which would hide a wrong bias
            torch.nn.init.normal_(parameter, std=0.3)
    return encoder


@pytest.mark.parametrize(
    ("float32_s", "bfloat16_s", "pays"), [(2.0, 1.0, True), (1.0, 1.0, False), (1.0, 9.0, False)]
)
def test_bfloat16_pays_where_it_was_measured_to(float32_s, bfloat16_s, pays):
    ticks = iter([t for _ in range(9) for t in (0.0, float32_s, 0.0, bfloat16_s)])
    assert bfloat16_pays(lambda: next(ticks)) is pays


def test_ways_whose_numbers_differ_have_different_cache_keys(sam):
    keys = {
        SegmentAnythingEngine(sam, name="n", version="v", digest="0", bfloat16=bfloat16).cache_key
        for bfloat16 in (False, True)
    }
    assert keys == {"sam:0:longest-side-1:fp32-blocked", "sam:0:longest-side-1:bf16-blocked"}


@pytest.mark.parametrize("content", [{"weights": torch.zeros(2)}, [1, 2]])
def test_a_file_that_is_no_sam_is_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(EngineError, match="no Segment Anything checkpoint"):
        load_checkpoint(path)


def test_a_prompt_without_anything_is_refused():
    with pytest.raises(ValueError, match="at least one point or a box"):
        Prompt()
    with pytest.raises(ValueError, match="1 points but 2 flags"):
        Prompt(((0.0, 0.0),), (True, False))
