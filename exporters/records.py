"""What an exporter's record holds, the same for every format, and the scene it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from exporters.names import image_ending
from segstudio.images import AnnotatedImage
from segstudio.plugins import ExportContext
from segstudio.region_classes import ClassedRegions, classify_regions
from segstudio.scene import OVERLAP_POLICIES, OverlapPolicy, Scene, scene_of_classified

_MAX_REFERENCE_CHARS = 2000

_Asked = TypeVar("_Asked")


def scene_of(image: AnnotatedImage, context: ExportContext) -> Scene:
    """Return the scene of an image under the export's taxonomy and overlap policy.

    The latest one is kept: the runner asks for it as well, to count what the card says.
    """
    return _latest(_scenes, image, context, _build)


def classified_regions(image: AnnotatedImage, context: ExportContext) -> ClassedRegions:
    """Return the regions of an image with their classes and pixels, as its scene has them.

    The latest ones are kept, so that a mask is decoded once.
    """
    return _latest(_classified, image, context, _classify)


_scenes: list[tuple[AnnotatedImage, ExportContext, Scene]] = []
_classified: list[tuple[AnnotatedImage, ExportContext, ClassedRegions]] = []


def _latest(
    kept: list[tuple[AnnotatedImage, ExportContext, _Asked]],
    image: AnnotatedImage,
    context: ExportContext,
    make: Callable[[AnnotatedImage, ExportContext], _Asked],
) -> _Asked:
    if kept and kept[0][0] is image and kept[0][1] is context:
        return kept[0][2]
    made = make(image, context)
    kept[:] = [(image, context, made)]
    return made


def _classify(image: AnnotatedImage, context: ExportContext) -> ClassedRegions:
    return classify_regions(image.regions, context.taxonomy, image.height_px, image.width_px)


def _build(image: AnnotatedImage, context: ExportContext) -> Scene:
    return scene_of_classified(
        classified_regions(image, context),
        context.taxonomy,
        image.height_px,
        image.width_px,
        overlap_policy(context),
        task_id=image.task_id,
        annotation_id=image.annotation_id,
    )


def known_ids(scene: Scene, image: AnnotatedImage, key: str) -> list[Any]:
    """Return what each segment was called in the data set that it was imported from, or None.

    Args:
        scene: the image's scene.
        image: the image.
        key: which of the names in `Region.source`: that of the segment's first region counts.
    """
    sources = {region.id: region.source for region in image.regions}
    return [sources.get(segment.region_ids[0], {}).get(key) for segment in scene.segments]


def overlap_policy(context: ExportContext) -> OverlapPolicy:
    """Return the overlap policy among the export's options, by default draw-order."""
    wanted = context.options.get("overlap", "draw-order")
    return wanted if wanted in OVERLAP_POLICIES else "draw-order"


def image_record(image: AnnotatedImage, files: Iterable[str], **more: Any) -> dict[str, Any]:
    """Return the JSON-able record of one image.

    Args:
        image: the image; its names, size and origin are taken over.
        files: the image's own files, relative to the export's folder. The runner looks for them
            before it takes over a finished image.
        more: whatever the format's `finish` needs. `losses`, a dict of counts, is added to the
            card's loss report; `image_file` is where the format wants the image itself, relative
            to the export's folder (default `images/<file_name>`), should it be copied or linked;
            with `image_as_png`, "rgb" or "grey", it is written anew as such a PNG.

    Returns:
        The record; `answers` holds the answers about the image as a whole, where there are any.
    """
    if image.answers:
        more = {"answers": dict(image.answers), **more}
    is_data = image.reference[:5].lower() == "data:"
    return {
        "stem": image.file_stem,
        "file_name": image.file_stem + image_ending(image.reference),
        "task_id": image.task_id,
        "to_name": image.key.to_name,
        "item_index": image.key.item_index,
        "reference": "" if is_data else image.reference[:_MAX_REFERENCE_CHARS],
        "height_px": image.height_px,
        "width_px": image.width_px,
        "annotation_id": image.annotation_id,
        "annotator_id": image.annotator_id,
        "files": list(files),
        **more,
    }


def with_image_ids(
    records: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Pair each record with an integer image id: its task's id where every task has one image.

    Else the images are numbered from 1 in task order. The records are read twice.
    """
    tasks: set[int] = set()
    one_image_a_task = True
    for record in records:
        if record["task_id"] in tasks:
            one_image_a_task = False
            break
        tasks.add(record["task_id"])
    for number, record in enumerate(records, start=1):
        yield (record["task_id"] if one_image_a_task else number), record
