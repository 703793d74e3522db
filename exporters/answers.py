"""Answers about whole images: what a consensus keeps of them, and how they are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from exporters.files import compact_json

_MAX_DISTINCT: Final = 100
_MAX_CHARS: Final = 80
OTHER: Final = "(other)"
"""Where answers beyond so many different ones of a control, and long texts, are counted."""


def majority_answers(given: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], int]:
    """Return the answers that more than half gave alike, and how many controls have none.

    Args:
        given: each annotator's answers by control name; one without an answer votes for none.

    >>> majority_answers([{"sky": ["blue"]}, {"sky": ["blue"]}, {"sky": ["grey"], "n": 1}])
    ({'sky': ['blue']}, 1)
    """
    agreed: dict[str, Any] = {}
    open_count = 0
    for name in dict.fromkeys(name for one in given for name in one):
        votes = Counter(compact_json(one[name]) for one in given if name in one)
        winner, count = votes.most_common(1)[0]
        if count > len(given) / 2:
            agreed[name] = next(
                one[name] for one in given if name in one and compact_json(one[name]) == winner
            )
        else:
            open_count += 1
    return agreed, open_count


def count_answers(totals: dict[str, Counter[str]], answers: Mapping[str, Any]) -> None:
    """Add one image's answers to the counts by control and answer, in bounded memory."""
    for name, answer in answers.items():
        counts = totals.setdefault(name, Counter())
        for one in answer if isinstance(answer, list) else [answer]:
            _count(counts, one if isinstance(one, str) else compact_json(one), 1)


def merge_answers(totals: dict[str, Counter[str]], others: Mapping[str, Counter[str]]) -> None:
    """Add the counts of another file set."""
    for name, counts in others.items():
        for text, count in counts.items():
            _count(totals.setdefault(name, Counter()), text, count)


def _count(counts: Counter[str], text: str, count: int) -> None:
    fits = len(text) <= _MAX_CHARS and (text in counts or len(counts) < _MAX_DISTINCT)
    counts[text if fits else OTHER] += count
