"""Semantic PNG: one label map per image, a pixel's value being its class id, and colour maps.

Layout: `masks/<image>.png`, `colormap.json`, `colormap.txt`, `mmsegmentation.json`. With ids up
to 255 the PNGs are 8-bit with a palette (a viewer shows colours, a loader reads ids), else 16-bit
grey. Unlabelled pixels have the taxonomy's `unlabelled` id, VOID ones its `void` id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from exporters.files import write_bytes, write_json, write_text
from exporters.png import grey16_png, indexed_png
from exporters.records import image_record, scene_of
from segstudio.images import AnnotatedImage
from segstudio.plugins import ExportContext
from segstudio.scene import Scene
from segstudio.taxonomy import Taxonomy

_UNLABELLED_COLOR = (0, 0, 0)


class SemanticPngExporter:
    """Writes label maps as PNG."""

    name = "semantic-png"
    summary = "Semantic label maps: one PNG of class ids per image, with colour maps"
    next_step = "Read masks/<image>.png as class ids; colormap.json says what each id is."

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Write the label map of one image."""
        scene = scene_of(image, context)
        if _is_wide(context.taxonomy):
            content = grey16_png(scene.label_map(np.uint16))
        else:
            content = indexed_png(scene.label_map(np.uint8), _palette(context.taxonomy))
        file = f"masks/{image.file_stem}.png"
        write_bytes(context.out_dir / file, content)
        return image_record(image, [file], losses=label_map_losses(scene, context.taxonomy))

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Write the colour maps."""
        taxonomy = context.taxonomy
        write_json(context.out_dir / "colormap.json", _colormap(taxonomy))
        lines = ["# id red green blue name"]
        for entry in _entries(taxonomy):
            red, green, blue = entry["color"]
            # A class of two lines or with a tab in it must stay on its own line.
            lines.append(f"{entry['id']} {red} {green} {blue} {' '.join(entry['name'].split())}")
        write_text(context.out_dir / "colormap.txt", "\n".join(lines) + "\n")
        write_json(context.out_dir / "mmsegmentation.json", _mmsegmentation(taxonomy))


def _largest_id(taxonomy: Taxonomy) -> int:
    return max(taxonomy.void_id, taxonomy.unlabelled_id, *(one.id for one in taxonomy.classes), 0)


def _is_wide(taxonomy: Taxonomy) -> bool:
    return _largest_id(taxonomy) > 255


def _entries(taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """Return every id that a pixel can have, ascending."""
    entries = [
        {"id": one.id, "name": one.name, "color": list(one.color), "kind": one.kind}
        for one in taxonomy.scored_classes
    ]
    entries.append(
        {"id": taxonomy.void_id, "name": "void", "color": list(taxonomy.void_color), "kind": "void"}
    )
    if taxonomy.unlabelled_id != taxonomy.void_id:
        color = list(_UNLABELLED_COLOR)
        entries.append(
            {"id": taxonomy.unlabelled_id, "name": "unlabelled", "color": color, "kind": "none"}
        )
    return sorted(entries, key=lambda entry: entry["id"])


def _palette(taxonomy: Taxonomy) -> list[tuple[int, int, int]]:
    colors = {entry["id"]: entry["color"] for entry in _entries(taxonomy)}
    return [tuple(colors.get(number, (0, 0, 0))) for number in range(_largest_id(taxonomy) + 1)]


def _colormap(taxonomy: Taxonomy) -> dict[str, Any]:
    return {
        "dtype": "uint16" if _is_wide(taxonomy) else "uint8",
        "ignore_index": taxonomy.void_id,
        "unlabelled_id": taxonomy.unlabelled_id,
        "num_classes": len(taxonomy.scored_classes),
        "entries": _entries(taxonomy),
        "palette": [list(color) for color in _palette(taxonomy)],
    }


def _mmsegmentation(taxonomy: Taxonomy) -> dict[str, Any]:
    """Return a config that `mmengine.Config.fromfile` reads: METAINFO and the data set's options.

    MMSegmentation takes the n-th class for pixel value n. Where 0 is unlabelled, it is told to
    turn 0 into "ignore" and count from 1 (`reduce_zero_label`); ids that no class has are filled.
    """
    reduce = taxonomy.unlabelled_id == 0
    names = {one.id: one.name for one in taxonomy.scored_classes}
    if taxonomy.void_id != 255:
        names[taxonomy.void_id] = "void"
    if not reduce and taxonomy.unlabelled_id not in (255, taxonomy.void_id):
        names[taxonomy.unlabelled_id] = "unlabelled"
    ids = range(1 if reduce else 0, max(names, default=0) + 1)
    palette = _palette(taxonomy)
    return {
        "metainfo": {
            "classes": [names.get(number, f"unused-{number}") for number in ids],
            "palette": [list(palette[number]) for number in ids],
        },
        "reduce_zero_label": reduce,
        "ignore_index": 255,
        "seg_map_suffix": ".png",
    }


def label_map_losses(scene: Scene, taxonomy: Taxonomy) -> dict[str, int]:
    """Count what a label map cannot hold: which object a pixel belongs to, and attributes."""
    things = [
        segment.class_id for segment in scene.segments if taxonomy.by_id[segment.class_id].is_thing
    ]
    return {
        "instances_merged": len(things) - len(set(things)),
        "segments_without_their_attributes": sum(
            bool(segment.attributes) for segment in scene.segments
        ),
    }
