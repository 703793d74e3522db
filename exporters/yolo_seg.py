"""YOLO segmentation as Ultralytics reads it: a line an object, `class x1 y1 x2 y2 ...`.

Layout: `labels/<split>/<image>.txt` (empty for an image without objects), `data.yaml`,
`loss.json`; images belong into `images/<split>/`. Coordinates are shares of width and height.
Classes count from 0 in the taxonomy's order.

A line is one ring. Ultralytics rounds its points down to pixels and draws outline and inside with
OpenCV's `fillPoly`; rings are written so that this gives back the very mask (`exporters.outlines`).
Holes hang on bridges inside the mask and cost nothing. Parts are joined by bridges one pixel wide,
or become an object each, as the option `parts` says; what that costs is measured by reading every
line back, and stated in `loss.json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.files import write_json, write_text
from exporters.instances import INSTANCE_OPTIONS, instances_of
from exporters.names import image_ending
from exporters.options import SPLIT_OPTIONS, check_options, image_split
from exporters.outlines import single_ring
from exporters.records import image_record
from segstudio.images import AnnotatedImage
from segstudio.masks import Mask, iou
from segstudio.plugins import ExportContext
from segstudio.taxonomy import Taxonomy

_OPTIONS: Final = {"parts": ("bridge", "split"), **INSTANCE_OPTIONS, **SPLIT_OPTIONS}

_INSET_PX: Final = 0.1
# Ultralytics takes lines of one class and box for doubles and drops them: each gets its own inset.
_INSET_STEP_PX: Final = 0.02
_MOST_INSET_PX: Final = 0.45
_LOADERS_POINTS: Final = 1000


class YoloSegExporter:
    """Writes YOLO segmentation labels."""

    name = "yolo-seg"
    summary = "YOLO segmentation: a text file an image, one polygon an object, and data.yaml"
    next_step = "Put the images into images/<split>/ and train with data=data.yaml; loss.json "\
        "says how well the polygons give back the masks."  # fmt: skip

    def prepare(self, options: Mapping[str, str], taxonomy: Taxonomy) -> dict[str, str]:
        """Check the options before anything is written."""
        return check_options(options, _OPTIONS, self.name)

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Write the label file of one image; the record holds how well it reads back."""
        instances, losses = instances_of(image, context)
        numbers = {one.id: at for at, one in enumerate(context.taxonomy.scored_classes)}
        splits_parts = context.options.get("parts") == "split"
        doubles: Counter[tuple[int, tuple[int, ...]]] = Counter()
        lines, ious = [], []
        losses |= {"parts_bridged": 0, "bridge_px": 0, "parts_split": 0}
        losses["segments_without_their_attributes"] = sum(bool(one.attributes) for one in instances)
        for instance in instances:
            masks = instance.mask.components() if splits_parts else [instance.mask]
            losses["parts_split"] += len(masks) - 1
            number = numbers[instance.segment_class.id]
            for mask in masks:
                ring = single_ring(mask)
                assert ring is not None  # noqa: S101 - for mypy: no mask here is empty
                key = (number, mask.bbox)
                inset_px = min(_INSET_PX + doubles[key] * _INSET_STEP_PX, _MOST_INSET_PX)
                doubles[key] += 1
                line = _line(ring.points(inset_px), image.height_px, image.width_px)
                drawn = _read_back(line, image.height_px, image.width_px)
                losses["parts_bridged"] += ring.bridged_parts
                losses["bridge_px"] += (drawn - mask).area_px
                ious.append(iou(drawn, mask) or 0.0)
                lines.append(f"{number} {line}\n")
        split = image_split(image, context.options)
        file = f"labels/{split}/{image.file_stem}.txt"
        write_text(context.out_dir / file, "".join(lines))
        return image_record(
            image,
            [file],
            split=split,
            image_file=f"images/{split}/{image.file_stem}" + image_ending(image.reference),
            iou={"sum": sum(ious), "lowest": min(ious, default=1.0), "lines": len(ious),
                 "exact": ious.count(1.0)},
            losses=losses,
        )  # fmt: skip

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Write data.yaml and loss.json."""
        splits: dict[str, None] = {}
        total = {"lines": 0, "exact": 0, "mean_iou": 0.0, "lowest_iou": 1.0}
        for record in records:
            splits[record["split"]] = None
            found = record["iou"]
            total["lines"] += found["lines"]
            total["exact"] += found["exact"]
            total["mean_iou"] += found["sum"]
            total["lowest_iou"] = min(total["lowest_iou"], found["lowest"])
        total["mean_iou"] = total["mean_iou"] / total["lines"] if total["lines"] else 1.0
        write_json(
            context.out_dir / "loss.json",
            {"read_back": "as Ultralytics draws the lines, at the images' own size", **total},
        )
        write_text(context.out_dir / "data.yaml", _data_yaml(sorted(splits), context.taxonomy))


def _line(points: NDArray[np.float64], height_px: int, width_px: int) -> str:
    shares = (points / (width_px, height_px)).ravel()
    return " ".join(f"{share:.6f}".rstrip("0") for share in shares.tolist())


def _read_back(line: str, height_px: int, width_px: int) -> Mask:
    """Return the mask that Ultralytics makes of a line at the image's own size.

    It reads float32, adds points between the corners up to a thousand, scales, rounds down, and
    draws outline and inside with OpenCV.
    """
    import cv2

    points = _resampled(np.array(line.split(), dtype=np.float32).reshape(-1, 2))
    pixels = (points * np.array([width_px, height_px], dtype=np.float32)).astype(np.int32)
    drawn = np.zeros((height_px, width_px), np.uint8)
    cv2.fillPoly(drawn, [pixels], 1)
    return Mask.from_dense(drawn)


def _resampled(points: NDArray[np.float32]) -> NDArray[np.float32]:
    closed = np.concatenate([points, points[:1]])
    corners = np.arange(len(closed))
    if len(closed) >= _LOADERS_POINTS:
        return closed
    at = np.linspace(0, len(closed) - 1, _LOADERS_POINTS - len(closed))
    at = np.sort(np.concatenate([at, corners]), kind="stable")
    columns = [np.interp(at, corners, closed[:, axis]) for axis in (0, 1)]
    return np.stack(columns, axis=1).astype(np.float32)


def _data_yaml(splits: list[str], taxonomy: Taxonomy) -> str:
    """Return Ultralytics' description of the data set; it wants a train and a val split.

    Without `path`, folders are those beside the file.
    """
    import yaml

    document: dict[str, Any] = {split: f"images/{split}" for split in splits}
    only = document[splits[0]] if splits else "images/train"
    document.setdefault("train", only)
    document.setdefault("val", document["train"])
    document["names"] = {at: one.name for at, one in enumerate(taxonomy.scored_classes)}
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text
