"""Cityscapes: label ids, instance ids, colours and polygons of each image.

Layout: `gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_{labelIds,instanceIds,color}.png`
and `..._gtFine_polygons.json`; images belong into `leftImg8bit/<split>/<city>/`. Label ids are the
taxonomy's class ids, 0 is unlabeled and ignored, as are VOID pixels. An instance id is 1000 times
the class id plus the object's number in its class; stuff and groups (crowds) have their class id.

The polygons, drawn in their order by cityscapesscripts, give back the label and instance images.
Source: github.com/mcordts/cityscapesScripts (README, json2instanceImg.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from exporters.cityscapes_objects import DrawnObject, drawn_objects
from exporters.files import write_bytes, write_json, write_text
from exporters.names import image_ending
from exporters.options import SPLIT_OPTIONS, check_options, image_split
from exporters.png import grey8_png, grey16_png, rgb_png
from exporters.records import image_record, scene_of
from segstudio.errors import SegstudioError, UsageError
from segstudio.images import AnnotatedImage
from segstudio.label_config import LabelConfig
from segstudio.plugins import ExportContext
from segstudio.scene import Scene
from segstudio.taxonomy import Taxonomy

_OPTIONS: Final = {"city": (), "train_ids": ("no", "yes"), **SPLIT_OPTIONS}
_UNLABELED_ID: Final = 0
_IGNORED_TRAIN_ID: Final = 255
# 16 bits hold 1000 instances each of the classes up to this.
_LARGEST_THING_ID: Final = 64
_OFFICIAL: Final = re.compile(r"([A-Za-z0-9-]+)_(\d{6})_(\d{6})(?:_leftImg8bit)?")
_FIELD: Final = re.compile(r"\{([^{}]+)\}")
_NOT_IN_CITY: Final = re.compile(r"[^A-Za-z0-9-]+")
_MOST_CITY_CHARS: Final = 50


class CityscapesExporter:
    """Writes Cityscapes."""

    name = "cityscapes"
    summary = "Cityscapes: labelIds, instanceIds, color and polygons in the tree of gtFine"
    next_step = "Put the images into leftImg8bit/<split>/<city>/; cityscapesscripts' "\
        "createPanopticImgs and createTrainIdLabelImgs read gtFine."  # fmt: skip

    def prepare(self, options: Mapping[str, str], taxonomy: Taxonomy) -> dict[str, str]:
        """Check the options, and that the classes fit, before anything is written."""
        checked = check_options(options, _OPTIONS, self.name)
        for one in taxonomy.scored_classes:
            largest = _LARGEST_THING_ID if one.is_thing else 255
            if not 1 <= one.id <= largest:
                raise UsageError(
                    f'The class "{one.name}" ({one.kind}) has the id {one.id}; in Cityscapes ids '
                    f"run from 1 to 255, those of things to {_LARGEST_THING_ID}, as 1000 times the "
                    "id must fit 16 bits. Give it another id in the taxonomy, or choose "
                    "coco-panoptic, which holds any id."
                )
        return checked

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Write the images and the polygons of one image."""
        scene, taxonomy = scene_of(image, context), context.taxonomy
        objects, losses = drawn_objects(scene, taxonomy)
        city, core = _city_and_core(image, context.options, context.label_config)
        split = image_split(image, context.options)
        stem = f"gtFine/{split}/{city}/{core}_gtFine"
        labels = _table(objects, scene, [one.class_id for one in objects], np.uint8)
        contents = {
            "labelIds": grey8_png(labels),
            "instanceIds": grey16_png(
                _table(objects, scene, [one.instance_id for one in objects], np.uint16)
            ),
            "color": rgb_png(_colors(taxonomy)[labels]),
        }
        if context.options.get("train_ids") == "yes":
            contents["labelTrainIds"] = grey8_png(_train_ids(taxonomy)[labels])
        for kind, content in contents.items():
            write_bytes(context.out_dir / f"{stem}_{kind}.png", content)
        polygons = f"{stem}_polygons.json"
        write_text(context.out_dir / polygons, _polygons_json(objects, scene))
        return image_record(
            image,
            [*(f"{stem}_{kind}.png" for kind in contents), polygons],
            core=core,
            image_file=f"leftImg8bit/{split}/{city}/{core}_leftImg8bit"
            + image_ending(image.reference),
            losses={**losses, "void_px_as_unlabeled": scene.void_mask.area_px},
        )

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Write classes.json: the table of labels, in the terms of cityscapesscripts' labels.py.

        Raises:
            SegstudioError: two images have one Cityscapes name.
        """
        seen: dict[str, int] = {}
        for record in records:
            if record["core"] in seen:
                raise SegstudioError(
                    f"Tasks {seen[record['core']]} and {record['task_id']} would both be "
                    f"{record['core']}; rename one of their images, or give --option city=NAME."
                )
            seen[record["core"]] = record["task_id"]
        write_json(context.out_dir / "classes.json", {"labels": _labels(context.taxonomy)})


def _city_and_core(
    image: AnnotatedImage, options: Mapping[str, str], config: LabelConfig
) -> tuple[str, str]:
    """Return the city and the name up to the type: the image's own where it is Cityscapes'."""
    if "city" not in options and (own := _OFFICIAL.fullmatch(image.file_stem)):
        return own[1], "_".join(own.groups())
    wanted = options.get("city", "city")
    if found := _FIELD.fullmatch(wanted):
        wanted = str(image.task_data.get(found[1], ""))
    city = _NOT_IN_CITY.sub("-", wanted).strip("-")[:_MOST_CITY_CHARS] or "city"
    tags = [tag.name for tag in config.images]
    tag = tags.index(image.key.to_name) if image.key.to_name in tags else 0
    return city, f"{city}_{image.task_id:06d}_{tag * 10_000 + image.key.item_index:06d}"


def _table(objects: list[DrawnObject], scene: Scene, numbers: list[int], dtype: Any) -> Any:
    """Return the image whose pixels have their object's number; 0 where there is none."""
    by_segment = np.zeros(len(scene.segments) + 1, dtype)
    for one, number in zip(objects, numbers, strict=True):
        by_segment[one.segment_id] = number
    return by_segment[scene.instance_map()]


def _colors(taxonomy: Taxonomy) -> Any:
    colors = np.zeros((256, 3), np.uint8)
    for one in taxonomy.scored_classes:
        colors[one.id] = one.color
    return colors


def _train_ids(taxonomy: Taxonomy) -> Any:
    numbers = np.full(256, _IGNORED_TRAIN_ID, np.uint8)
    for one in taxonomy.scored_classes:
        if one.train_id is not None and 0 <= one.train_id <= _IGNORED_TRAIN_ID:
            numbers[one.id] = one.train_id
    return numbers


def _polygons_json(objects: list[DrawnObject], scene: Scene) -> str:
    from exporters.files import compact_json

    entries = []
    for one in objects:
        extra = {"attributes": dict(one.attributes)} if one.attributes else {}
        entries += [{"label": one.label, "polygon": polygon, **extra} for polygon in one.polygons]
    lines = ",\n".join(compact_json(entry) for entry in entries)
    return (
        f'{{"imgHeight": {scene.height_px}, "imgWidth": {scene.width_px}, "objects": [\n'
        f"{lines}\n]}}\n"
    )


def _labels(taxonomy: Taxonomy) -> list[dict[str, Any]]:
    unlabeled = {
        "name": "unlabeled", "id": _UNLABELED_ID, "trainId": _IGNORED_TRAIN_ID,
        "category": "void", "hasInstances": False, "ignoreInEval": True, "color": [0, 0, 0],
    }  # fmt: skip
    train_ids = _train_ids(taxonomy)
    has_train_ids = any(one.train_id is not None for one in taxonomy.scored_classes)
    return [
        unlabeled,
        *(
            {
                "name": one.name,
                "id": one.id,
                "trainId": int(train_ids[one.id]),
                "category": one.supercategory or one.name,
                "hasInstances": one.is_thing,
                "ignoreInEval": has_train_ids and int(train_ids[one.id]) == _IGNORED_TRAIN_ID,
                "color": list(one.color),
            }
            for one in taxonomy.scored_classes
        ),
    ]
