"""KITTI-STEP: a panoptic PNG a frame, with the same id for an object in all frames of a sequence.

Layout: `panoptic_maps/<split>/<sequence>/<frame>.png`, `tracks.json`, `classes.json`; images
belong into `images/<split>/<sequence>/`. R is the class's train id (255: VOID or unlabelled), and
256 G + B the object's track id; stuff, crowds and VOID have 0. Sequence and frame are the fields
`video` and `frame` of the task's data. Source: deeplab2, g3doc/setup/kitti_step.md.

Tracks need all frames at once, so the workers hand on masks, and the PNGs are written at the end,
a sequence at a time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np

from exporters.files import write_bytes, write_json
from exporters.flags import CROWD, is_flagged
from exporters.names import image_ending
from exporters.options import SPLIT_OPTIONS, check_options, image_split
from exporters.png import rgb_png
from exporters.records import image_record, scene_of
from exporters.tracks import TRACK_NAMES, FrameObject, Track, given_track, link_tracks
from segstudio.errors import SegstudioError, UsageError
from segstudio.images import AnnotatedImage
from segstudio.masks import Mask
from segstudio.plugins import ExportContext
from segstudio.taxonomy import SegmentClass, Taxonomy

_OPTIONS: Final = {
    "sequence": (),
    "frame": (),
    "tracks": ("match", "given"),
    **SPLIT_OPTIONS,
}
_VOID: Final = 255
_HELD: Final = {*TRACK_NAMES, *CROWD}
_NOT_IN_NAME: Final = re.compile(r"[^\w.-]+")
_MOST_NAME_CHARS: Final = 100
_FRAMES_AT_ONCE: Final = 2000


class KittiStepExporter:
    """Writes KITTI-STEP."""

    name = "kitti-step"
    summary = "KITTI-STEP: panoptic PNG frames with track ids, a folder a sequence"
    next_step = "Put the frames into images/<split>/<sequence>/; deeplab2's build_step_data reads "\
        "both. tracks.json says where each track id comes from."  # fmt: skip

    def prepare(self, options: Mapping[str, str], taxonomy: Taxonomy) -> dict[str, str]:
        """Check the options, and that the classes fit, before anything is written."""
        checked = check_options(options, _OPTIONS, self.name)
        for class_id, number in train_ids(taxonomy).items():
            if number is not None and not 0 <= number < _VOID:
                raise UsageError(
                    f'The class "{taxonomy.by_id[class_id].name}" has the train id {number}; in '
                    "KITTI-STEP train ids run from 0 to 254, 255 being VOID. Change `train_id` in "
                    "the taxonomy."
                )
        # The frames of a sequence stay together.
        checked.setdefault("group", f"{{{checked.get('sequence', 'video')}}}")
        return checked

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Return the record of one frame with the masks of its segments."""
        scene, taxonomy = scene_of(image, context), context.taxonomy
        numbers = train_ids(taxonomy)
        sequence, frame = _sequence_and_frame(image, context.options)
        split = image_split(image, context.options)
        segments = []
        losses = {
            "segments_without_train_id": 0,
            "tracks_not_given": 0,
            "segments_without_their_attributes": 0,
        }
        for segment in scene.segments:
            one = taxonomy.by_id[segment.class_id]
            if numbers[one.id] is None:
                losses["segments_without_train_id"] += 1
                continue
            is_object = one.is_thing and not is_flagged(segment.attributes, CROWD)
            given = given_track(segment.attributes) if is_object else None
            losses["tracks_not_given"] += is_object and given is None
            losses["segments_without_their_attributes"] += bool(
                {name.lower() for name in segment.attributes} - _HELD
            )
            rle = segment.mask.to_coco_rle()
            segments.append(
                {
                    "class_id": one.id,
                    "counts": rle["counts"].decode("ascii"),
                    "is_object": is_object,
                    "track": given,
                    "region": segment.region_ids[0],
                }
            )
        return image_record(
            image,
            [],
            split=split,
            sequence=sequence,
            frame=frame,
            image_file=f"images/{split}/{sequence}/{frame:06d}{image_ending(image.reference)}",
            segments=segments,
            losses=losses,
        )

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Link the objects of each sequence to tracks and write its PNGs.

        Raises:
            SegstudioError: two tasks are one frame, or a sequence has more tracks than 16 bits.
        """
        matches = context.options.get("tracks", "match") == "match"
        listed = []
        for split, sequence, frames in _sequences(records):
            objects = [list(_objects(frame)) for frame in frames]
            tracks = link_tracks(objects, matches=matches)
            folder = context.out_dir / "panoptic_maps" / split / sequence
            for frame, linked in zip(frames, tracks, strict=True):
                png = rgb_png(_painted(frame, [track.id for track in linked], context.taxonomy))
                write_bytes(folder / f"{frame['frame']:06d}.png", png)
            listed.append(
                {
                    "split": split,
                    "sequence": sequence,
                    "frames": len(frames),
                    "tracks": _listed(objects, tracks, frames, context.taxonomy),
                }
            )
        write_json(context.out_dir / "tracks.json", {"sequences": listed})
        write_json(context.out_dir / "classes.json", {"classes": _classes(context.taxonomy)})


def train_ids(taxonomy: Taxonomy) -> dict[int, int | None]:
    """Return each class's number in the PNGs by class id: its train id, None where it has none.

    Where no class of the taxonomy has a train id, classes are numbered from 0 in its order.
    """
    classes: tuple[SegmentClass, ...] = taxonomy.scored_classes
    if all(one.train_id is None for one in classes):
        return {one.id: number for number, one in enumerate(classes)}
    return {one.id: None if one.train_id == _VOID else one.train_id for one in classes}


def _sequence_and_frame(image: AnnotatedImage, options: Mapping[str, str]) -> tuple[str, int]:
    """Return where a frame belongs; its number is the field's, else the last one in its name."""
    name = str(image.task_data.get(options.get("sequence", "video"), "0000"))
    sequence = _NOT_IN_NAME.sub("_", name).lstrip(".-")[:_MOST_NAME_CHARS] or "0000"
    given = image.task_data.get(options.get("frame", "frame"))
    if given is None:
        digits = re.findall(r"\d+", image.file_stem.rpartition("-task")[0] or image.file_stem)
        given = digits[-1] if digits else None
    if isinstance(given, float) and given == int(given):
        given = int(given)
    if given is None or isinstance(given, bool) or not re.fullmatch(r"\d{1,9}", str(given)):
        raise SegstudioError(
            f"Task {image.task_id} has the frame '{given}', which is no whole number; give its "
            f"data a field '{options.get('frame', 'frame')}', or name one with --option frame=NAME."
        )
    return sequence, int(given)


def _sequences(
    records: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[str, str, list[Mapping[str, Any]]]]:
    """Yield split, name and frames in order of each sequence, sorted by split and name.

    The records are read several times, so that no more than one sequence, or `_FRAMES_AT_ONCE`
    frames of short ones, is in memory.
    """
    sizes = Counter((record["split"], record["sequence"]) for record in records)
    batches: list[list[tuple[str, str]]] = [[]]
    for place in sorted(sizes):
        if batches[-1] and sum(sizes[one] for one in [*batches[-1], place]) > _FRAMES_AT_ONCE:
            batches.append([])
        batches[-1].append(place)
    for batch in batches:
        found: dict[tuple[str, str], list[Mapping[str, Any]]] = {place: [] for place in batch}
        for record in records:
            if (place := (record["split"], record["sequence"])) in found:
                found[place].append(record)
        for (split, sequence), frames in found.items():
            yield split, sequence, _in_order(frames, sequence)


def _in_order(frames: list[Mapping[str, Any]], sequence: str) -> list[Mapping[str, Any]]:
    frames = sorted(frames, key=lambda one: int(one["frame"]))
    for one, other in pairwise(frames):
        if one["frame"] == other["frame"]:
            raise SegstudioError(
                f"Tasks {one['task_id']} and {other['task_id']} are both frame {one['frame']} of "
                f"the sequence {sequence}; give one of them another frame or video in its data."
            )
    return frames


def _mask(frame: Mapping[str, Any], segment: Mapping[str, Any]) -> Mask:
    size = [frame["height_px"], frame["width_px"]]
    return Mask.from_coco_rle({"size": size, "counts": segment["counts"]})


def _objects(frame: Mapping[str, Any]) -> Iterator[FrameObject]:
    for one in frame["segments"]:
        if one["is_object"]:
            yield FrameObject(one["class_id"], _mask(frame, one), one["track"], one["region"])


def _painted(frame: Mapping[str, Any], track_ids: list[int], taxonomy: Taxonomy) -> Any:
    pixels = np.zeros((frame["height_px"] * frame["width_px"], 3), np.uint8)
    pixels[:, 0] = _VOID
    numbers = train_ids(taxonomy)
    waiting = iter(track_ids)
    for one in frame["segments"]:
        track_id = next(waiting) if one["is_object"] else 0
        color = (numbers[one["class_id"]], track_id // 256, track_id % 256)
        for start, stop in _mask(frame, one).runs.tolist():
            pixels[start:stop] = color
    return pixels.reshape(frame["height_px"], frame["width_px"], 3)


def _listed(
    objects: list[list[FrameObject]],
    tracks: list[list[Track]],
    frames: list[Mapping[str, Any]],
    taxonomy: Taxonomy,
) -> list[dict[str, Any]]:
    """Return what each track is, and how its objects came to it."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for frame, members, linked in zip(frames, objects, tracks, strict=True):
        for one, track in zip(members, linked, strict=True):
            entry = found.setdefault(
                (one.class_id, track.id),
                {
                    "id": track.id,
                    "class": taxonomy.by_id[one.class_id].name,
                    "first_frame": frame["frame"],
                    "last_frame": frame["frame"],
                    "objects": {},
                },
            )
            entry["last_frame"] = frame["frame"]
            entry["objects"][track.reason] = entry["objects"].get(track.reason, 0) + 1
    return [found[key] for key in sorted(found)]


def _classes(taxonomy: Taxonomy) -> list[dict[str, Any]]:
    return [
        {
            "train_id": _VOID if number is None else number,
            "id": class_id,
            "name": taxonomy.by_id[class_id].name,
            "isthing": int(taxonomy.by_id[class_id].is_thing),
            "color": list(taxonomy.by_id[class_id].color),
        }
        for class_id, number in train_ids(taxonomy).items()
    ]
