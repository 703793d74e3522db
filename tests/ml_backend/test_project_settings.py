from __future__ import annotations

import pytest

from ml_backend.project_settings import BatchMode, ExtraParamsError, read_project_settings


@pytest.mark.parametrize("nothing", [None, {}, "", "{}", '"{}"'])
def test_without_parameters_boxes_become_instances(nothing):
    settings = read_project_settings(nothing)
    assert (settings.mode, settings.answer, settings.label) == (
        BatchMode.BOX_TO_INSTANCE, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {"mode": "automatic", "label": "Car", "min_stability": 0.97, "points_per_side": 12},
        '{"mode": "automatic", "label": "Car", "min_stability": 0.97, "points_per_side": 12}',
    ],
    ids=["object", "text"],
)
def test_parameters_are_read_as_label_studio_keeps_them(given):
    settings = read_project_settings(given)
    assert (settings.mode, settings.label) == (BatchMode.AUTOMATIC, "Car")
    assert (settings.automatic.min_stability, settings.automatic.points_per_side) == (0.97, 12)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"mode": "magic"}, "'mode' is one of box-to-instance, automatic, off, not 'magic'"),
        ({"answer": "circle"}, "'answer' is one of brush, bitmask, polygon, rectangle"),
        ({"min_stabilty": 0.9}, "no 'min_stabilty'. Did you mean 'min_stability'?"),
        ({"min_stability": 1.5}, "'min_stability' is a number from 0 to 1, not 1.5"),
        ({"min_stability": "0.9"}, "a number from 0 to 1, not '0.9'"),
        ({"points_per_side": 0}, "a whole number from 1 to 128, not 0"),
        ({"points_per_side": 1.5}, "a whole number from 1 to 128, not 1.5"),
        ({"points_per_side": True}, "a whole number from 1 to 128, not True"),
        ({"max_area_percent": float("nan")}, "a number from 0 to 100, not nan"),
        ({"label": ""}, "'label' is a label's name, not ''"),
        ("{", "are no JSON"),
        ([1], "are a JSON list, not an object"),
        ("5", "are a JSON int, not an object"),
    ],
)
def test_what_means_nothing_is_a_sentence(given, sentence):
    with pytest.raises(ExtraParamsError) as caught:
        read_project_settings(given)
    assert sentence in str(caught.value)


def test_the_small_model_has_thresholds_of_its_own():
    small = read_project_settings({}, "tiny").automatic
    large = read_project_settings({}, "vit_b").automatic
    assert (small.min_predicted_iou, small.min_stability) < (
        large.min_predicted_iou, large.min_stability,
    ) == (0.88, 0.95)  # fmt: skip
    assert read_project_settings({"min_stability": 0.95}, "tiny").automatic.min_stability == 0.95


def test_automatic_masks_have_a_model_version_of_their_own_that_tells_settings_apart():
    versions = [
        read_project_settings(given).model_version("sam 1")
        for given in (
            {},
            {"mode": "off"},
            {"mode": "automatic"},
            {"mode": "automatic", "min_stability": 0.9},
            {"mode": "automatic", "min_stability": 0.8},
        )
    ]
    assert versions[:3] == ["sam 1", "sam 1", "sam 1 automatic"]
    assert len(set(versions)) == 4
    assert all(version.startswith("sam 1 automatic ") for version in versions[3:])
