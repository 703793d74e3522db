"""A team's own layout, written as its YAML schema says: ids, merges, colours, files, splits.

`--option schema=FILE.yaml` names the schema (`exporters.custom_schema`, `docs/formats.md`).
Texts are Jinja templates, rendered in a sandbox.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.custom_schema import OutputFile, Schema, parse_schema, safe_part
from exporters.custom_segments import OutputImage, instance_values, output_segments
from exporters.custom_templates import compile_template, render_text, stream_text
from exporters.files import atomic_writer, write_bytes
from exporters.panoptic_ids import id_to_color
from exporters.png import grey16_png, indexed_png, rgb_png
from exporters.records import image_record, scene_of
from exporters.splits import split_of
from segstudio.errors import UsageError
from segstudio.images import AnnotatedImage
from segstudio.masks import Mask, union_all
from segstudio.plugins import ExportContext
from segstudio.taxonomy import Taxonomy

_GREYS = [(value, value, value) for value in range(256)]


class CustomExporter:
    """Writes what a schema describes."""

    name = "custom"
    summary = "Your own layout, from a YAML schema: ids, merges, colours, files, splits"
    next_step = "The schema says what each file is; dataset.json repeats the classes."

    def prepare(self, options: Mapping[str, str], taxonomy: Taxonomy) -> dict[str, str]:
        """Read and check the schema before anything is written; its text becomes the option."""
        if "schema" not in options:
            raise UsageError("The format custom needs --option schema=FILE.yaml.")
        path = Path(options["schema"])
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The schema {path} cannot be read: {error}.") from error
        schema = parse_schema(text, taxonomy, where=path.name)
        for file in schema.files:
            if file.type == "text":
                compile_template(file.template, file.path)
        return {**options, "schema": text, "schema_name": path.name}

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Write the files of one image."""
        schema = _schema(context)
        scene = scene_of(image, context)
        segments, left_out = output_segments(scene, schema)
        split = split_of(image, schema.splits)
        picture = OutputImage(image, split, scene, segments, left_out, schema)
        written: list[str] = []
        for file in schema.files:
            for path, content in _image_files(file, picture):
                if path in written:
                    raise ValueError(
                        f"Two files of the image are named '{path}'; give them paths of their own "
                        "in the schema."
                    )
                write_bytes(context.out_dir / path, content)
                written.append(path)
        record = image_record(image, written, losses={"segments_outside_the_schema": len(left_out)})
        more: dict[str, Any] = {"split": split, "data": dict(image.task_data)}
        if any(file.segments for file in schema.files):
            more["segments"] = [one.as_json() for one in segments]
        return {**record, **more}

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Write the texts of each split and of the whole data set."""
        schema = _schema(context)
        splits = sorted({str(record["split"]) for record in records})
        for file in schema.files:
            if file.per == "dataset":
                parts: dict[str, str | None] = {file.path: None}
            elif file.per == "split":
                parts = {_fill(file.path, {"split": split}): split for split in splits}
                if len(parts) < len(splits):
                    raise UsageError(
                        f"As file names some of the splits {', '.join(splits)} are the same; "
                        "rename them under 'splits: values'."
                    )
            else:
                continue
            for path, split in parts.items():
                values = {
                    "images": _Images(records, split),
                    "split": split or "",
                    "splits": splits,
                    "classes": schema.classes,
                    "name": schema.name,
                }
                text = stream_text(file.template, file.path, values, is_json=_is_json(path))
                with atomic_writer(context.out_dir / path) as out:
                    for piece in text:
                        out.write(piece.encode("utf-8"))


def _image_files(file: OutputFile, picture: OutputImage) -> Iterator[tuple[str, bytes]]:
    schema, segments = picture.schema, picture.segments
    places = {
        "split": picture.split,
        "stem": picture.image.file_stem,
        "task_id": str(picture.image.task_id),
    }
    path = _fill(file.path, places)
    if file.type == "label-map":
        ids = [segment.class_id for segment in segments]
        pixels = picture.paint(ids, schema.unlabelled, schema.void)
        palette = _palette(schema) if file.palette else _GREYS
        yield path, _map_bytes(pixels, file, palette)
    elif file.type == "instance-map":
        yield path, _map_bytes(picture.paint(instance_values(segments, file), 0, 0), file, _GREYS)
    elif file.type == "color-map":
        numbers = picture.paint([one.number for one in segments], 0, 0)
        colors = [(0, 0, 0), *(one.output_class.color for one in segments)]
        yield path, rgb_png(np.array(colors, np.uint8)[numbers])
    elif file.type == "masks":
        for extra, mask in _masks(file, picture):
            dense = np.where(mask.to_dense(), np.uint8(file.foreground), np.uint8(0))
            yield _fill(file.path, {**places, **extra}), indexed_png(dense, _GREYS)
    elif file.per == "image":
        values = {
            "image": {
                **image_record(picture.image, []),
                "split": picture.split,
                "data": dict(picture.image.task_data),
            },
            "segments": segments,
            "classes": schema.classes,
            "name": schema.name,
        }
        text = render_text(file.template, file.path, values, is_json=_is_json(path))
        yield path, text.encode("utf-8")


def _masks(file: OutputFile, picture: OutputImage) -> Iterator[tuple[dict[str, str], Mask]]:
    if file.per == "segment":
        for one in picture.segments:
            names = {"class": safe_part(one.class_name), "class_id": str(one.class_id)}
            yield {**names, "number": str(one.number)}, one.mask
        return
    size = picture.image.height_px, picture.image.width_px
    for output_class in picture.schema.classes:
        names = {"class": safe_part(output_class.name), "class_id": str(output_class.id)}
        masks = [one.mask for one in picture.segments if one.class_id == output_class.id]
        yield names, union_all(masks, *size)


def _map_bytes(
    pixels: NDArray[np.int64], file: OutputFile, palette: list[tuple[int, int, int]]
) -> bytes:
    if file.path.endswith(".npy"):
        buffer = io.BytesIO()
        np.save(buffer, pixels.astype(file.dtype), allow_pickle=False)
        return buffer.getvalue()
    if file.dtype == "uint8":
        return indexed_png(pixels.astype(np.uint8), palette)
    if file.dtype == "uint16":
        return grey16_png(pixels.astype(np.uint16))
    numbers, positions = np.unique(pixels, return_inverse=True)
    colors = np.array([id_to_color(int(number)) for number in numbers], np.uint8)
    return rgb_png(colors[positions.reshape(pixels.shape)])


def _palette(schema: Schema) -> list[tuple[int, int, int]]:
    colors = {one.id: one.color for one in schema.classes}
    return [colors.get(number, (0, 0, 0)) for number in range(256)]


class _Images:
    """The records of a split, or of all images, for a template: read again at every loop."""

    def __init__(self, records: Iterable[dict[str, Any]], split: str | None = None) -> None:
        self._records = records
        self._split = split

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (record for record in self._records if self._split in (None, record["split"]))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_json(path: str) -> bool:
    return PurePosixPath(path).suffix == ".json"


def _fill(path: str, places: Mapping[str, str]) -> str:
    """Fill a path's places; a name from outside becomes one harmless part."""
    for name, value in places.items():
        path = path.replace("{" + name + "}", value if name == "stem" else safe_part(value))
    return path


def _schema(context: ExportContext) -> Schema:
    options = context.options
    return parse_schema(options["schema"], context.taxonomy, options.get("schema_name", "schema"))
