"""VOID of the gold: pixels that are not to be judged, whatever an annotator drew there.

As in panopticapi and Cityscapes' scripts, such pixels are taken out of the annotator's masks. Gold
is the one reference that can say so: between annotators VOID is one person's opinion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qa_plugins.drawing import Drawing
from segstudio.masks import Mask, union_all
from segstudio.region_classes import classify_regions
from segstudio.regions import Region
from segstudio.taxonomy import Taxonomy


def void_of_gold(
    regions: Sequence[Region], gold: Drawing, taxonomy: Taxonomy, size_px: tuple[int, int]
) -> Mask:
    """Return the pixels that the gold calls VOID and gives no class; empty where there are none.

    Args:
        regions: of the gold, on one image.
        gold: the classes drawn with them.
        taxonomy: what is VOID.
        size_px: the image's (height, width).
    """
    of_void = [one for one in regions if any(map(taxonomy.is_void_label, one.labels))]
    if not of_void:
        return Mask.empty(*size_px)
    found = classify_regions(of_void, taxonomy, *size_px, every_class=True)
    void = union_all([one.mask for one in found.regions if one.is_void], *size_px)
    return void - union_all(gold.class_masks.values(), *size_px)


def without(drawing: Drawing, void: Mask) -> Drawing:
    """Return the drawing without these pixels, and without the objects that lie in them whole."""
    if void.is_empty:
        return drawing
    class_masks = {name: mask - void for name, mask in drawing.class_masks.items()}
    objects = [replace(one, mask=one.mask - void) for one in drawing.objects]
    return Drawing(class_masks, tuple(one for one in objects if not one.mask.is_empty))
