"""The slices of a series with their masks: what the formats for medical volumes are made of.

Workers hand on the masks of single slices; `series_volumes` gathers them series by series. A task
may show its slice in several windows, each an image: what was drawn on them is joined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exporters.records import image_record, scene_of
from exporters.tracks import FrameObject, given_track
from segstudio.dicom_geometry import DicomSlice, read_dicom, require_dicom
from segstudio.dicom_volumes import SliceVolume, group_volumes
from segstudio.errors import SegstudioError
from segstudio.images import AnnotatedImage
from segstudio.masks import Mask, union_all
from segstudio.plugins import ExportContext
from segstudio.region_classes import classify_regions

_SLICES_AT_ONCE: Final = 2000


@dataclass(slots=True)
class SliceMasks:
    """One slice and the pixels of each class on it, by class id.

    `whole` has what was drawn, where classes may overlap; `visible` what the overlap policy leaves
    of it, with VOID pixels under `void`. `objects` are those of thing classes, one by one, where
    they were asked for. `assisted` are the classes in which a model had a part.
    """

    dicom: DicomSlice
    task_id: int
    void: Mask
    annotator_ids: set[int | None] = field(default_factory=set)
    whole: dict[int, Mask] = field(default_factory=dict)
    visible: dict[int, Mask] = field(default_factory=dict)
    objects: list[FrameObject] = field(default_factory=list)
    assisted: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class AnnotatedVolume:
    """A volume and the masks of its slices, in the volume's order."""

    volume: SliceVolume
    slices: tuple[SliceMasks, ...]

    def class_ids(self) -> list[int]:
        """Return the ids of the classes that somebody drew, ascending."""
        return sorted({class_id for one in self.slices for class_id in one.whole})


def slice_record(
    image: AnnotatedImage, context: ExportContext, purpose: str, *, with_objects: bool = False
) -> dict[str, Any]:
    """Return the record of one image of a slice, with its masks.

    Args:
        image: the image; its task's data must describe a DICOM slice with geometry.
        context: the export.
        purpose: the format, for the sentences.
        with_objects: keep the objects of thing classes apart as well.

    Raises:
        DicomGeometryError: the task has no DICOM geometry.
        SegstudioError: the image has another size than the slice.
    """
    one = require_dicom({"dicom": image.dicom} if image.dicom else {}, image.task_id, purpose)
    size = image.height_px, image.width_px
    if size != (one.rows, one.columns):
        raise SegstudioError(
            f"The image of task {image.task_id} has {size[1]} x {size[0]} pixels, its DICOM slice "
            f"{one.columns} x {one.rows}: its masks have no place in the series. Import the series "
            "again and annotate the images as they come."
        )
    scene = scene_of(image, context)
    taxonomy = context.taxonomy
    visible: dict[int, list[Mask]] = {}
    for segment in scene.segments:
        visible.setdefault(segment.class_id, []).append(segment.mask)
    whole: dict[int, list[Mask]] = {}
    assisted: set[int] = set()
    objects: list[dict[str, Any]] = []
    for classed in classify_regions(image.regions, taxonomy, *size).regions:
        found = classed.segment_class
        if found is None or classed.is_void or classed.mask.is_empty:
            continue
        whole.setdefault(found.id, []).append(classed.mask)
        if with_objects and found.is_thing:
            objects.append(
                {
                    "class_id": found.id,
                    "counts": _coco(classed.mask),
                    "track": given_track(classed.region.attributes),
                    "region": classed.region.id,
                }
            )
        if classed.region.score is not None or classed.region.origin.startswith("prediction"):
            assisted.add(found.id)
    things = {one.id for one in taxonomy.classes if one.is_thing}
    return image_record(
        image,
        [],
        dicom=one.as_task_data(),
        whole=_counts(whole, size),
        visible=_counts(visible, size),
        void=_coco(scene.void_mask),
        objects=objects,
        assisted=sorted(assisted),
        losses={
            "instances_merged": 0
            if with_objects
            else sum(len(masks) - 1 for class_id, masks in whole.items() if class_id in things),
            "segments_without_their_attributes": sum(
                bool(segment.attributes) for segment in scene.segments
            ),
        },
    )


def series_volumes(records: Iterable[Mapping[str, Any]]) -> Iterator[AnnotatedVolume]:
    """Yield the volumes of all series with their masks, sorted by name.

    The records are read several times, so that no more than one series, or `_SLICES_AT_ONCE`
    images of short ones, is in memory.

    Raises:
        DicomGeometryError: two tasks show the same slice.
    """
    sizes = Counter(record["dicom"]["series"] for record in records)
    batches: list[list[str]] = [[]]
    for series in sorted(sizes):
        if batches[-1] and sum(sizes[one] for one in [*batches[-1], series]) > _SLICES_AT_ONCE:
            batches.append([])
        batches[-1].append(series)
    for batch in batches:
        gathered: dict[str, dict[int, SliceMasks]] = {series: {} for series in batch}
        for record in records:
            if (series := record["dicom"]["series"]) in gathered:
                _join(gathered[series], record)
        for by_task in gathered.values():
            slices = list(by_task.values())
            for volume in group_volumes([one.dicom for one in slices]):
                yield AnnotatedVolume(volume, tuple(slices[at] for at in volume.members))


def _join(by_task: dict[int, SliceMasks], record: Mapping[str, Any]) -> None:
    """Add one image to its task's slice; a later window lies on top of an earlier one."""
    task_id, size = record["task_id"], (record["height_px"], record["width_px"])
    slice_ = by_task.get(task_id)
    if slice_ is None:
        dicom = read_dicom(record, task_id)
        assert dicom is not None  # noqa: S101 - for mypy: slice_record wrote it
        slice_ = by_task[task_id] = SliceMasks(dicom, task_id, Mask.empty(*size))
    slice_.annotator_ids.add(record["annotator_id"])
    slice_.assisted.update(record["assisted"])
    for one in record["objects"]:
        mask = Mask.from_coco_rle({"size": list(size), "counts": one["counts"]})
        slice_.objects.append(FrameObject(one["class_id"], mask, one["track"], one["region"]))
    for key, mask in _masks(record["whole"], size).items():
        slice_.whole[key] = slice_.whole[key] | mask if key in slice_.whole else mask
    visible = _masks(record["visible"], size)
    void = Mask.from_coco_rle({"size": list(size), "counts": record["void"]})
    on_top = union_all([*visible.values(), void], *size)
    if not on_top.is_empty:
        slice_.visible = {key: mask - on_top for key, mask in slice_.visible.items()}
        slice_.void = slice_.void - on_top
    for key, mask in visible.items():
        slice_.visible[key] = slice_.visible[key] | mask if key in slice_.visible else mask
    slice_.void = slice_.void | void


def _counts(masks: Mapping[int, list[Mask]], size: tuple[int, int]) -> dict[str, str]:
    return {str(key): _coco(union_all(found, *size)) for key, found in sorted(masks.items())}


def _coco(mask: Mask) -> str:
    counts: bytes = mask.to_coco_rle()["counts"]
    return counts.decode("ascii")


def _masks(counts: Mapping[str, str], size: tuple[int, int]) -> dict[int, Mask]:
    return {
        int(key): Mask.from_coco_rle({"size": list(size), "counts": text})
        for key, text in counts.items()
    }
