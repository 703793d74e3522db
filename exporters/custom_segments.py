"""The segments of an image under a custom schema's classes, and the values of instance maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.custom_schema import OutputClass, OutputFile, Schema, largest_value
from segstudio.images import AnnotatedImage
from segstudio.masks import Mask, union_all
from segstudio.polygons import mask_polygons
from segstudio.scene import Scene


@dataclass(frozen=True, slots=True)
class OutputSegment:
    """A segment of the data set: of a thing class one object, of a stuff class all there is.

    `number` counts all segments of the image from 1, `number_in_class` those of its class.
    """

    number: int
    number_in_class: int
    output_class: OutputClass
    mask: Mask
    attributes: Mapping[str, Any]

    @property
    def class_id(self) -> int:
        """The output class's id."""
        return self.output_class.id

    @property
    def class_name(self) -> str:
        """The output class's name."""
        return self.output_class.name

    @property
    def is_thing(self) -> bool:
        """Whether it is one object."""
        return self.output_class.is_thing

    @property
    def area_px(self) -> int:
        """Its number of pixels."""
        return self.mask.area_px

    @property
    def bbox(self) -> list[int]:
        """[x, y, width, height] in pixels."""
        return list(self.mask.bbox)

    @property
    def rle(self) -> dict[str, Any]:
        """COCO RLE with its counts as text."""
        rle = self.mask.to_coco_rle()
        counts = rle["counts"]
        text = counts.decode("ascii") if isinstance(counts, bytes) else counts
        return {"size": list(rle["size"]), "counts": text}

    @property
    def polygons(self) -> list[dict[str, Any]]:
        """Exact outlines: each part's outer ring and its holes, as [[x, y], ...] in pixels."""
        return [
            {"outer": _points(outer), "holes": [_points(hole) for hole in holes]}
            for outer, holes in mask_polygons(self.mask)
        ]

    def as_json(self) -> dict[str, Any]:
        """Return what a split's or the data set's template gets of it."""
        return {
            "number": self.number,
            "number_in_class": self.number_in_class,
            "class_id": self.class_id,
            "class_name": self.class_name,
            "is_thing": self.is_thing,
            "area_px": self.area_px,
            "bbox": self.bbox,
            "rle": self.rle,
            "attributes": dict(self.attributes),
        }


@dataclass(frozen=True, slots=True)
class OutputImage:
    """An image with its split and its segments under the schema's classes."""

    image: AnnotatedImage
    split: str
    scene: Scene
    segments: tuple[OutputSegment, ...]
    left_out: tuple[Mask, ...]
    schema: Schema

    @property
    def void_mask(self) -> Mask:
        """What is not to be judged: VOID, and with `others: void` the classes left out."""
        masks = [self.scene.void_mask]
        if self.schema.others == "void":
            masks += self.left_out
        return union_all(masks, self.image.height_px, self.image.width_px)

    def paint(self, values: list[int], background: int, void: int) -> NDArray[np.int64]:
        """Return (height, width): each segment's value, else VOID's or the background's."""
        painted = np.full((self.image.height_px, self.image.width_px), background, np.int64)
        painted[self.void_mask.to_dense()] = void
        for segment, value in zip(self.segments, values, strict=True):
            painted[segment.mask.to_dense()] = value
        return painted


def output_segments(
    scene: Scene, schema: Schema
) -> tuple[tuple[OutputSegment, ...], tuple[Mask, ...]]:
    """Return a scene's segments under the schema's classes, and the masks no class takes.

    Merged stuff is one segment; objects of merged thing classes stay apart.
    """
    grouped: list[tuple[OutputClass, list[Mask], dict[str, Any]]] = []
    stuff: dict[int, int] = {}
    left_out: list[Mask] = []
    for segment in scene.segments:
        found = schema.class_ids.get(segment.class_id)
        if found is None:
            left_out.append(segment.mask)
        elif not found.is_thing and found.id in stuff:
            _, masks, attributes = grouped[stuff[found.id]]
            masks.append(segment.mask)
            attributes.update(segment.attributes)
        else:
            stuff[found.id] = len(grouped)
            grouped.append((found, [segment.mask], dict(segment.attributes)))
    counts: dict[int, int] = {}
    segments: list[OutputSegment] = []
    for number, (output_class, masks, attributes) in enumerate(grouped, start=1):
        counts[output_class.id] = counts.get(output_class.id, 0) + 1
        mask = union_all(masks, scene.height_px, scene.width_px)
        segments.append(
            OutputSegment(number, counts[output_class.id], output_class, mask, attributes)
        )
    return tuple(segments), tuple(left_out)


def instance_values(segments: Iterable[OutputSegment], file: OutputFile) -> list[int]:
    """Return each segment's value in an instance map.

    Raises:
        ValueError: more objects of a class than the encoding can tell apart, two segments of one
            value, an object of the value 0, which means no object, or a value that the dtype does
            not hold.
    """
    values: list[int] = []
    taken: dict[int, OutputSegment] = {}
    things = 0
    for segment in segments:
        counts = segment.is_thing or file.stuff == "number"
        if counts:
            things += 1
            number = (segment.number_in_class if file.class_step else things) - 1
            number += file.first_number
            if file.class_step and number >= file.class_step:
                raise ValueError(
                    f"The image has {segment.number_in_class} objects of '{segment.class_name}' or "
                    f"more; 'class * {file.class_step} + number' cannot tell them apart."
                )
            value = segment.class_id * file.class_step + number
        else:
            value = segment.class_id if file.stuff == "class" else 0
        if value > largest_value(file.dtype):
            raise ValueError(
                f"The instance value {value} does not fit the {file.dtype} of '{file.path}'."
            )
        if counts and value == 0:
            raise ValueError(
                f"An object of '{segment.class_name}' has the instance value 0 in '{file.path}', "
                "as pixels without any object; choose another first_number or class id."
            )
        if value and (other := taken.setdefault(value, segment)) is not segment:
            raise ValueError(
                f"'{other.class_name}' and '{segment.class_name}' both have the instance value "
                f"{value} in '{file.path}'; choose another 'value' or 'stuff' there."
            )
        values.append(value)
    return values


def _points(ring: Any) -> list[list[float]]:
    return [[float(x), float(y)] for x, y in np.asarray(ring)]
