"""DICOM SEG: one Segmentation object a series, over the series' own images.

Layout: `segmentations/<series>.dcm`, `volumes.json`. A segment is a class, named by the code that
the taxonomy gives it; segments may overlap, so each holds what was drawn, whatever lies on top.
The same input gives the same bytes: UIDs are made of the content, dates are the source's. Source:
DICOM PS3.3, A.51 and C.8.20.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporters.dicom_segments import (
    VolumeSegment,
    content_uid,
    long_string,
    segment_code,
    segment_description,
    segment_pixels,
    segments_of,
)
from exporters.dicom_series import AnnotatedVolume, series_volumes, slice_record
from exporters.dicom_source import (
    SourceFiles,
    content_moment,
    shared_marks,
    source_images,
    stand_in_uid,
)
from exporters.files import compact_json, write_bytes, write_json
from exporters.options import check_options
from exporters.records import scene_of
from segstudio.cli import installed_version
from segstudio.errors import MissingExtraError, SegstudioError, UsageError
from segstudio.images import AnnotatedImage
from segstudio.plugins import ExportContext
from segstudio.taxonomy import Taxonomy, dump_taxonomy

if TYPE_CHECKING:
    from pydicom import Dataset

_OPTIONS: Final = {
    "type": ("binary", "fractional"),
    "segments": ("classes", "objects"),
    "dicom": (),
    "beside": (),
}
_SERIES_NUMBER: Final = 900
_UNICODE: Final = "ISO_IR 192"


class DicomSegExporter:
    """Writes DICOM Segmentation objects."""

    name = "dicom-seg"
    summary = "DICOM SEG: a Segmentation object for each series, with coded segments"
    next_step = "Send segmentations/*.dcm to where the series is; volumes.json says which segment "\
        "is which class."  # fmt: skip
    beside_option = "beside"

    def prepare(self, options: Mapping[str, str], taxonomy: Taxonomy) -> dict[str, str]:
        """Check the options, and that the libraries are there, before anything is written."""
        _highdicom()
        checked = check_options(options, _OPTIONS, self.name)
        folder = checked.get("dicom")
        if folder is not None and not Path(folder).is_dir():
            raise UsageError(
                f"The option dicom is '{folder}', which is no folder; give the one that "
                "'segstudio dicom import' wrote (it holds dicom/<series>/)."
            )
        return checked

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Return the record of one slice with its masks."""
        by_object = context.options.get("segments") == "objects"
        record = slice_record(image, context, "DICOM SEG", with_objects=by_object)
        record["losses"] |= {
            "overlapped_px": 0,
            "hidden_regions": 0,
            "void_px_not_held": scene_of(image, context).void_mask.area_px,
        }
        return record

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Write the segmentations, one series at a time.

        Raises:
            SegstudioError: a source file is missing or of another image, or a series too large.
        """
        entries = []
        for annotated in series_volumes(records):
            entries.append(_write(annotated, context))
        write_json(context.out_dir / "volumes.json", {"volumes": entries})


def _write(annotated: AnnotatedVolume, context: ExportContext) -> dict[str, Any]:
    volume, taxonomy = annotated.volume, context.taxonomy
    segments = segments_of(
        annotated, taxonomy, by_object=context.options.get("segments") == "objects"
    )
    grid = volume.grid()
    entry: dict[str, Any] = {
        "series": volume.slices[0].series,
        "series_uid": volume.slices[0].series_uid,
        "file": None,
        "slices": len(volume.slices),
        "spacing_is_even": grid is not None,
        "slices_without_annotation": list(grid.missing) if grid is not None else None,
        "tasks": [one.task_id for one in annotated.slices],
        "segments": [],
    }
    if not segments:  # a Segmentation without a segment is none
        entry["note"] = "Nobody drew anything on this series."
        return entry
    dataset = _segmentation(annotated, segments, context)
    if grid is not None and grid.depth > 1 and not grid.is_sheared:
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = _decimal(grid.spacing_mm[2])
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    entry["file"] = f"segmentations/{volume.name}.dcm"
    write_bytes(context.out_dir / entry["file"], content.getvalue())
    entry["sop_instance_uid"] = str(dataset.SOPInstanceUID)
    entry["overlap"] = str(dataset.SegmentsOverlap)
    for number, segment in enumerate(segments, start=1):
        segment_class = taxonomy.by_id[segment.class_id]
        code = segment_code(segment_class)
        entry["segments"].append(
            {
                "number": number,
                "class_id": segment.class_id,
                "name": segment.label,
                "track": segment.track,
                "code": [code.scheme, code.value, code.meaning],
                "is_coded": segment_class.code is not None,
            }
        )
    return entry


def _segmentation(
    annotated: AnnotatedVolume, segments: Sequence[VolumeSegment], context: ExportContext
) -> Dataset:
    from highdicom.seg import Segmentation

    volume = annotated.volume
    files = _files(context.options)
    images = source_images(volume.slices, files)
    drawn = [at for at, one in enumerate(annotated.slices) if one.whole]
    others = [at for at in range(len(images)) if at not in set(drawn)]
    pixels = segment_pixels(segments, drawn, volume)
    seed = _seed(annotated, segments, context)
    date, time = content_moment(volume.slices, files)
    kind = context.options.get("type", "binary").upper()
    dataset: Dataset = _made(
        volume.name,
        Segmentation,
        source_images=[images[at] for at in drawn],
        further_source_images=[images[at] for at in others],
        pixel_array=pixels,
        segmentation_type=kind,
        fractional_type="OCCUPANCY" if kind == "FRACTIONAL" else None,
        segment_descriptions=[
            segment_description(number, segment, context.taxonomy.by_id[segment.class_id], seed)
            for number, segment in enumerate(segments, start=1)
        ],
        series_instance_uid=content_uid(seed, "series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=content_uid(seed, "instance"),
        instance_number=1,
        manufacturer="segstudio",
        manufacturer_model_name="segstudio",
        software_versions=installed_version(),
        device_serial_number="segstudio",
        content_label="SEGMENTATION",
        content_description=long_string(context.taxonomy.name),
        series_description="Segmentation",
        specific_character_set=_UNICODE,
        content_date=date,
        content_time=time,
        series_date=date,
        series_time=time,
    )
    _make_repeatable(dataset, content_uid(seed, "dimensions"))
    _put_references(dataset, annotated)
    for keyword, value in shared_marks(volume.slices, files).items():
        setattr(dataset, keyword, value)
    return dataset


def _made(name: str, function: Callable[..., Any], **arguments: Any) -> Any:
    """Call, without the warning that a pseudonym is an unlikely name of a person.

    Raises:
        SegstudioError: the standard does not allow what the source says of itself.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*unlikely to represent the intended person")
        try:
            return function(**arguments)
        except (ValueError, TypeError, AttributeError) as error:
            raise SegstudioError(
                f"No DICOM SEG can be made of {name}: {error} Look at what its files say of "
                "themselves, or leave out --option dicom."
            ) from error


def _files(options: Mapping[str, str]) -> SourceFiles:
    if "dicom" in options:
        return SourceFiles(Path(options["dicom"]), must_exist=True)
    return SourceFiles(Path(options["beside"]) if "beside" in options else None)


def _seed(
    annotated: AnnotatedVolume, segments: Sequence[VolumeSegment], context: ExportContext
) -> bytes:
    """Return what makes a segmentation the one it is: its source, segments, classes, options."""
    content = [
        installed_version(),
        context.options.get("type", "binary"),
        dump_taxonomy(context.taxonomy),
        [one.dicom.as_task_data() for one in annotated.slices],
        sorted({str(who) for one in annotated.slices for who in one.annotator_ids}),
        [
            [
                segment.class_id,
                segment.track,
                segment.is_assisted,
                [
                    None if mask is None else mask.to_coco_rle()["counts"].decode("ascii")
                    for mask in segment.masks
                ],
            ]
            for segment in segments
        ],
    ]
    return compact_json(content).encode("utf-8")


def _make_repeatable(dataset: Dataset, dimensions_uid: str) -> None:
    """Take out what differs from run to run: random UIDs and the time of writing."""
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for item in dataset.get("ContributingEquipmentSequence") or ():
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions_uid


def _put_references(dataset: Dataset, annotated: AnnotatedVolume) -> None:
    """Name the real source images where the slices' stand-ins are named."""
    by_stand_in = {stand_in_uid(at): one.dicom for at, one in enumerate(annotated.slices)}
    done: set[int] = set()
    for series in dataset.ReferencedSeriesSequence:
        series.ReferencedInstanceSequence = _references(
            series.ReferencedInstanceSequence, by_stand_in
        )
    dataset.SourceImageSequence = _references(dataset.SourceImageSequence, by_stand_in)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in frame.DerivationImageSequence:
            for item in derivation.SourceImageSequence:
                # highdicom lets the frames of a slice share one item.
                one = by_stand_in.get(item.ReferencedSOPInstanceUID)
                if one is None or id(item) in done:
                    continue
                done.add(id(item))
                item.ReferencedSOPClassUID = one.sop_class_uid
                item.ReferencedSOPInstanceUID = one.sop_instance_uid
                if one.frame_number is not None:
                    item.ReferencedFrameNumber = one.frame_number


def _references(items: Iterable[Any], by_stand_in: Mapping[str, Any]) -> list[Any]:
    """Return one reference for each real image, in the order of the volume's slices."""
    from pydicom import Dataset

    standing = {str(item.ReferencedSOPInstanceUID) for item in items}
    found: dict[str, Any] = {}
    for uid, one in by_stand_in.items():
        if uid not in standing:
            continue
        reference = found.setdefault(one.sop_instance_uid, Dataset())
        reference.ReferencedSOPClassUID = one.sop_class_uid
        reference.ReferencedSOPInstanceUID = one.sop_instance_uid
    return list(found.values())


def _decimal(value: float) -> Any:
    from pydicom.valuerep import DSfloat

    return DSfloat(value, auto_format=True)


def _highdicom() -> Any:
    try:
        import highdicom
    except ImportError as error:
        raise MissingExtraError("Writing DICOM SEG", "highdicom", "dicom") from error
    return highdicom
