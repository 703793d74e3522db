"""The classes of the official Cityscapes data set, which its files themselves do not name.

Source: cityscapesScripts, cityscapesscripts/helpers/labels.py. Label 0 (unlabeled) is no class,
-1 (license plate) is never drawn.
"""

from __future__ import annotations

from typing import Final

from exporters.importers.classes import ClassEntry

_ROWS: Final = (
    (1, "ego vehicle", None, "void", False, (0, 0, 0)),
    (2, "rectification border", None, "void", False, (0, 0, 0)),
    (3, "out of roi", None, "void", False, (0, 0, 0)),
    (4, "static", None, "void", False, (0, 0, 0)),
    (5, "dynamic", None, "void", False, (111, 74, 0)),
    (6, "ground", None, "void", False, (81, 0, 81)),
    (7, "road", 0, "flat", False, (128, 64, 128)),
    (8, "sidewalk", 1, "flat", False, (244, 35, 232)),
    (9, "parking", None, "flat", False, (250, 170, 160)),
    (10, "rail track", None, "flat", False, (230, 150, 140)),
    (11, "building", 2, "construction", False, (70, 70, 70)),
    (12, "wall", 3, "construction", False, (102, 102, 156)),
    (13, "fence", 4, "construction", False, (190, 153, 153)),
    (14, "guard rail", None, "construction", False, (180, 165, 180)),
    (15, "bridge", None, "construction", False, (150, 100, 100)),
    (16, "tunnel", None, "construction", False, (150, 120, 90)),
    (17, "pole", 5, "object", False, (153, 153, 153)),
    (18, "polegroup", None, "object", False, (153, 153, 153)),
    (19, "traffic light", 6, "object", False, (250, 170, 30)),
    (20, "traffic sign", 7, "object", False, (220, 220, 0)),
    (21, "vegetation", 8, "nature", False, (107, 142, 35)),
    (22, "terrain", 9, "nature", False, (152, 251, 152)),
    (23, "sky", 10, "sky", False, (70, 130, 180)),
    (24, "person", 11, "human", True, (220, 20, 60)),
    (25, "rider", 12, "human", True, (255, 0, 0)),
    (26, "car", 13, "vehicle", True, (0, 0, 142)),
    (27, "truck", 14, "vehicle", True, (0, 0, 70)),
    (28, "bus", 15, "vehicle", True, (0, 60, 100)),
    (29, "caravan", None, "vehicle", True, (0, 0, 90)),
    (30, "trailer", None, "vehicle", True, (0, 0, 110)),
    (31, "train", 16, "vehicle", True, (0, 80, 100)),
    (32, "motorcycle", 17, "vehicle", True, (0, 0, 230)),
    (33, "bicycle", 18, "vehicle", True, (119, 11, 32)),
)

OFFICIAL_CLASSES: Final = tuple(
    ClassEntry(number, name, color, is_thing, category, train_id)
    for number, name, train_id, category, is_thing, color in _ROWS
)
"""Ids, names, train ids, categories, colours, and which have instances."""
