"""The picture of each domain: its classes as a legend, beside a scene of plain shapes.

`python -m label_configs.pictures` draws them all again from the taxonomies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from label_configs import list_domains, taxonomy_path
from segstudio.taxonomy import SegmentClass, Taxonomy, load_taxonomy

SCENE_PX: Final = (480, 360)
_LEGEND_WIDTH_PX: Final = 240
_BACKGROUND: Final = (250, 250, 250)
_TEXT: Final = (30, 30, 30)
_UNLABELLED: Final = (225, 225, 225)
_SCALE: Final = 3  # drawn larger and shrunk, for smooth edges


class Shape(NamedTuple):
    """One area of a scene: its class, how it is drawn, its points in pixels of the scene."""

    label: str
    form: Literal["polygon", "ellipse"]
    points: tuple[tuple[float, float], ...]


def _box(label: str, x: float, y: float, width: float, height: float) -> Shape:
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    return Shape(label, "polygon", corners)


def _disc(label: str, x: float, y: float, radius_x: float, radius_y: float | None = None) -> Shape:
    radius = radius_x if radius_y is None else radius_y
    return Shape(label, "ellipse", ((x - radius_x, y - radius), (x + radius_x, y + radius)))


def _area(label: str, *points: tuple[float, float]) -> Shape:
    return Shape(label, "polygon", points)


SCENES: Final[Mapping[str, tuple[Shape, ...]]] = {
    "demo": (
        _box("Sky", 0, 0, 480, 190),
        _box("Table", 0, 190, 480, 170),
        _area("Rocket", (62, 30), (84, 75), (84, 190), (40, 190), (40, 75)),
        _disc("Person", 150, 85, 24),
        _area("Person", (110, 190), (120, 118), (180, 118), (192, 190)),
        _area("Cat", (235, 125), (246, 85), (266, 108), (288, 108), (306, 85), (318, 125)),
        _disc("Cat", 276, 142, 44),
        _disc("Cup", 372, 288, 84, 46),
        _area("Spoon", (300, 330), (420, 308), (424, 318), (304, 342)),
        _disc("Coin", 60, 250, 30),
        _disc("Coin", 140, 300, 34),
        _disc("Coin", 215, 250, 26),
        _disc("Galaxy", 400, 45, 34, 12),
        _disc("Cell", 440, 130, 22),
    ),
    "driving": (
        _box("sky", 0, 0, 480, 150),
        _box("building", 0, 40, 150, 150),
        _box("building", 350, 20, 130, 170),
        _area("vegetation", (150, 190), (155, 110), (190, 80), (225, 105), (235, 190)),
        _box("wall", 235, 160, 60, 30),
        _box("fence", 295, 165, 55, 25),
        _box("terrain", 150, 188, 200, 12),
        _area("sidewalk", (0, 190), (160, 190), (0, 330)),
        _area("sidewalk", (480, 190), (330, 190), (480, 330)),
        _area("road", (160, 196), (330, 196), (480, 330), (480, 360), (0, 360), (0, 330)),
        _box("pole", 120, 70, 6, 160),
        _box("traffic light", 112, 62, 22, 44),
        _box("pole", 384, 100, 5, 120),
        _disc("traffic sign", 386, 98, 18),
        _area("car", (195, 260), (205, 225), (265, 225), (278, 260), (278, 285), (195, 285)),
        _box("truck", 290, 175, 44, 52),
        _box("bus", 205, 160, 46, 40),
        _disc("person", 52, 190, 10),
        _area("person", (38, 265), (42, 200), (62, 200), (66, 265)),
        _disc("bicycle", 380, 275, 17),
        _disc("bicycle", 424, 275, 17),
        _area("rider", (392, 262), (394, 215), (412, 215), (414, 262)),
        _disc("ego vehicle", 240, 372, 190, 34),
    ),
    "medical": (
        _disc("Liver", 150, 165, 105, 95),
        _disc("Lesion", 120, 190, 18),
        _disc("Gallbladder", 205, 120, 20, 26),
        _disc("Stomach", 300, 115, 72, 46),
        _area("Pancreas", (205, 190), (262, 172), (345, 182), (345, 202), (262, 200), (210, 212)),
        _disc("Spleen", 402, 195, 32, 58),
        _disc("Right kidney", 150, 290, 36, 28),
        _disc("Left kidney", 335, 290, 36, 28),
        _disc("Aorta", 256, 255, 17),
        _disc("Inferior vena cava", 212, 250, 20, 14),
    ),
    "aerial": (
        _box("Grassland", 0, 0, 480, 360),
        _area("Field", (10, 10), (190, 10), (170, 130), (10, 150)),
        _area("Field", (205, 10), (330, 10), (310, 120), (185, 130)),
        _area("Bare soil", (345, 10), (470, 10), (470, 60), (340, 80)),
        _area("Water", (0, 300), (120, 270), (260, 320), (260, 360), (0, 360)),
        _area("Road", (0, 170), (480, 130), (480, 152), (0, 194)),
        _area("Road", (330, 145), (352, 143), (392, 360), (368, 360)),
        _disc("Tree cover", 60, 232, 32),
        _disc("Tree cover", 105, 240, 26),
        _disc("Tree cover", 440, 330, 30),
        _box("Building", 170, 215, 54, 38),
        _box("Building", 240, 205, 42, 42),
        _box("Building", 415, 190, 46, 60),
        _box("Greenhouse", 275, 275, 60, 26),
        _box("Greenhouse", 275, 308, 60, 26),
        _box("Vehicle", 90, 172, 22, 9),
        _area("Vehicle", (352, 240), (362, 238), (366, 260), (356, 262)),
        _area("Unclear", (440, 0), (480, 0), (480, 40)),
    ),
    "sequences": (
        _box("Sky", 0, 0, 480, 150),
        _box("Water", 0, 150, 480, 50),
        _box("Ground", 0, 200, 480, 160),
        _area("Vehicle", (300, 195), (330, 165), (420, 165), (450, 195), (450, 230), (300, 230)),
        _disc("Person", 120, 160, 18),
        _area("Person", (98, 290), (104, 182), (138, 182), (146, 290)),
        _disc("Thing carried", 162, 240, 16),
        _area("Tool", (84, 190), (92, 186), (70, 270), (62, 268)),
        _disc("Animal", 215, 285, 38, 22),
        _disc("Animal", 258, 262, 16),
        _disc("Cycle", 345, 300, 24),
        _disc("Cycle", 410, 300, 24),
        _area("Cycle", (345, 296), (410, 296), (410, 304), (345, 304)),
        _area("Unclear", (0, 320), (60, 360), (0, 360)),
    ),
}


def draw_picture(taxonomy: Taxonomy, shapes: tuple[Shape, ...]) -> Image.Image:
    """Draw a scene in the colours of its classes, with the legend at its right."""
    width_px, height_px = SCENE_PX
    row_px = max(18, height_px // max(len(taxonomy.classes), 1))
    height_px = max(height_px, row_px * len(taxonomy.classes))
    picture = Image.new("RGB", (width_px + _LEGEND_WIDTH_PX, height_px), _BACKGROUND)
    scene = Image.new("RGB", (width_px * _SCALE, height_px * _SCALE), _UNLABELLED)
    draw = ImageDraw.Draw(scene)
    for shape in shapes:
        _draw_shape(draw, shape, taxonomy.by_name[shape.label])
    picture.paste(scene.resize((width_px, height_px), Image.Resampling.LANCZOS), (0, 0))
    _draw_legend(ImageDraw.Draw(picture), taxonomy, width_px + 14, row_px)
    return picture


def _draw_shape(draw: ImageDraw.ImageDraw, shape: Shape, segment_class: SegmentClass) -> None:
    points = [(x * _SCALE, y * _SCALE) for x, y in shape.points]
    # Things have a white edge, so that two of them side by side can be told apart.
    outline = (255, 255, 255) if segment_class.is_thing else segment_class.color
    paint = draw.polygon if shape.form == "polygon" else draw.ellipse
    paint(points, fill=segment_class.color, outline=outline, width=2 * _SCALE)


def _draw_legend(draw: ImageDraw.ImageDraw, taxonomy: Taxonomy, left_px: int, row_px: int) -> None:
    font = ImageFont.load_default(size=13)
    for index, one in enumerate(taxonomy.classes):
        top_px = index * row_px + row_px // 2
        draw.rectangle((left_px, top_px - 6, left_px + 20, top_px + 6), fill=one.color)
        words = "VOID" if one.ignore else one.kind
        text = f"{one.id}  {one.name} ({words})"
        draw.text((left_px + 28, top_px), text, fill=_TEXT, font=font, anchor="lm")


def draw_all(folder: Path | None = None) -> tuple[Path, ...]:
    """Write `classes.png` of every domain; `folder` stands in for the package's own folders."""
    written = []
    for domain in list_domains():
        target = (folder / domain if folder else taxonomy_path(domain).parent) / "classes.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture = draw_picture(load_taxonomy(taxonomy_path(domain)), SCENES.get(domain, ()))
        picture.save(target, optimize=True)
        written.append(target)
    return tuple(written)


if __name__ == "__main__":
    for path in draw_all():
        print(path)
