"""Surface distances against literal values, SimpleITK, and what must hold for all masks."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qa_plugins.metrics.surface_distance import (
    hausdorff_mm,
    mean_distance_mm,
    surface_dice,
    surface_distances,
    surface_of,
)

ANISOTROPIC = (2.5, 0.7, 1.3)


def ellipsoid(center: tuple[int, ...], radii: tuple[int, ...]) -> Any:
    axes = np.ogrid[:9, :12, :14]
    return sum(((a - c) / r) ** 2 for a, c, r in zip(axes, center, radii, strict=True)) < 1


FIRST = ellipsoid((4, 5, 6), (3, 4, 5))
SECOND = ellipsoid((5, 6, 6), (3, 4, 4))


def distances(first: Any, second: Any, spacing: tuple[float, ...]) -> Any:
    return surface_distances(surface_of(first, spacing), surface_of(second, spacing))


def test_the_figures_of_the_library_surface_distance() -> None:
    """As computed by surface-distance 0.1 (Nikolov et al. 2018) on the same masks."""
    found = distances(FIRST, SECOND, ANISOTROPIC)
    assert found.first_sizes.sum() == pytest.approx(371.37319767896247, rel=1e-12)
    assert found.second_sizes.sum() == pytest.approx(315.9689393529735, rel=1e-12)
    assert hausdorff_mm(found) == pytest.approx(2.596150997149434, rel=1e-12)
    assert hausdorff_mm(found, 100) == pytest.approx(2.817800560721074, rel=1e-12)
    assert surface_dice(found, 1.0) == pytest.approx(0.7073120092427196, rel=1e-12)
    flat = distances(FIRST[4], SECOND[5], (0.7, 1.3))
    assert flat.first_sizes.sum() == pytest.approx(30.058893836140044, rel=1e-12)
    assert hausdorff_mm(flat) == pytest.approx(1.4, rel=1e-12)
    assert surface_dice(flat, 1.0) == pytest.approx(0.7395028126503661, rel=1e-12)


@pytest.mark.parametrize(
    ("spacing", "total"), [((1, 1, 1), 241.34313970553737), ((1, 2, 3.5), 1092.9946322840478)]
)
def test_every_code_has_the_area_of_the_library_s_table(spacing: Any, total: float) -> None:
    """All 2 x 2 x 2 neighbourhoods, one by one; the sum is that of surface-distance's table."""
    found = 0.0
    for corners in product((False, True), repeat=8):
        cube = np.array(corners).reshape(2, 2, 2)
        # Of the elements around the cube's corners, the one in its middle is the cube's own.
        surface = surface_of(cube, spacing)
        middle = np.abs(surface.places_mm - 0.5 * np.array(spacing)).max(axis=1) < 1e-9
        found += surface.sizes[middle].sum() if len(surface.sizes) else 0
    assert found == pytest.approx(total, rel=1e-12)


def test_a_voxel_is_an_octahedron_and_a_pixel_a_diamond() -> None:
    voxel = surface_of(np.ones((1, 1, 1), bool), (1, 1, 1))
    assert len(voxel.sizes) == 8
    assert voxel.sizes.sum() == pytest.approx(np.sqrt(3))
    pixel = surface_of(np.ones((1, 1), bool), (3, 4))
    assert pixel.sizes.tolist() == [2.5] * 4
    assert sorted(map(tuple, pixel.places_mm)) == [(-1.5, -2), (-1.5, 2), (1.5, -2), (1.5, 2)]


def test_planes_apart_are_as_far_as_they_are() -> None:
    slab, thicker = np.zeros((20, 8, 8), bool), np.zeros((20, 8, 8), bool)
    slab[5:10], thicker[5:13] = True, True
    found = distances(slab, thicker, ANISOTROPIC)
    assert hausdorff_mm(found, 100) == pytest.approx(3 * 2.5)
    assert surface_dice(found, 7.5) == 1.0
    assert surface_dice(found, 7.4) < 1.0
    assert mean_distance_mm(distances(slab, slab, ANISOTROPIC)) == 0.0


def test_itk_finds_the_same_largest_distance_between_the_elements() -> None:
    def elements(mask: Any) -> Any:
        """Corners of voxels whose eight voxels differ, by numpy's own minimum and maximum."""
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(mask, 1), (2, 2, 2))
        mixed = windows.any(axis=(3, 4, 5)) & ~windows.all(axis=(3, 4, 5))
        image = SimpleITK.GetImageFromArray(mixed.astype(np.uint8))
        image.SetSpacing(ANISOTROPIC[::-1])
        return image

    itk = SimpleITK.HausdorffDistanceImageFilter()
    itk.Execute(elements(FIRST), elements(SECOND))
    found = distances(FIRST, SECOND, ANISOTROPIC)
    assert hausdorff_mm(found, 100) == pytest.approx(itk.GetHausdorffDistance(), rel=1e-6)
    # And each single distance, by ITK's distance map.
    far = SimpleITK.SignedMaurerDistanceMap(
        elements(SECOND), insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    mine = SimpleITK.GetArrayFromImage(elements(FIRST)) > 0
    by_itk = np.sort(np.maximum(SimpleITK.GetArrayFromImage(far)[mine], 0))
    assert np.allclose(np.sort(found.first_to_second_mm), by_itk, rtol=0, atol=1e-5)


def test_an_empty_mask_has_no_distance_and_no_surface_dice() -> None:
    nothing = np.zeros((4, 4, 4), bool)
    for one, other in ((nothing, FIRST[:4, :4, :4]), (FIRST[:4, :4, :4], nothing), (nothing,) * 2):
        found = distances(one, other, (1, 1, 1))
        assert found is None
        assert hausdorff_mm(found) is None
        assert surface_dice(found, 1) is None
        assert mean_distance_mm(found) is None


@pytest.mark.parametrize(
    ("mask", "spacing"), [(np.ones(3, bool), (1,)), (np.ones((2, 2), bool), (1, 1, 1)),
                          (np.ones((2, 2), bool), (1, 0))],
)  # fmt: skip
def test_other_axes_and_spacings_are_refused(mask: Any, spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="Surfaces are of masks with 2 or 3 axes"):
        surface_of(mask, spacing)


MASKS = arrays(bool, (4, 5, 6)).filter(lambda mask: bool(mask.any()))


@settings(max_examples=25, deadline=None)
@given(MASKS, MASKS, st.floats(0.2, 5))
def test_symmetry_scale_and_translation(first: Any, second: Any, factor: float) -> None:
    found, back = distances(first, second, (1, 2, 3)), distances(second, first, (1, 2, 3))
    assert hausdorff_mm(found) == hausdorff_mm(back)
    assert surface_dice(found, 2) == pytest.approx(surface_dice(back, 2))
    scaled = distances(first, second, (factor, 2 * factor, 3 * factor))
    value, value_scaled = hausdorff_mm(found), hausdorff_mm(scaled)
    assert value is not None
    assert value_scaled == pytest.approx(factor * value)
    assert surface_dice(scaled, 2 * factor) == pytest.approx(surface_dice(found, 2))
    moved = distances(np.pad(first, 3), np.pad(second, 3), (1, 2, 3))
    assert hausdorff_mm(moved) == pytest.approx(value)
    same = distances(first, first, (1, 2, 3))
    assert (hausdorff_mm(same), surface_dice(same, 0)) == (0.0, 1.0)
