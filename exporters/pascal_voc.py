"""Pascal VOC 2012: label maps with VOC's colours, objects as XML, lists of images.

Layout: `Annotations/<image>.xml`, `SegmentationClass/<image>.png`,
`SegmentationObject/<image>.png`, `ImageSets/Segmentation/<split>.txt`,
`ImageSets/Main/<split>.txt`, `labelmap.txt`; images belong into `JPEGImages/`. A pixel's value is
its class id, or the number of its object in the XML; 0 is background, 255 VOID. Boxes count pixels
from 1 and include their last one. Format: the VOC2012 development kit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from xml.etree import ElementTree as ET  # only writes

import numpy as np
from numpy.typing import NDArray

from exporters.files import write_bytes, write_text
from exporters.flags import is_flagged
from exporters.options import SPLIT_OPTIONS, check_options, image_split
from exporters.png import indexed_png
from exporters.records import image_record, scene_of
from segstudio.errors import SegstudioError, UsageError
from segstudio.images import AnnotatedImage
from segstudio.plugins import ExportContext
from segstudio.scene import Scene, Segment
from segstudio.taxonomy import Taxonomy

_OPTIONS: Final = {"border_px": (), "tree": ("flat", "devkit"), **SPLIT_OPTIONS}
_VOID: Final = 255
_MOST_OBJECTS: Final = 254
_MOST_BORDER_PX: Final = 50
_FLAGS: Final = {
    "truncated": ("truncated",),
    "difficult": ("difficult",),
    "occluded": ("occluded",),
}
_NOT_IN_LABELMAP: Final = re.compile(r"[:\s]+")
# Characters that XML 1.0 cannot hold, not even escaped.
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class PascalVocExporter:
    """Writes Pascal VOC."""

    name = "pascal-voc"
    summary = "Pascal VOC 2012: palette PNGs of classes and of objects, XML, image lists"
    next_step = "Put the images into JPEGImages/; ImageSets/Segmentation/<split>.txt lists them."

    def prepare(self, options: Mapping[str, str], taxonomy: Taxonomy) -> dict[str, str]:
        """Check the options, and that the classes fit, before anything is written."""
        checked = check_options(options, _OPTIONS, self.name)
        _border_px(checked)
        for one in taxonomy.scored_classes:
            if not 1 <= one.id < _VOID:
                raise UsageError(
                    f'The class "{one.name}" has the id {one.id}; in Pascal VOC ids run from 1 to '
                    "254, 0 being background and 255 VOID. Give it another id in the taxonomy, or "
                    "choose semantic-png or coco-panoptic, which hold any id."
                )
        return checked

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Write the two PNGs and the XML of one image."""
        scene = scene_of(image, context)
        if len(scene.segments) > _MOST_OBJECTS:
            raise SegstudioError(
                f"The image has {len(scene.segments)} segments; Pascal VOC numbers at most "
                f"{_MOST_OBJECTS} in an image. Choose coco-panoptic or cityscapes for it."
            )
        void = scene.void_mask.to_dense()
        objects = scene.instance_map().astype(np.uint8)
        objects[void] = _VOID
        border = border_of(objects, _border_px(context.options))
        ids = np.array([0, *(segment.class_id for segment in scene.segments)], np.uint8)
        classes = np.where(void, np.uint8(_VOID), ids[np.where(void, 0, objects)])
        objects[border] = classes[border] = _VOID
        root = "VOCdevkit/VOC2012/" if context.options.get("tree") == "devkit" else ""
        record = image_record(
            image,
            [
                f"{root}Annotations/{image.file_stem}.xml",
                f"{root}SegmentationClass/{image.file_stem}.png",
                f"{root}SegmentationObject/{image.file_stem}.png",
            ],
            split=image_split(image, context.options),
            losses={"border_px": int((border & ~void).sum())},
        )
        record["image_file"] = f"{root}JPEGImages/{record['file_name']}"
        xml, *pngs = record["files"]
        write_text(context.out_dir / xml, _xml(record["file_name"], scene, context.taxonomy))
        for file, values in zip(pngs, (classes, objects), strict=True):
            write_bytes(context.out_dir / file, indexed_png(values, VOC_COLORS))
        return record

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Write the lists of images and labelmap.txt."""
        splits: dict[str, list[str]] = {}
        for record in records:
            splits.setdefault(record["split"], []).append(record["stem"])
        root = context.out_dir
        if context.options.get("tree") == "devkit":
            root = root / "VOCdevkit" / "VOC2012"
        for split, stems in splits.items():
            text = "".join(f"{stem}\n" for stem in stems)
            for folder in ("Segmentation", "Main"):
                write_text(root / "ImageSets" / folder / f"{split}.txt", text)
        lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
        for one in sorted(context.taxonomy.scored_classes, key=lambda one: one.id):
            color = ",".join(str(channel) for channel in VOC_COLORS[one.id])
            name = _NOT_IN_LABELMAP.sub(" ", one.name)
            lines.append(f"{name}:{color}::")
        # Readers that go by colours want to know VOID's as well; the name is datumaro's.
        lines.append("ignored:224,224,192::")
        write_text(root / "labelmap.txt", "\n".join(lines) + "\n")


def voc_color(index: int) -> tuple[int, int, int]:
    """Return the colour of an index: its bits dealt to red, green and blue, highest place first.

    >>> voc_color(1), voc_color(15), voc_color(255)
    ((128, 0, 0), (192, 128, 128), (224, 224, 192))
    """
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    red, green, blue = channels
    return red, green, blue


VOC_COLORS: Final = [voc_color(index) for index in range(256)]


def border_of(objects: NDArray[np.uint8], border_px: int) -> NDArray[np.bool_]:
    """Return the pixels within `border_px` (chessboard distance) of one of another value.

    The image's own border is none. 0 gives no pixel.
    """
    import cv2

    kernel = np.ones((2 * border_px + 1, 2 * border_px + 1), np.uint8)
    highest = cv2.dilate(objects, kernel, borderType=cv2.BORDER_REPLICATE)
    lowest = cv2.erode(objects, kernel, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(highest != lowest)


def _border_px(options: Mapping[str, str]) -> int:
    text = options.get("border_px", "0")
    if not text.isdecimal() or int(text) > _MOST_BORDER_PX:
        raise UsageError(
            f"The option border_px is '{text}'; write a whole number of pixels from 0 (no border) "
            f"to {_MOST_BORDER_PX}, taken on each side of a border; VOC's own are about 5 in all."
        )
    return int(text)


def _xml(file_name: str, scene: Scene, taxonomy: Taxonomy) -> str:
    root = ET.Element("annotation")
    _add(root, "folder", "VOC2012")
    _add(root, "filename", file_name)
    _add(ET.SubElement(root, "source"), "database", taxonomy.name)
    size = ET.SubElement(root, "size")
    for name, value in (("width", scene.width_px), ("height", scene.height_px), ("depth", 3)):
        _add(size, name, value)
    _add(root, "segmented", int(bool(scene.segments)))
    for segment in scene.segments:
        _add_object(root, segment, taxonomy)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _add_object(root: ET.Element, segment: Segment, taxonomy: Taxonomy) -> None:
    one = ET.SubElement(root, "object")
    _add(one, "name", taxonomy.by_id[segment.class_id].name)
    _add(one, "pose", "Unspecified")
    for flag, names in _FLAGS.items():
        _add(one, flag, int(is_flagged(segment.attributes, names)))
    x, y, width, height = segment.mask.bbox
    box = ET.SubElement(one, "bndbox")
    corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
    for name, value in corners.items():
        _add(box, name, value)
    others = {
        name: answer for name, answer in segment.attributes.items() if name.lower() not in _FLAGS
    }
    if others:
        attributes = ET.SubElement(one, "attributes")
        for name, answer in others.items():
            attribute = ET.SubElement(attributes, "attribute")
            _add(attribute, "name", name)
            answers = answer if isinstance(answer, list | tuple) else [answer]
            _add(attribute, "value", ", ".join(str(each) for each in answers))


def _add(parent: ET.Element, name: str, value: object) -> None:
    ET.SubElement(parent, name).text = _NOT_XML.sub("\ufffd", str(value))
