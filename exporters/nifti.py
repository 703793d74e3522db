"""NIfTI: one label map a series, `.nii.gz`, with the affine that puts it into the patient (RAS).

Layout: `labels/<series>.nii.gz`, `volumes.json`, with `stack=yes` also
`stack/<series>/<class>.nii.gz`, a mask of each class as it was drawn, overlaps included. A voxel's
value is its class id; the first index counts columns, the second rows, the third slices along the
normal. Source: the header nifti1.h / nifti2.h, nifti.nimh.nih.gov.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.dicom_series import AnnotatedVolume, series_volumes, slice_record
from exporters.files import write_bytes, write_json
from exporters.options import check_options
from segstudio.dicom_geometry import ras_from_lps
from segstudio.dicom_volumes import SliceVolume, VolumeGrid, even_stretches
from segstudio.errors import MissingExtraError, SegstudioError
from segstudio.images import AnnotatedImage
from segstudio.plugins import ExportContext
from segstudio.taxonomy import Taxonomy

_OPTIONS: Final = {
    "stack": ("no", "yes"),
    "missing": ("unlabelled", "void"),
    "version": ("1", "2"),
}
_MOST_VOXELS: Final = 2**31
_NOT_IN_NAME: Final = re.compile(r"[^\w.-]+")
_MOST_NAME_CHARS: Final = 50
_SCANNER: Final = 1  # the affine is the scanner's own coordinates
_MM: Final = 2


class NiftiExporter:
    """Writes NIfTI label maps."""

    name = "nifti"
    summary = "NIfTI: a label map .nii.gz for each DICOM series, in the patient's coordinates"
    next_step = "labels/<series>.nii.gz lies over the series in any viewer; volumes.json says "\
        "which slices had no annotation."  # fmt: skip

    def prepare(self, options: Mapping[str, str], taxonomy: Taxonomy) -> dict[str, str]:
        """Check the options, and that nibabel is there, before anything is written."""
        _nibabel()
        return check_options(options, _OPTIONS, self.name)

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Return the record of one slice with its masks."""
        record = slice_record(image, context, "NIfTI")
        if context.options.get("stack") == "yes":  # there nothing lies under anything
            record["losses"] |= {"overlapped_px": 0, "hidden_regions": 0}
        return record

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Write the volumes, one series at a time."""
        entries = []
        for annotated in series_volumes(records):
            parts = even_stretches(annotated.volume)
            for part, grid in parts:
                entries.append(_write(annotated, part, grid, context, is_part=len(parts) > 1))
        write_json(
            context.out_dir / "volumes.json",
            {"classes": _classes(context.taxonomy), "volumes": entries},
        )


def _write(
    annotated: AnnotatedVolume,
    part: SliceVolume,
    grid: VolumeGrid,
    context: ExportContext,
    *,
    is_part: bool,
) -> dict[str, Any]:
    taxonomy, version = context.taxonomy, context.options.get("version", "1")
    if grid.columns * grid.rows * grid.depth > _MOST_VOXELS:
        raise SegstudioError(
            f"The volume {part.name} would have {grid.columns} x {grid.rows} x {grid.depth} voxels,"
            f" more than {_MOST_VOXELS}; export its tasks in parts."
        )
    at_member = dict(zip(annotated.volume.members, annotated.slices, strict=True))
    placed = list(zip(grid.slots, (at_member[at] for at in part.members), strict=True))
    void_slots = grid.missing if context.options.get("missing") == "void" else ()
    dtype = np.uint8 if _largest_id(taxonomy) < 256 else np.uint16
    labels = np.full((grid.depth, grid.rows, grid.columns), taxonomy.unlabelled_id, dtype)
    labels[list(void_slots)] = taxonomy.void_id
    for slot, one in placed:
        flat = labels[slot].reshape(-1)
        for class_id, mask in [*one.visible.items(), (taxonomy.void_id, one.void)]:
            for start, stop in mask.runs.tolist():
                flat[start:stop] = class_id
    file = f"labels/{part.name}.nii.gz"
    write_bytes(context.out_dir / file, nifti_bytes(labels, grid, version))
    files = {"labels": file}
    if context.options.get("stack") == "yes":
        for class_id in sorted({key for _, one in placed for key in one.whole}):
            binary = np.zeros(labels.shape, np.uint8)
            for slot, one in placed:
                if class_id in one.whole:
                    binary[slot] = one.whole[class_id].to_dense()
            name = _NOT_IN_NAME.sub("_", taxonomy.by_id[class_id].name)[:_MOST_NAME_CHARS]
            files[str(class_id)] = f"stack/{part.name}/{class_id}-{name}.nii.gz"
            write_bytes(context.out_dir / files[str(class_id)], nifti_bytes(binary, grid, version))
    return {
        "series": part.slices[0].series,
        "series_uid": part.slices[0].series_uid,
        "files": files,
        "slices": len(part.slices),
        "size": [grid.columns, grid.rows, grid.depth],
        "spacing_mm": [round(value, 9) for value in grid.spacing_mm],
        "slices_without_annotation": list(grid.missing),
        "is_sheared": grid.is_sheared,
        "is_part_of_an_uneven_series": is_part,
        "tasks": [one.task_id for _, one in placed],
    }


def nifti_bytes(voxels: NDArray[Any], grid: VolumeGrid, version: str = "1") -> bytes:
    """Return a gzipped NIfTI file of voxels (slice, row, column); the same for the same input.

    The affine stands in the sform and, where the axes are at right angles, in the qform. NIfTI-1
    holds it as 32-bit floats, a relative error of 6e-8; version "2" as 64-bit ones.
    """
    nibabel = _nibabel()
    kind = nibabel.Nifti1Image if version == "1" else nibabel.Nifti2Image
    affine = ras_from_lps(grid.affine_lps)
    image = kind(np.ascontiguousarray(voxels.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units(_MM)
    image.set_sform(affine, code=_SCANNER)
    if grid.is_sheared:
        image.header["qform_code"] = 0
        image.header["pixdim"][1:4] = grid.spacing_mm
    else:
        image.set_qform(affine, code=_SCANNER)
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def _classes(taxonomy: Taxonomy) -> list[dict[str, Any]]:
    entries = [
        {"value": one.id, "name": one.name, "color": list(one.color)}
        for one in taxonomy.scored_classes
    ]
    entries.append({"value": taxonomy.void_id, "name": "void", "color": list(taxonomy.void_color)})
    if taxonomy.unlabelled_id != taxonomy.void_id:
        entries.append({"value": taxonomy.unlabelled_id, "name": "unlabelled", "color": [0, 0, 0]})
    return sorted(entries, key=lambda entry: int(str(entry["value"])))


def _largest_id(taxonomy: Taxonomy) -> int:
    return max(taxonomy.void_id, taxonomy.unlabelled_id, *(one.id for one in taxonomy.classes))


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise MissingExtraError("Writing NIfTI", "nibabel", "dicom") from error
    return nibabel
