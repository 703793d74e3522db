from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from demo.annotators import DEVIATIONS
from demo.photos import PHOTOS, load_photo, save_photos
from demo.references import REFERENCES
from label_configs import load_label_config
from segstudio.label_config import parse_label_config

BY_NAME = {photo.name: photo for photo in PHOTOS}


def test_at_least_eight_photos_are_written_once(tmp_path: Path) -> None:
    paths = save_photos(tmp_path)
    assert len(paths) >= 8
    assert all(path.stat().st_size > 1000 for path in paths.values())
    before = {path: path.stat().st_mtime_ns for path in paths.values()}
    save_photos(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in paths.values()} == before


def test_a_grey_photo_is_read_as_rgb() -> None:
    coins = load_photo(BY_NAME["coins"])
    assert (coins.shape, coins.dtype) == ((303, 384, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coins", {"Coin": 24}),
        ("coffee", {"Cup": 1}),
        ("camera", {"Person": 1}),
        ("rocket", {"Rocket": 1, "Sky": 1}),
    ],
)
def test_the_reference_finds_the_objects_of_the_photo(name: str, expected: dict[str, int]) -> None:
    objects = REFERENCES[name].segment(load_photo(BY_NAME[name]))
    labels = [each.label for each in objects]
    assert {label: labels.count(label) for label in labels} == expected
    assert all(each.mask.any() for each in objects)


def test_the_coins_cover_what_a_plain_threshold_calls_bright() -> None:
    photo = load_photo(BY_NAME["coins"])
    coins = np.logical_or.reduce([each.mask for each in REFERENCES["coins"].segment(photo)])
    bright = photo[:, :, 0] > 150
    assert coins[bright].mean() > 0.99
    assert coins[photo[:, :, 0] < 30].mean() < 0.01


def test_every_simulated_photo_has_three_annotators_and_known_labels() -> None:
    assert set(DEVIATIONS) == set(REFERENCES)
    known = set(parse_label_config(load_label_config("demo")).label_names)
    for name, deviations in DEVIATIONS.items():
        objects = REFERENCES[name].segment(load_photo(BY_NAME[name]))
        for deviation in deviations:
            assert {each.label for each in deviation.apply(objects)} <= known
