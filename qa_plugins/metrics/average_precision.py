"""Mask average precision as COCO defines it, computed by pycocotools itself."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segstudio.masks import Mask


@dataclass(frozen=True, slots=True)
class ImageObjects:
    """The objects of one image: the gold's and an annotator's, as (class, mask)."""

    gold: tuple[tuple[str, Mask], ...]
    drawn: tuple[tuple[str, Mask], ...]


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """AP at IoU 0.5, at 0.75, and averaged over 0.5, 0.55 ... 0.95; None without a gold object."""

    at_50: float | None
    at_75: float | None
    at_50_to_95: float | None


def average_precision(
    images: Sequence[ImageObjects], class_names: Sequence[str]
) -> dict[str, AveragePrecision]:
    """Return the AP of each class.

    People give no scores, so every drawn object has the score 1: the precision is that of one point
    of the curve. All sizes count, and any number of objects an image.

    Args:
        images: one entry an image; images without objects count as well.
        class_names: the classes to judge; objects of others are left out.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ids = {name: number for number, name in enumerate(class_names, start=1)}
    truths: list[dict[str, Any]] = []
    drawings: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        truths += _entries(image.gold, ids, image_id, len(truths))
        drawings += _entries(image.drawn, ids, image_id, len(drawings))
    nothing = AveragePrecision(None, None, None)
    if not truths:
        return dict.fromkeys(class_names, nothing)
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    # pycocotools asks for sizes only to read polygons; a mask of runs has its own.
    listed = [{"id": at, "height": 1, "width": 1} for at in range(1, len(images) + 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = {"images": listed, "annotations": truths, "categories": categories}
        gold.createIndex()
        drawn = COCO()
        drawn.dataset = {"images": listed, "annotations": drawings, "categories": categories}
        drawn.createIndex()
        judge = COCOeval(gold, drawn, "segm")
        most = max([1, *(len(image.drawn) for image in images)])
        judge.params.maxDets = [most]
        judge.params.areaRng = [[0, 1e15]]
        judge.params.areaRngLbl = ["all"]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, 0]  # (IoU, recall, class)
    return {
        name: AveragePrecision(
            _mean(precision[0, :, number]),
            _mean(precision[5, :, number]),
            _mean(precision[:, :, number]),
        )
        for number, name in enumerate(class_names)
    }


def _entries(
    objects: Sequence[tuple[str, Mask]], ids: dict[str, int], image_id: int, taken: int
) -> list[dict[str, Any]]:
    return [
        {
            "id": taken + number,
            "image_id": image_id,
            "category_id": ids[name],
            "segmentation": mask.to_coco_rle(),
            "area": mask.area_px,
            "bbox": list(mask.bbox),
            "iscrowd": 0,
            "score": 1.0,
        }
        for number, (name, mask) in enumerate([one for one in objects if one[0] in ids], start=1)
    ]


def _mean(values: Any) -> float | None:
    known = np.asarray(values)[np.asarray(values) > -1]
    return float(known.mean()) if known.size else None
