"""Agreement one level up: the classes of one supercategory taken as one.

Where a supercategory agrees and its classes do not, people see the same things and disagree on
their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qa_plugins.drawing import Drawing
from qa_plugins.metrics.run_join import join_pairs, labelled_runs
from segstudio.masks import union_all
from segstudio.taxonomy import Taxonomy

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ImageSupercategories:
    """Counts of one image; G supercategories, k annotators, P pairs of them."""

    names: tuple[str, ...]
    areas_px: Int64Array  # (k, G)
    intersections_px: Int64Array  # (P, G)


def supercategories(taxonomy: Taxonomy) -> dict[str, tuple[str, ...]]:
    """The names of the classes of each supercategory that has two or more that count."""
    members: dict[str, list[str]] = {}
    for one in taxonomy.scored_classes:
        if one.supercategory is not None:
            members.setdefault(one.supercategory, []).append(one.name)
    return {name: tuple(classes) for name, classes in members.items() if len(classes) > 1}


def measure_supercategories(
    drawings: Sequence[Drawing], members: Mapping[str, Iterable[str]], size_px: tuple[int, int]
) -> ImageSupercategories | None:
    """Compare the drawings of one image, one an annotator; None where there is no supercategory."""
    if not members:
        return None
    lists = [
        labelled_runs(
            [
                union_all(
                    [drawing.class_masks[name] for name in names if name in drawing.class_masks],
                    *size_px,
                ).runs
                for names in members.values()
            ]
        )
        for drawing in drawings
    ]
    shared, _, _ = join_pairs(lists)
    diagonal = np.arange(len(members))
    return ImageSupercategories(
        tuple(members),
        np.stack([runs.areas_px for runs in lists]),
        np.ascontiguousarray(shared[:, diagonal, diagonal]),
    )
