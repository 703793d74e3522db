"""What a check puts on the QA page: findings in sentences, tables, pictures.

A check may have a method ``report(summary, names) -> Section | None``; its section then stands on
the page, its gravest findings at the top under "What to do next". Nothing here knows HTML: texts
are escaped where the page is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

Severity = Literal["error", "warning", "note"]
"""``error``: the numbers or the delivery are wrong; ``warning``: look at it; ``note``: to know."""

NameOf = Callable[[int], str]
"""What to call an annotator on this page: a letter, or the name where names were asked for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: a sentence, the evidence for it, and, where there is one, what to do.

    `action` makes it a step of "What to do next", errors before warnings.
    """

    text: str
    evidence: str = ""
    severity: Severity = "note"
    action: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; numbers are shown with three decimals, None as a dash, text as it is."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]
    title: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a ``data:image/...`` URI (JPEG, PNG or SVG), shown at most `width_px` wide."""

    caption: str
    uri: str
    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        """Keep the page self-contained: a picture is inside it."""
        if not self.uri.startswith("data:image/"):
            raise ValueError(
                f"A picture of the page is a data:image/ URI, not {self.uri[:40]!r}; nothing is "
                "loaded from elsewhere."
            )


@dataclass(frozen=True, slots=True)
class Section:
    """One check's part of the page: a title, one sentence of lead, then what it has."""

    title: str
    lead: str = ""
    findings: Sequence[Finding] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


@runtime_checkable
class ReportsSection(Protocol):
    """A check that has something to show on the page."""

    def report(self, summary: dict[str, Any], names: NameOf) -> Section | None:
        """Return the section of a summary, as `summarize` gave it; None where there is none.

        People appear under `names` only.
        """
        ...
