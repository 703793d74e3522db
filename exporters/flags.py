"""Yes-or-no answers about a region: crowd, truncated, difficult, occluded.

They are given by a per-region control (Choices, TextArea, Number, Rating) of that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

CROWD: Final = ("iscrowd", "is_crowd", "crowd")
_YES: Final = frozenset({"1", "yes", "true", "on"})


def is_flagged(attributes: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Say whether a control of one of the names was answered with yes (1, true, or its own name).

    >>> is_flagged({"IsCrowd": ["yes"]}, CROWD), is_flagged({"iscrowd": ["no"]}, CROWD)
    (True, False)
    """
    wanted = {name.lower() for name in names}
    for name, answer in attributes.items():
        if name.lower() in wanted:
            answers = answer if isinstance(answer, list | tuple) else [answer]
            return any(_is_yes(one, wanted) for one in answers)
    return False


def _is_yes(answer: Any, names: set[str]) -> bool:
    if isinstance(answer, bool | int | float):
        return answer == 1
    text = str(answer).strip().lower()
    return text in _YES or text in names
