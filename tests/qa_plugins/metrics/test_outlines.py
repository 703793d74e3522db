import cv2
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import measure

from qa_plugins.metrics.outlines import (
    compare_outlines,
    mean_outline_distance_px,
    outline_length_px,
)
from segstudio.masks import Mask


def disc(radius_px: float, x: float = 60, y: float = 50, size: int = 120) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius_px**2


def mask(dense: np.ndarray) -> Mask:
    return Mask.from_dense(dense)


@pytest.mark.parametrize("growth_px", [-4, -1, 0, 1, 3, 6])
def test_growth_of_a_disc_is_recovered(growth_px: int) -> None:
    found = compare_outlines(mask(disc(30 + growth_px)), mask(disc(30)))
    assert found.offset_px == pytest.approx(growth_px, abs=0.15 + 0.05 * abs(growth_px))
    assert found.shift_px == pytest.approx((0, 0), abs=1e-9)


def test_growth_of_a_ragged_shape_is_recovered() -> None:
    rng = np.random.default_rng(3)
    noise = cv2.GaussianBlur(rng.random((200, 200)), (0, 0), 9)
    labels = measure.label(noise > np.quantile(noise, 0.7))
    shape = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    wide = cv2.dilate(shape.astype(np.uint8), kernel).astype(bool)
    assert compare_outlines(mask(wide), mask(shape)).offset_px == pytest.approx(3, abs=0.5)


def test_shift_is_the_way_from_b_to_a() -> None:
    found = compare_outlines(mask(disc(20, x=63, y=48)), mask(disc(20)))
    assert found.shift_px == pytest.approx((3, -2), abs=0.05)
    assert found.offset_px == pytest.approx(0, abs=0.05)


def test_a_ragged_outline_is_longer() -> None:
    ragged = disc(30) ^ (disc(31) & ~disc(29) & (np.indices((120, 120)).sum(0) % 6 < 3))
    found = compare_outlines(mask(ragged), mask(disc(30)))
    assert found.log_length_ratio is not None and np.exp(found.log_length_ratio) > 1.1


def test_the_border_of_the_image_is_no_outline() -> None:
    half = np.zeros((40, 60))
    half[:, :30] = 1
    wider = np.zeros((40, 60))
    wider[:, :32] = 1
    assert outline_length_px(mask(half)) == pytest.approx(40, rel=0.08)
    assert compare_outlines(mask(wider), mask(half)).offset_px == pytest.approx(2, rel=0.08)
    full = mask(np.ones((4, 4)))
    assert outline_length_px(full) == 0 and outline_length_px(Mask.empty(4, 4)) == 0
    assert compare_outlines(full, full).offset_px is None


@settings(deadline=None)
@given(st.integers(1, 2**25 - 1), st.integers(1, 2**25 - 1))
def test_swapping_the_masks_turns_every_sign(first: int, second: int) -> None:
    a, b = (
        mask(np.array([bits >> at & 1 for at in range(25)], bool).reshape(5, 5))
        for bits in (first, second)
    )
    there, back = compare_outlines(a, b), compare_outlines(b, a)
    assert there.shift_px == pytest.approx((-back.shift_px[0], -back.shift_px[1]))
    if there.offset_px is not None and back.offset_px is not None:
        assert there.offset_px == pytest.approx(-back.offset_px)
    if there.log_length_ratio is not None and back.log_length_ratio is not None:
        assert there.log_length_ratio == pytest.approx(-back.log_length_ratio)


@settings(deadline=None)
@given(st.integers(0, 2**36 - 1))
def test_length_is_scikit_images_crofton_perimeter(bits: int) -> None:
    dense = np.zeros((10, 10), bool)
    dense[2:8, 2:8] = np.array([bits >> at & 1 for at in range(36)], bool).reshape(6, 6)
    expected = measure.perimeter_crofton(dense, directions=4)
    assert outline_length_px(mask(dense)) == pytest.approx(expected, abs=1e-9)


def test_masks_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="empty mask"):
        compare_outlines(Mask.empty(4, 4), mask(np.ones((4, 4))))
    with pytest.raises(ValueError, match="different images"):
        compare_outlines(mask(np.ones((4, 5))), mask(np.ones((4, 4))))


def itk_outline_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances from each outline to the other, both ways: contours and Maurer's maps of ITK."""
    contours = [
        SimpleITK.LabelContour(
            SimpleITK.GetImageFromArray(one.astype(np.uint8)), fullyConnected=False
        )
        for one in (a, b)
    ]
    maps = [
        np.abs(
            SimpleITK.GetArrayFromImage(
                SimpleITK.SignedMaurerDistanceMap(one, squaredDistance=False)
            )
        )
        for one in contours
    ]
    here, there = (SimpleITK.GetArrayFromImage(one) > 0 for one in contours)
    return np.concatenate([maps[1][here], maps[0][there]])


@pytest.mark.parametrize("seed", range(8))
def test_the_distance_of_outlines_is_itk_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = cv2.GaussianBlur(rng.normal(size=(60, 90)), (0, 0), 5)
    second = first + 0.4 * cv2.GaussianBlur(rng.normal(size=(60, 90)), (0, 0), 5)
    a, b = first > np.quantile(first, 0.7), second > np.quantile(second, 0.75)
    expected = itk_outline_distances(a, b).mean()
    assert mean_outline_distance_px(mask(a), mask(b)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (disc(20), disc(20), 0.0),
        (np.zeros((120, 120)), disc(20), None),
        (np.ones((120, 120)), disc(20), None),  # all of the image: no outline that somebody drew
    ],
)
def test_the_distance_of_nothing_and_of_the_same(
    a: np.ndarray, b: np.ndarray, expected: float | None
) -> None:
    assert mean_outline_distance_px(mask(a), mask(b)) == expected


def test_a_square_moved_by_two_lies_as_far_away_as_counted_by_hand() -> None:
    a, b = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    a[5:8, 5:8], b[5:8, 7:10] = True, True
    # Of each ring of 8 pixels: 3 on the far side at 2, 2 in the middle columns at 1, 3 shared.
    assert mean_outline_distance_px(mask(a), mask(b)) == pytest.approx((3 * 2 + 2 * 1) / 8)
