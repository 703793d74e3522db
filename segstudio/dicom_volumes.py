"""Which slices make one volume, in which order, and whether they lie at equal distances.

A series is usually one stack of parallel slices. It may hold several (a localizer's three planes,
the phases of a dynamic series): those become volumes of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from segstudio.dicom_geometry import Affine, DicomGeometryError, DicomSlice, affine_with_step

SPACING_TOLERANCE: Final = 0.01
"""How far a slice may lie from its place in an even spacing, as a share of the spacing."""

_SAME_POSITION_MM: Final = 1e-3
_MOST_SLOTS_A_SLICE: Final = 20  # a stack with more gaps than that is no even stack
_SAME_DIRECTION: Final = 1e-4


@dataclass(frozen=True, slots=True)
class VolumeGrid:
    """Voxels at equal distances: the place of each slice of a volume among them.

    `affine_lps` maps (column, row, slot, 1) to millimetres (LPS); slots count up along the normal.
    `slots` has the slot of each of the volume's slices; `missing` the slots between and around
    them for which there is no slice. `spacing_mm` is (column, row, slice). Where `is_sheared`, the
    slices are shifted against each other (a tilted gantry) and the axes are not at right angles.
    """

    columns: int
    rows: int
    depth: int
    affine_lps: Affine
    slots: tuple[int, ...]
    missing: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    is_sheared: bool


@dataclass(frozen=True, slots=True)
class SliceVolume:
    """Parallel slices of one series, in the order of their place along the normal.

    `members` are their positions in the sequence that was grouped. `name` is the series' own, with
    ``-2``, ``-3`` for the further stacks of a series. `is_only_stack` says that no other stack of
    the series is known, so that the import's slice numbers are this stack's own.
    """

    name: str
    slices: tuple[DicomSlice, ...]
    members: tuple[int, ...]
    is_only_stack: bool

    def grid(self, tolerance: float = SPACING_TOLERANCE) -> VolumeGrid | None:
        """Return the even grid on which the slices lie, or None where their distances differ.

        The import's own slice numbers decide where they fit the positions: the grid then covers
        the whole series, also where only some slices are given. Else the smallest distance does,
        of which the others must be multiples.

        Args:
            tolerance: how far a slice may lie from its place, as a share of the spacing.
        """
        return _grid(self, tolerance)


def group_volumes(slices: Sequence[DicomSlice]) -> tuple[SliceVolume, ...]:
    """Group slices into volumes: by series, size, spacing and orientation; sorted by name.

    Slices at the same place (phases, echoes) go to different volumes, in the order of `slice`.
    Of nothing it makes nothing. Slices without geometry make a volume of their own for each series
    and size, in the order of `slice`, which has no grid.

    Raises:
        DicomGeometryError: two slices are the same one (SOP instance and frame).
    """
    _refuse_doubles(slices)
    groups: dict[tuple[object, ...], list[list[int]]] = {}
    order = sorted(range(len(slices)), key=lambda at: (slices[at].series, slices[at].slice, at))
    parallel: list[list[int]] = []
    for at in order:
        stacks = groups.setdefault(_stack_key(slices[at]), [])
        known = [one for one in stacks if _is_parallel(slices[one[0]], slices[at])]
        if not known:
            stacks.append([])
            parallel.append(stacks[-1])
        (known[0] if known else stacks[-1]).append(at)
    stacks_of: dict[str, list[list[int]]] = {}
    for members in parallel:
        stacks_of.setdefault(slices[members[0]].series, []).extend(_phases(members, slices))
    return tuple(
        SliceVolume(
            name=series if number == 1 else f"{series}-{number}",
            slices=tuple(slices[at] for at in stack),
            members=tuple(stack),
            is_only_stack=len(stacks) == 1,
        )
        for series, stacks in sorted(stacks_of.items())
        for number, stack in enumerate(stacks, start=1)
    )


def _refuse_doubles(slices: Iterable[DicomSlice]) -> None:
    seen: dict[tuple[str, int | None], DicomSlice] = {}
    for one in slices:
        other = seen.setdefault((one.sop_instance_uid, one.frame_number), one)
        if other is not one:
            raise DicomGeometryError(
                f"Slice {other.slice} of {other.series} and slice {one.slice} of {one.series} are "
                f"the same DICOM image ({one.sop_instance_uid}, frame {one.frame_number or 1}); "
                "leave one of the two tasks out."
            )


def _stack_key(one: DicomSlice) -> tuple[object, ...]:
    key: tuple[object, ...] = (one.series, one.series_uid, one.rows, one.columns, one.has_geometry)
    if not one.has_geometry:
        return key
    spacing = np.round(np.asarray(one.pixel_spacing_mm, float), 6)
    return (*key, one.frame_of_reference_uid, tuple(spacing.tolist()))


def _is_parallel(one: DicomSlice, other: DicomSlice) -> bool:
    """Say whether two slices have one direction: by distance, which has no edges as rounding has.

    Slices without geometry have none to differ in.
    """
    if not one.has_geometry or not one.image_orientation or not other.image_orientation:
        return True
    pairs = zip(one.image_orientation, other.image_orientation, strict=True)
    return max(abs(a - b) for a, b in pairs) <= _SAME_DIRECTION


def _phases(members: Sequence[int], slices: Sequence[DicomSlice]) -> list[list[int]]:
    """Split slices of one orientation so that no two of a stack lie at the same place."""
    if not slices[members[0]].has_geometry:
        return [list(members)]
    normal = slices[members[0]].normal()
    along = {at: float(normal @ np.asarray(slices[at].image_position_mm)) for at in members}
    stacks: list[list[int]] = []
    occurrence, last = 0, None
    for at in sorted(members, key=lambda at: (along[at], slices[at].slice)):
        is_same = last is not None and along[at] - along[last] <= _SAME_POSITION_MM
        occurrence = occurrence + 1 if is_same else 0
        if occurrence == len(stacks):
            stacks.append([])
        stacks[occurrence].append(at)
        last = at
    return stacks


def _grid(volume: SliceVolume, tolerance: float) -> VolumeGrid | None:
    slices = volume.slices
    if not all(one.has_geometry for one in slices):
        return None
    positions = np.array([one.image_position_mm for one in slices], float)
    normal = slices[0].normal()
    placed = None
    if len(slices) == 1:
        step = slices[0].affine_lps()[:3, 2]
        placed = _Placed(np.zeros(1, np.int64), step, 1)
    elif volume.is_only_stack:
        placed = _by_numbers(positions, slices, tolerance)
    placed = placed or _by_distances(positions, normal, tolerance)
    if placed is None:
        return None
    slots, step = placed.slots, placed.step_mm
    affine = affine_with_step(slices[0], step)
    affine[:3, 3] = positions[0] - slots[0] * step
    assert slices[0].pixel_spacing_mm  # noqa: S101 - for mypy: has_geometry
    row_mm, column_mm = slices[0].pixel_spacing_mm
    spacing_mm = float(np.linalg.norm(step))
    sideways_mm = float(np.linalg.norm(step - (step @ normal) * normal))
    taken = set(slots.tolist())
    return VolumeGrid(
        columns=slices[0].columns,
        rows=slices[0].rows,
        depth=placed.depth,
        affine_lps=affine,
        slots=tuple(slots.tolist()),
        missing=tuple(slot for slot in range(placed.depth) if slot not in taken),
        spacing_mm=(column_mm, row_mm, spacing_mm),
        is_sheared=sideways_mm > tolerance * spacing_mm,
    )


@dataclass(frozen=True, slots=True)
class _Placed:
    slots: npt.NDArray[np.int64]
    step_mm: npt.NDArray[np.float64]
    depth: int


def _by_numbers(
    positions: npt.NDArray[np.float64], slices: Sequence[DicomSlice], tolerance: float
) -> _Placed | None:
    """Place the slices by the import's numbers, over the whole series; None where they misfit."""
    numbers = np.array([one.slice for one in slices])
    depth = slices[0].slices
    if any(one.slices != depth for one in slices):
        return None
    slots = numbers if numbers[0] < numbers[-1] else depth - 1 - numbers
    step = _even_step(positions, slots, tolerance)
    return None if step is None else _Placed(slots, step, depth)


def _by_distances(
    positions: npt.NDArray[np.float64], normal: npt.NDArray[np.float64], tolerance: float
) -> _Placed | None:
    """Place the slices by their distances, of which all are multiples of the smallest."""
    distances = np.diff(positions @ normal)
    counts = np.rint(distances / distances.min()).astype(np.int64)
    slots = np.concatenate([[0], np.cumsum(counts)])
    depth = int(slots[-1]) + 1
    if depth > _MOST_SLOTS_A_SLICE * len(positions):
        return None
    step = _even_step(positions, slots, tolerance)
    return None if step is None else _Placed(slots, step, depth)


def _even_step(
    positions: npt.NDArray[np.float64], slots: npt.NDArray[np.int64], tolerance: float
) -> npt.NDArray[np.float64] | None:
    """Return the vector from slot to slot, or None where a slice lies too far from its slot."""
    step: npt.NDArray[np.float64] = (positions[-1] - positions[0]) / (slots[-1] - slots[0])
    away = np.linalg.norm(positions - positions[0] - np.outer(slots - slots[0], step), axis=1)
    return step if away.max() <= tolerance * np.linalg.norm(step) else None


def even_stretches(
    volume: SliceVolume, tolerance: float = SPACING_TOLERANCE
) -> tuple[tuple[SliceVolume, VolumeGrid], ...]:
    """Cut a volume whose slices lie at uneven distances into parts that have a grid each.

    A part goes on as long as its distances stay the same; its name is the volume's with ``-part1``
    and so on. A volume with a grid is its own only part. One without geometry gives none.
    """
    whole = volume.grid(tolerance)
    if whole is not None:
        return ((volume, whole),)
    if not all(one.has_geometry for one in volume.slices):
        return ()
    normal = volume.slices[0].normal()
    along = np.array([one.image_position_mm for one in volume.slices], float) @ normal
    parts: list[list[int]] = [[0]]
    for at in range(1, len(along)):
        part = parts[-1]
        step = along[part[1]] - along[part[0]] if len(part) > 1 else 0.0
        if len(part) == 1 or abs(along[at] - along[part[-1]] - step) <= tolerance * step / 2:
            part.append(at)
        else:
            parts.append([at])
    found = []
    for number, part in enumerate(parts, start=1):
        cut = SliceVolume(
            name=f"{volume.name}-part{number}",
            slices=tuple(volume.slices[at] for at in part),
            members=tuple(volume.members[at] for at in part),
            is_only_stack=False,
        )
        grid = cut.grid(tolerance)
        if grid is not None:
            found.append((cut, grid))
    return tuple(found)
