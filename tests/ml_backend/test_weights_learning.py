"""Training sees exactly what the predictor will: same arithmetic, same prompts, sane losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("segment_anything")

import torch

from ml_backend.engines.tiny_sam import build_tiny_sam
from ml_backend.weights.evaluate import innermost_point
from ml_backend.weights.learning import (
    augment,
    batch_of,
    corrective_clicks,
    decode,
    encode,
    fit,
    losses,
    mask_iou,
)
from ml_backend.weights.muon import Muon, split_parameters
from ml_backend.weights.scenes import Scene, make_scene
from ml_backend.weights.train import main


def square_scene() -> Scene:
    labels = np.zeros((100, 200), np.int32)
    labels[20:60, 40:120] = 1
    image = np.where(labels[..., None] > 0, 220, 40).astype(np.uint8).repeat(3, axis=2)
    return Scene("scatter", image, labels)


def test_fit_resizes_the_longest_side_and_pads_the_rest() -> None:
    example = fit(square_scene().image, square_scene().labels, 256)
    assert example.inside == (128, 256)
    assert not example.pixels[128:].any()
    assert not example.labels[128:].any()
    assert int((example.labels == 1).sum()) == pytest.approx(40 * 80 * 1.28**2, rel=0.03)


def test_batched_decoding_equals_sams_own_for_clicks_boxes_and_mask_prompts() -> None:
    torch.manual_seed(0)
    sam = build_tiny_sam()
    rng = np.random.default_rng(0)
    batch = batch_of(rng, [augment(rng, make_scene(2), 256)], 4, sam, click_share=0.5)
    mask_input = torch.randn(4, 1, 128, 128)
    assert batch.clicked.any()
    assert not batch.clicked.all()
    with torch.no_grad():
        embeddings = encode(sam, batch.images)
        assert torch.equal(embeddings, sam.image_encoder(batch.images))
        for prompt in (None, mask_input):
            logits, scores = decode(sam, embeddings, batch.points, batch.point_labels, prompt)
            for i in range(4):
                click = (batch.points[i : i + 1, :1], batch.point_labels[i : i + 1, :1])
                box = batch.points[i : i + 1].reshape(1, 4)
                sparse, dense = sam.prompt_encoder(
                    click if batch.clicked[i] else None,
                    None if batch.clicked[i] else box,
                    None if prompt is None else prompt[i : i + 1],
                )
                position = sam.prompt_encoder.get_dense_pe()
                masks, quality = sam.mask_decoder(embeddings, position, sparse, dense, True)
                assert torch.allclose(masks[0], logits[i, 1:], atol=1e-5)
                assert torch.allclose(quality[0], scores[i, 1:], atol=1e-5)


def test_a_part_of_the_canvas_keeps_its_place() -> None:
    torch.manual_seed(0)
    sam = build_tiny_sam()
    torch.nn.init.normal_(sam.image_encoder.pos_embed)
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        here, there = encode(sam, image, (0, 0)), encode(sam, image, (8, 4))
        assert here.shape == (1, 128, 16, 16)
        assert not torch.allclose(here, there)
        points, kinds = torch.tensor([[[10.0, 20.0], [0.0, 0.0]]]), torch.tensor([[1, -1]])
        logits, _ = decode(sam, here, points, kinds, None, (8, 4))
    assert logits.shape == (1, 4, 64, 64)


def test_corrective_clicks_go_where_the_larger_error_is() -> None:
    truth = torch.zeros(2, 32, 32)
    truth[:, 4:20, 4:20] = 1
    guess = torch.full((2, 32, 32), -5.0)
    guess[1, 4:20, 4:32] = 5.0  # Spilt over to the right.
    points, labels = corrective_clicks(np.random.default_rng(0), guess, truth, 64)
    assert labels.tolist() == [[1], [0]]
    assert 8 <= points[0, 0, 0] < 40
    assert points[1, 0, 0] >= 39


def test_a_perfect_mask_costs_nearly_nothing_and_iou_counts_pixels() -> None:
    truth = torch.zeros(1, 32, 32)
    truth[:, :16] = 1
    perfect = ((truth * 2 - 1) * 30)[:, None].expand(-1, 4, -1, -1)
    alone = torch.tensor([True])
    good, _, iou = losses(perfect, torch.ones(1, 4), truth, alone, 0.5)
    bad, _, _ = losses(-perfect, torch.ones(1, 4), truth, alone, 0.5)
    assert float(good) < 0.01 < 5 < float(bad)
    assert iou.tolist() == [1.0]
    half = truth.clone()
    half[:, 8:16] = -1
    assert mask_iou(half, truth).tolist() == [0.5]


def test_muon_takes_linear_weights_and_lowers_a_quadratic() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 24), torch.nn.LayerNorm(24))
    matrices, rest = split_parameters(model)
    assert [tuple(parameter.shape) for parameter in matrices] == [(24, 32)]
    assert len(rest) == 3
    target = torch.randn(24, 32)
    optimizer = Muon(matrices, lr=0.05, weight_decay=0.0)
    values = []
    for _ in range(60):
        loss = (matrices[0] - target).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.3 * values[0]


def test_a_start_from_a_file_that_is_not_there_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    absent = tmp_path / "absent.safetensors"
    arguments = ["train", "--out", str(tmp_path / "out.safetensors"), "--start", str(absent)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit):
        main()
    assert f"There is no weights file {absent} to start from." in capsys.readouterr().err


@pytest.mark.parametrize("favourite", [1, 3])
def test_a_lone_click_trains_the_mask_that_the_scores_choose(favourite: int) -> None:
    targets = torch.zeros(1, 8, 8)
    targets[:, 2:6, 2:6] = 1
    logits = torch.zeros(1, 4, 8, 8, requires_grad=True)
    scores = torch.zeros(1, 4)
    scores[0, favourite] = 1.0
    loss, _, _ = losses(logits, scores, targets, torch.tensor([True]), 0.0)
    loss.backward()
    assert logits.grad is not None
    strength = logits.grad.abs().sum(dim=(-2, -1))[0]
    # Masks 1 and 3 are alike but for their scores; 2 is neither first nor favourite.
    assert strength[favourite] > 5 * strength[2] > 0


def test_the_evaluation_clicks_where_the_object_is_thickest() -> None:
    mask = np.zeros((9, 12), bool)
    mask[1:6, 1:6] = True
    mask[3, 6:11] = True
    assert innermost_point(mask) == (3.0, 3.0)
