"""How people are named in a report: by a letter, unless their names are asked for.

The letters follow a hash of the ids, so that the order of sign-up does not give anybody away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

from qa_plugins.raters import MODEL_ID


def display_names(
    ids: Collection[int], *, reveal: bool = False, names: Mapping[int, str] | None = None
) -> dict[int, str]:
    """A name for each annotator id: "Annotator A", or the real one with ``reveal``.

    >>> sorted(display_names([7, 3]).values())
    ['Annotator A', 'Annotator B']
    >>> display_names([7, -1])
    {-1: 'The model', 7: 'Annotator A'}
    >>> display_names([7], reveal=True, names={7: "mira@example.org"})
    {7: 'mira@example.org'}
    """
    people = sorted(set(ids) - {MODEL_ID})
    if MODEL_ID in ids:
        return {MODEL_ID: "The model", **display_names(people, reveal=reveal, names=names)}
    if reveal:
        return {person: (names or {}).get(person) or f"user {person}" for person in people}
    shuffled = sorted(people, key=lambda person: hashlib.sha256(str(person).encode()).digest())
    return {person: f"Annotator {_letters(rank)}" for rank, person in enumerate(shuffled)}


def _letters(rank: int) -> str:
    """A, B, ... Z, AA, AB, ...

    >>> _letters(0), _letters(25), _letters(26)
    ('A', 'Z', 'AA')
    """
    text = ""
    rank += 1
    while rank:
        rank, rest = divmod(rank - 1, 26)
        text = chr(ord("A") + rest) + text
    return text
