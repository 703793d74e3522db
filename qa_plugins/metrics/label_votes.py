"""Votes of several annotators on the class of each pixel: the label map and how split they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from segstudio.masks import Mask, union_all


def vote_labels(
    drawn: Sequence[Mapping[str, Mask]],
    ids: Mapping[str, int],
    height_px: int,
    width_px: int,
    unlabelled_id: int,
    undecided_id: int,
) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Return the class with most votes of each pixel, and the entropy of its votes.

    Who gave a pixel no class votes for `unlabelled_id`; a tie gives `undecided_id`, as in ITK's
    LabelVoting. Where one person's classes overlap, they vote for each.

    Args:
        drawn: each annotator's mask by class.
        ids: number of each class in the label map.
        height_px: the image's height.
        width_px: the image's width.
        unlabelled_id: number of pixels without a class.
        undecided_id: number of ties.

    Returns:
        uint16 and float32 arrays (height, width). The entropy is 0 where all agree and 1 where
        everybody says something else (natural logarithm over that of the annotators' number).

    >>> one, two = Mask.from_dense([[1, 0]]), Mask.from_dense([[1, 1]])
    >>> labels, entropy = vote_labels([{"a": one}, {"a": two}], {"a": 7}, 1, 2, 0, 255)
    >>> labels.tolist(), entropy.tolist()
    ([[7, 255]], [[0.0, 1.0]])
    """
    shape = height_px, width_px
    names = sorted({name for masks in drawn for name in masks})
    # Votes a pixel can have: of everybody, for each of overlapping classes.
    logs = np.array(
        [0.0, *(n * math.log(n) for n in range(1, len(drawn) * (len(names) + 1) + 1))], np.float32
    )
    best: NDArray[np.uint16] = np.zeros(shape, np.uint16)
    total = np.zeros(shape, np.uint16)
    labels = np.full(shape, unlabelled_id, np.uint16)
    tied: NDArray[np.bool_] = np.zeros(shape, np.bool_)
    spread = np.zeros(shape, np.float32)
    for name in (None, *names):
        votes = np.zeros(shape, np.uint16)
        for masks in drawn:
            if name is None:
                votes += ~union_all(masks.values(), height_px, width_px).to_dense()
            elif name in masks:
                votes += masks[name].to_dense()
        total += votes
        spread += logs[votes]
        more = votes > best
        tied = np.where(more, False, tied | ((votes == best) & (votes > 0)))
        labels[more] = unlabelled_id if name is None else ids[name]
        best = np.maximum(best, votes)
    labels[tied] = undecided_id
    if len(drawn) < 2:
        return labels, np.zeros(shape, np.float32)
    cast = np.maximum(total, 1).astype(np.float32)
    entropy = (np.log(cast) - spread / cast) / np.float32(math.log(len(drawn)))
    return labels, np.clip(entropy, 0, 1).astype(np.float32)
