"""A picture of a few exported images with their segments drawn over them.

A look at it tells in seconds whether classes are swapped, masks shifted or images turned.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from exporters.files import write_bytes
from exporters.records import overlap_policy
from segstudio.consensus import consensus_regions
from segstudio.errors import SegstudioError
from segstudio.images import AnnotatedImage
from segstudio.plugins import ExportContext
from segstudio.scene import Scene, build_scene
from segstudio.tasks import Region
from segstudio.taxonomy import Taxonomy

FILE_NAME: Final = "contact-sheet.jpg"
_TILE_PX: Final = 320
_CAPTION_PX: Final = 18
_COLUMNS: Final = 4
_OPACITY: Final = 0.5
_UNLABELLED: Final = 128
_PAPER: Final = (245, 245, 245)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of the sheet; `drawn` as in `exporters.work_items.WorkItem`."""

    image: AnnotatedImage
    drawn: tuple[tuple[Region, ...], ...] = ()


def write_contact_sheet(
    out_dir: Path,
    samples: Sequence[Sample],
    context: ExportContext,
    picture_of: Callable[[int, str], NDArray[np.uint8]] | None,
) -> Path | None:
    """Write the sheet; None when there is nothing to show.

    Args:
        out_dir: where to write it.
        samples: which images.
        context: the export's taxonomy and overlap policy.
        picture_of: (task id, reference) -> RGB array; may raise SegstudioError or OSError. Where
            it is None or fails, the segments are drawn on grey.
    """
    tiles = [_tile(sample, context, picture_of) for sample in samples]
    if not tiles:
        return None
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    cell_px = _TILE_PX + _CAPTION_PX
    sheet = Image.new("RGB", (columns * _TILE_PX, rows * cell_px), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for at, (tile, sample) in enumerate(zip(tiles, samples, strict=True)):
        x, y = at % columns * _TILE_PX, at // columns * cell_px
        sheet.paste(tile, (x + (_TILE_PX - tile.width) // 2, y))
        caption = f"{sample.image.file_stem} (task {sample.image.task_id})"
        # The built-in font knows Latin letters only.
        draw.text((x + 4, y + _TILE_PX + 2), caption.encode("ascii", "replace").decode()[:48],
                  fill=(40, 40, 40))  # fmt: skip
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=85)
    path = out_dir / FILE_NAME
    write_bytes(path, buffer.getvalue())
    return path


def _tile(
    sample: Sample,
    context: ExportContext,
    picture_of: Callable[[int, str], NDArray[np.uint8]] | None,
) -> Image.Image:
    image = sample.image
    taxonomy = context.taxonomy
    if sample.drawn:
        agreed = consensus_regions(sample.drawn, taxonomy, image.height_px, image.width_px)
        image = replace(image, regions=agreed.regions)
    try:
        scene = build_scene(
            image.regions, taxonomy, image.height_px, image.width_px, overlap_policy(context)
        )
    except ValueError:  # e.g. an overlap that the policy forbids: reported by the export itself
        scene = build_scene((), taxonomy, image.height_px, image.width_px)
    scale = _TILE_PX / max(image.height_px, image.width_px)
    size = (max(1, round(image.width_px * scale)), max(1, round(image.height_px * scale)))
    # Numbers are made small first and coloured then: a large image costs no more than a small one.
    numbers = _number_map(scene)
    rows, columns = (_nearest(*pair) for pair in zip(numbers.shape, reversed(size), strict=True))
    small = np.take(numbers, rows[:, None] * np.intp(image.width_px) + columns)
    colors = Image.fromarray(_painted(small, _colors(scene, taxonomy)))
    picture = _picture(image, picture_of)
    if picture is None:
        return colors
    photo = Image.fromarray(picture).convert("RGB").resize(size, Image.Resampling.BILINEAR)
    drawn = Image.fromarray(np.where(small > 0, np.uint8(255 * _OPACITY), np.uint8(0)))
    return Image.composite(colors, photo, drawn)


def _picture(
    image: AnnotatedImage, picture_of: Callable[[int, str], Any] | None
) -> NDArray[np.uint8] | None:
    if picture_of is None or not image.reference:
        return None
    try:
        picture: NDArray[np.uint8] = picture_of(image.task_id, image.reference)
    except (SegstudioError, OSError):
        return None
    return picture


def _number_map(scene: Scene) -> NDArray[Any]:
    """Return (height, width): 0 nothing, n the n-th segment, one more than all of them VOID."""
    void = len(scene.segments) + 1
    numbers = scene.instance_map(np.uint8 if void < 256 else np.int32)
    if not scene.void_mask.is_empty:
        numbers[scene.void_mask.to_dense()] = void
    return numbers


def _nearest(length_px: int, new_length_px: int) -> NDArray[np.int32]:
    """Return which pixels Pillow takes when it makes a line of pixels longer or shorter."""
    line = Image.fromarray(np.arange(length_px, dtype=np.int32)[None])
    resized = line.resize((new_length_px, 1), Image.Resampling.NEAREST)
    taken: NDArray[np.int32] = np.asarray(resized, dtype=np.int32)[0]
    return taken


def _painted(numbers: NDArray[Any], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from exporters.paint_kernels import paint

    return paint(numbers.reshape(-1).astype(np.int32), colors).reshape(*numbers.shape, 3)


def _colors(scene: Scene, taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """Return the colour of each number; every second object of a thing is darker."""
    colors = np.full((len(scene.segments) + 2, 3), _UNLABELLED, np.uint8)
    for segment in scene.segments:
        one = taxonomy.by_id[segment.class_id]
        shade = 0.75 if one.is_thing and segment.id % 2 == 0 else 1.0
        colors[segment.id] = np.array(one.color) * shade
    colors[-1] = taxonomy.void_color
    return colors
