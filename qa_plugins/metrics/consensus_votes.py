"""Consensus of several masks of one class: votes, STAPLE, and each annotator against the others.

All of it depends on a pixel only through who marked it, so it is computed from the few distinct
patterns of votes and how many pixels have each: the time grows with the outlines, not the area.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segstudio.masks import Mask

Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

MAX_VOTERS: Final = 62
_MAX_ITERATIONS: Final = 30_000
# ITK stops when no parameter's square of change exceeds this; results equal its own that way.
_SQUARED_CHANGE: Final = 1e-14


@dataclass(frozen=True, slots=True, eq=False)
class VotePatterns:
    """Which annotators marked which pixels.

    ``votes`` (patterns, annotators) are the distinct combinations, ``counts_px`` (patterns,) how
    many pixels have each; ``bounds`` (segments + 1,) and ``pattern_of`` (segments,) say where.
    """

    height_px: int
    width_px: int
    votes: BoolArray
    counts_px: Int64Array
    bounds: Int64Array
    pattern_of: Int64Array

    def mask(self, chosen: BoolArray) -> Mask:
        """The pixels of the chosen patterns; ``chosen`` is boolean, (patterns,)."""
        on = chosen[self.pattern_of]
        runs = np.stack([self.bounds[:-1][on], self.bounds[1:][on]], axis=1)
        return Mask.from_runs(self.height_px, self.width_px, runs)

    def majority(self) -> BoolArray:
        """The patterns in which more than half of the annotators marked the pixel."""
        chosen: BoolArray = self.votes.sum(axis=1) * 2 > self.votes.shape[1]
        return chosen


def vote_patterns(masks: Sequence[Mask]) -> VotePatterns:
    """Sort the pixels of an image by who marked them; one mask an annotator, empty ones too.

    Raises:
        ValueError: no mask, more than `MAX_VOTERS`, or masks of different sizes.

    >>> row = lambda *bits: Mask.from_dense([list(bits)])
    >>> found = vote_patterns([row(1, 1, 0, 0), row(0, 1, 1, 0)])
    >>> found.votes.astype(int).tolist(), found.counts_px.tolist()
    ([[0, 0], [1, 0], [0, 1], [1, 1]], [1, 1, 1, 1])
    """
    if not 1 <= len(masks) <= MAX_VOTERS:
        raise ValueError(f"A consensus takes 1 to {MAX_VOTERS} masks, not {len(masks)}.")
    height_px, width_px = masks[0].height_px, masks[0].width_px
    if any((one.height_px, one.width_px) != (height_px, width_px) for one in masks):
        raise ValueError("Masks of different sizes have no consensus.")
    edges = [mask.runs.ravel() for mask in masks]
    bounds = np.unique(np.concatenate([np.array([0, height_px * width_px]), *edges]))
    codes = np.zeros(max(len(bounds) - 1, 0), dtype=np.int64)
    for voter, mask in enumerate(masks):
        begun = np.searchsorted(mask.runs[:, 0], bounds[:-1], side="right")
        ended = np.searchsorted(mask.runs[:, 1], bounds[:-1], side="right")
        codes |= (begun - ended) << voter
    distinct, pattern_of = np.unique(codes, return_inverse=True)
    counts_px = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(counts_px, pattern_of, np.diff(bounds))
    votes = (distinct[:, None] >> np.arange(len(masks))) & 1 == 1
    return VotePatterns(height_px, width_px, votes, counts_px, bounds, pattern_of)


@dataclass(frozen=True, slots=True, eq=False)
class Staple:
    """STAPLE's estimate: the probability of the class by pattern, and each annotator's quality.

    ``sensitivity`` (annotators,): share of the true pixels that the annotator marked, NaN where
    nobody marked any; ``specificity``: share of the others left unmarked, NaN where everybody
    marked all.
    """

    probability: FloatArray
    sensitivity: FloatArray
    specificity: FloatArray
    iterations: int


def staple(votes: BoolArray, counts_px: Int64Array) -> Staple:
    """Estimate the hidden truth and each annotator's sensitivity and specificity together.

    Expectation maximization of Warfield, Zou and Wells, "Simultaneous truth and performance level
    estimation (STAPLE)", IEEE TMI 23 (2004), begun and ended as ITK's STAPLEImageFilter does it:
    the prior is the share of marked pixels over all annotators, without a spatial model.

    Args:
        votes: (patterns, annotators), see `VotePatterns`.
        counts_px: (patterns,) pixels of each.

    >>> found = staple(np.array([[0, 0, 0], [1, 1, 1], [0, 0, 1]], bool), np.array([80, 10, 10]))
    >>> found.probability.round(3).tolist(), found.specificity.round(3).tolist()
    ([0.0, 1.0, 0.0], [1.0, 1.0, 0.889])
    """
    annotators = votes.shape[1]
    weight = votes.mean(axis=1) if annotators else np.zeros(len(votes))
    counts = counts_px.astype(np.float64)
    total = counts.sum()
    prior = float((weight * counts).sum() / total) if total else 0.0
    sensitivity = np.full(annotators, np.nan)
    specificity = np.full(annotators, np.nan)
    if prior <= 0 or prior >= 1:  # nobody marked anything, or everybody all: nothing to estimate
        filled = np.full(annotators, 1.0)
        known = (sensitivity, filled) if prior <= 0 else (filled, specificity)
        return Staple(weight, *known, iterations=0)
    for iteration in range(1, _MAX_ITERATIONS + 1):
        before = np.concatenate([sensitivity, specificity])
        inside, outside = counts * weight, counts * (1 - weight)
        sensitivity = inside @ votes / inside.sum()
        specificity = outside @ ~votes / outside.sum()
        is_class = prior * np.where(votes, sensitivity, 1 - sensitivity).prod(axis=1)
        is_other = (1 - prior) * np.where(votes, 1 - specificity, specificity).prod(axis=1)
        both = is_class + is_other
        # A pattern that both hypotheses exclude says nothing: it keeps its weight.
        weight = np.divide(is_class, both, out=weight.copy(), where=both > 0)
        change = np.concatenate([sensitivity, specificity]) - before
        if iteration > 1 and np.all(change**2 <= _SQUARED_CHANGE):
            break
    return Staple(weight, sensitivity, specificity, iteration)


def against_others(votes: BoolArray, counts_px: Int64Array) -> Int64Array:
    """Each annotator against the majority of the others: (annotators, 2) shared and joint pixels.

    Pixels on which the others are evenly divided are left out. Comparing somebody with a consensus
    of which they are a part would be circular. One annotator alone gives zeros.
    """
    annotators = votes.shape[1]
    result = np.zeros((annotators, 2), dtype=np.int64)
    if annotators < 2:
        return result
    total = votes.sum(axis=1)
    for person in range(annotators):
        mine = votes[:, person]
        others = total - mine
        yes = others * 2 > annotators - 1
        decided = others * 2 != annotators - 1
        result[person, 0] = counts_px[mine & yes].sum()
        result[person, 1] = counts_px[(mine | yes) & decided].sum()
    return result
