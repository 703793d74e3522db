"""The segments of a volume for DICOM SEG: classes or single objects, their codes and voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.dicom_series import AnnotatedVolume
from exporters.tracks import link_tracks
from segstudio.cli import installed_version
from segstudio.dicom_volumes import SliceVolume
from segstudio.errors import SegstudioError
from segstudio.masks import Mask, union_all
from segstudio.taxonomy import ConceptCode, SegmentClass, Taxonomy

PRIVATE_SCHEME: Final = "99SEGSTUDIO"
"""The coding scheme of classes without a code: the value is the class id, the meaning its name."""

ANATOMY: Final = ConceptCode("SCT", "91723000", "Anatomical Structure")
_UNCODED: Final = ConceptCode(PRIVATE_SCHEME, "class", "Class of a taxonomy")
_MAX_TEXT_CHARS: Final = 64
_MOST_VOXELS: Final = 2**32


@dataclass(frozen=True, slots=True)
class VolumeSegment:
    """One segment of a volume: a class, or one object of it; its mask on each slice, or None.

    `track` numbers the objects; it is None for a class. `is_assisted` says that a model had a part.
    """

    class_id: int
    label: str
    track: int | None
    masks: tuple[Mask | None, ...]
    is_assisted: bool


def segments_of(
    annotated: AnnotatedVolume, taxonomy: Taxonomy, *, by_object: bool
) -> list[VolumeSegment]:
    """Return the segments of a volume in the order of class ids, objects by their track.

    Args:
        annotated: the volume, with objects where they are asked for.
        taxonomy: names the classes and says which are things.
        by_object: a segment for each object of a thing class. Objects of successive slices are
            linked as `exporters.tracks` does it for frames.
    """
    assisted = {class_id for one in annotated.slices for class_id in one.assisted}
    tracked: dict[tuple[int, int], dict[int, Mask]] = {}
    if by_object:
        frames = [one.objects for one in annotated.slices]
        for at, (frame, linked) in enumerate(zip(frames, link_tracks(frames), strict=True)):
            for one, track in zip(frame, linked, strict=True):
                masks = tracked.setdefault((one.class_id, track.id), {})
                masks[at] = masks[at] | one.mask if at in masks else one.mask
    found = []
    for class_id in annotated.class_ids():
        segment_class = taxonomy.by_id[class_id]
        if by_object and segment_class.is_thing:
            found += [
                VolumeSegment(
                    class_id,
                    f"{segment_class.name} {track}",
                    track,
                    tuple(masks.get(at) for at in range(len(annotated.slices))),
                    class_id in assisted,
                )
                for (of_class, track), masks in sorted(tracked.items())
                if of_class == class_id
            ]
        else:
            whole = tuple(one.whole.get(class_id) for one in annotated.slices)
            found.append(
                VolumeSegment(class_id, segment_class.name, None, whole, class_id in assisted)
            )
    return found


def segment_code(one: SegmentClass) -> ConceptCode:
    """Return a class's code and category; one without a code gets a private one."""
    if one.code is None:
        return ConceptCode(PRIVATE_SCHEME, str(one.id), long_string(one.name), _UNCODED)
    code = one.code
    return ConceptCode(code.scheme, code.value, code.meaning, code.category or ANATOMY)


def segment_pixels(
    segments: Sequence[VolumeSegment], drawn: Sequence[int], volume: SliceVolume
) -> NDArray[np.uint8]:
    """Return (slices, rows, columns, segments) of 0 and 1, or a label map without the last.

    `drawn` are the slices on which there is something, at least one.
    """
    rows, columns = volume.slices[0].rows, volume.slices[0].columns
    present = [[one.masks[at] for one in segments] for at in drawn]
    overlap = any(
        sum(mask.area_px for mask in masks if mask is not None)
        > union_all([mask for mask in masks if mask is not None], rows, columns).area_px
        for masks in present
    )
    shape: tuple[int, ...] = (len(drawn), rows, columns)
    if overlap or len(segments) > np.iinfo(np.uint8).max:
        shape = (*shape, len(segments))
    if math.prod(shape) > _MOST_VOXELS:
        raise SegstudioError(
            f"The segmentation of {volume.name} would have {' x '.join(map(str, shape))} voxels, "
            f"more than {_MOST_VOXELS}; export its tasks in parts."
        )
    pixels = np.zeros(shape, np.uint8)
    for at, masks in enumerate(present):
        for number, mask in enumerate(masks):
            if mask is None:
                continue
            if len(shape) == 4:
                pixels[at, :, :, number] = mask.to_dense()
            else:
                pixels[at][mask.to_dense()] = number + 1
    return pixels


def segment_description(number: int, segment: VolumeSegment, one: SegmentClass, seed: bytes) -> Any:
    """Return highdicom's description of a segment; `seed` is what its tracking UID is made of."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    code = segment_code(one)
    assert code.category is not None  # noqa: S101 - for mypy: segment_code gives one
    algorithm = None
    if segment.is_assisted:
        algorithm = AlgorithmIdentificationSequence(
            name="Segment Anything assist",
            family=codes.DCM.ArtificialIntelligence,
            version=installed_version(),
        )
    return SegmentDescription(
        segment_number=number,
        segment_label=long_string(segment.label),
        segmented_property_category=_concept(code.category),
        segmented_property_type=_concept(code),
        algorithm_type="SEMIAUTOMATIC" if segment.is_assisted else "MANUAL",
        algorithm_identification=algorithm,
        tracking_id=None if segment.track is None else long_string(segment.label),
        tracking_uid=None if segment.track is None else content_uid(seed, segment.label),
        display_color=CIELabColor.from_rgb(*one.color),
    )


def long_string(text: str) -> str:
    """Return a text as DICOM's long strings hold it."""
    return text[:_MAX_TEXT_CHARS].replace("\\", "/")


def _concept(code: ConceptCode) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def content_uid(seed: bytes, role: str) -> str:
    """Return the UID of a part of an object that is known by its content alone.

    >>> content_uid(b"a", "series") == content_uid(b"a", "series")
    True
    """
    digest = blake2b(role.encode("utf-8") + b"\0" + seed, digest_size=16).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"
