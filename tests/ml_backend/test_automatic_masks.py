"""Against `segment_anything`'s own generator, and each filter by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator
from skimage import data

from ml_backend.automatic_masks import (
    AutomaticSettings,
    Crop,
    crops_of,
    generate_masks,
    point_grid,
    without_small_parts,
)
from ml_backend.engines.point_batches import PointBatch, PointBatchEngine
from ml_backend.engines.segment_anything import SegmentAnythingEngine
from ml_backend.engines.tiny_sam import load_tiny_sam
from segstudio.masks import Mask, iou


@pytest.fixture
def one_thread():
    """Small models are slower, not faster, on threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


ANY = AutomaticSettings(points_per_side=1, min_predicted_iou=0.5, min_stability=0.5)


def boxes_at(logits: dict[tuple[int, int, int, int], tuple[float, float]]):
    """An answer of one point: one mask a box (y0, y1, x0, x1) with (predicted IoU, logit)."""
    low_res = np.full((1, len(logits), 40, 60), -9, np.float32)
    scores = np.zeros((1, len(logits)), np.float32)
    for j, ((y0, y1, x0, x1), (score, value)) in enumerate(logits.items()):
        low_res[0, j, y0:y1, x0:x1] = value
        scores[0, j] = score
    batch = PointBatch(low_res, scores, (40, 60), (40, 60))
    return lambda crop, points: [(points, batch)]


def found(settings: AutomaticSettings, logits) -> list[tuple[int, int, int, int]]:
    return [one.mask.bbox for one in generate_masks(40, 60, settings, boxes_at(logits)).masks]


@pytest.mark.parametrize(
    ("ours", "theirs", "threshold"),
    [
        ({"points_per_side": 4}, {"points_per_side": 4}, 0.55),
        (
            {"points_per_side": 2, "crop_layers": 1, "clean_px": 60},
            {"points_per_side": 2, "crop_n_layers": 1, "min_mask_region_area": 60},
            0.3,  # the reference fails where a crop has no mask at all
        ),
    ],
    ids=["whole image", "crops and cleaning"],
)
def test_the_masks_are_those_of_the_reference(ours, theirs, threshold, one_thread):
    image = np.repeat(data.coins()[30:180, 100:300, None], 3, axis=2)
    sam = load_tiny_sam()
    reference = SamAutomaticMaskGenerator(
        sam, pred_iou_thresh=threshold, stability_score_thresh=threshold, **theirs
    ).generate(image)
    engine = SegmentAnythingEngine(sam, name="tiny", version="t", digest="0")
    assert isinstance(engine, PointBatchEngine)

    def decode(crop, points):
        embedding = engine.encode(image[crop.y0 : crop.y1, crop.x0 : crop.x1])
        for start in range(0, len(points), 5):
            piece = points[start : start + 5]
            yield piece, engine.predict_points(embedding, piece)

    settings = AutomaticSettings(min_predicted_iou=threshold, min_stability=threshold, **ours)
    masks = generate_masks(*image.shape[:2], settings, decode).masks
    assert len(masks) == len(reference) > 3
    for expected in reference:
        mask = Mask.from_dense(expected["segmentation"])
        nearest = max(masks, key=lambda one: iou(one.mask, mask) or 0)
        assert (iou(nearest.mask, mask) or 0) > 0.97  # the embedding is kept in half precision
        assert nearest.predicted_iou == pytest.approx(expected["predicted_iou"], abs=0.02)
        assert nearest.stability == pytest.approx(expected["stability_score"], abs=0.02)
        assert nearest.point_px == pytest.approx(expected["point_coords"][0])


def test_of_two_masks_with_nearly_one_box_the_surer_stays():
    assert found(ANY, {(5, 25, 5, 25): (0.6, 5), (5, 25, 5, 26): (0.9, 5)}) == [(5, 5, 21, 20)]


def test_masks_come_best_first_and_no_more_than_wanted():
    logits = {(0, 9, 0, 9): (0.6, 5), (20, 30, 0, 9): (0.9, 5), (20, 30, 30, 50): (0.7, 5)}
    assert found(ANY, logits) == [(0, 20, 9, 10), (30, 20, 20, 10), (0, 0, 9, 9)]
    two = AutomaticSettings(points_per_side=1, min_predicted_iou=0.5, max_masks=2)
    answer = generate_masks(40, 60, two, boxes_at(logits))
    assert (len(answer.masks), answer.found) == (2, 3)


def test_a_mask_that_grows_and_shrinks_with_the_threshold_is_not_stable():
    soft = {(5, 25, 5, 25): (0.9, 0.5)}
    assert found(ANY, soft) == []
    assert found(AutomaticSettings(1, 0.5, 0.0), soft) == [(5, 5, 20, 20)]


def test_a_stability_threshold_of_one_leaves_sharp_outlines_only():
    sharp = {(5, 25, 5, 25): (0.9, 99.0)}
    assert found(AutomaticSettings(1, 0.5, 0.99, stability_offset=0.1), sharp) == [(5, 5, 20, 20)]


@pytest.mark.parametrize(
    ("settings", "boxes"),
    [
        ({"min_area_px": 200}, [(5, 5, 20, 20)]),
        ({"max_area_percent": 10}, [(40, 5, 4, 4)]),
        ({}, [(5, 5, 20, 20), (40, 5, 4, 4)]),
    ],
)
def test_masks_of_the_wrong_size_are_dropped(settings, boxes):
    logits = {(5, 25, 5, 25): (0.9, 5), (5, 9, 40, 44): (0.8, 5)}
    assert found(AutomaticSettings(1, 0.5, 0.5, **settings), logits) == boxes


def test_nothing_sure_enough_gives_no_masks_but_tells_how_sure():
    answer = generate_masks(40, 60, ANY, boxes_at({(5, 25, 5, 25): (0.4, 5)}))
    assert answer.masks == ()
    assert answer.point_ious.tolist() == pytest.approx([0.4])


def test_holes_are_filled_and_specks_removed():
    dense = np.zeros((40, 60), bool)
    dense[5:30, 5:30] = True
    dense[10:12, 10:12] = False
    dense[35:37, 50:52] = True
    clean = without_small_parts(Mask.from_dense(dense), 5).to_dense()
    assert clean[5:30, 5:30].all()
    assert clean.sum() == 625


def test_a_mask_of_nothing_but_specks_keeps_the_largest():
    dense = np.zeros((40, 60), bool)
    dense[5:7, 5:7] = dense[20:23, 20:23] = True
    assert without_small_parts(Mask.from_dense(dense), 100).bbox == (20, 20, 3, 3)


def test_what_a_crop_cuts_off_is_left_to_the_other_crops():
    settings = AutomaticSettings(1, 0.5, 0.5, crop_layers=1)
    low_res = np.full((1, 1, 50, 50), -9, np.float32)
    low_res[0, 0, :, 20:30] = 5  # from edge to edge of whatever it is asked about

    def decode(crop, points):
        shown = low_res if crop.layer else np.full_like(low_res, -9)
        yield points, PointBatch(shown, np.full((1, 1), 0.9, np.float32), (50, 50), (50, 50))

    assert generate_masks(400, 400, settings, decode).masks == ()


@pytest.mark.parametrize("size", [(480, 640), (333, 77), (1080, 1920)])
def test_grid_and_crops_are_the_references(size):
    from segment_anything.utils.amg import build_point_grid, generate_crop_boxes

    assert np.allclose(point_grid(7), build_point_grid(7), atol=1e-12)
    boxes, layers = generate_crop_boxes(size, 2, 512 / 1500)
    expected = [Crop(*box, layer) for box, layer in zip(boxes, layers, strict=True)]
    assert crops_of(*size, 2) == expected
