"""What was revised: redrawn annotations by class, person, round and week, and reviewers' changes.

Read from the snapshots of a history file. A *revision* is a state of an annotation whose drawing
differs from the state before; saved again without a change is none. The *first pass* is the first
state that a snapshot found. A change is a *reviewer's* where somebody else saved it, or where an
annotation began as a copy of somebody else's and was changed.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

from segstudio.masks import Mask, iou
from segstudio.report_sections import Finding, NameOf, Section, Table
from segstudio.snapshots import (
    Revision,
    open_store,
    read_deletions,
    read_drawing,
    read_revisions,
    read_snapshots,
)

_WEEKS_SHOWN: Final = 12
_NO_LABEL: Final = "(no label)"


@dataclass(slots=True)
class Changes:
    """Sums over annotations: how many, how many of them redrawn, and how much of the first stayed.

    ``iou_sum`` adds up the IoU between the first pass and the latest state of redrawn ones.
    """

    annotations: int = 0
    redrawn: int = 0
    revisions: int = 0
    by_reviewers: int = 0
    iou_sum: float = 0.0
    compared: int = 0

    def as_json(self) -> dict[str, Any]:
        """Counts, the share redrawn, and the mean IoU to the first pass (None where none was)."""
        return {
            "annotations": self.annotations,
            "redrawn": self.redrawn,
            "redrawn_share": self.redrawn / self.annotations if self.annotations else None,
            "revisions": self.revisions,
            "by_reviewers": self.by_reviewers,
            "iou_to_first_pass": self.iou_sum / self.compared if self.compared else None,
        }


@dataclass(slots=True)
class RevisionSums:
    """Everything that the section needs; grows with classes, people and weeks, not with tasks."""

    total: Changes = field(default_factory=Changes)
    classes: defaultdict[str, Changes] = field(default_factory=lambda: defaultdict(Changes))
    people: defaultdict[int, Changes] = field(default_factory=lambda: defaultdict(Changes))
    reviewers: defaultdict[int, Changes] = field(default_factory=lambda: defaultdict(Changes))
    rounds: Counter[int] = field(default_factory=Counter)
    first_by_week: Counter[str] = field(default_factory=Counter)
    redrawn_by_week: Counter[str] = field(default_factory=Counter)
    revisions_by_week: Counter[str] = field(default_factory=Counter)


def summarize_revisions(
    history: Path, task_ids: Collection[int] | None = None, origin: str | None = None
) -> dict[str, Any]:
    """Sum up the revisions that a history file holds, as JSON.

    Args:
        history: the file; without snapshots all counts are 0.
        task_ids: only these tasks.
        origin: only of this server (its URL, "" for files).
    """
    sums = RevisionSums()
    wanted = None if task_ids is None else frozenset(task_ids)
    revisions = read_revisions(history, origin=origin)
    with closing(open_store(history)) as store:
        for task_id, states in groupby(revisions, key=lambda one: one.task_id):
            if wanted is None or task_id in wanted:
                _add_task(sums, list(states), store)
    snapshots = read_snapshots(history)
    deleted = [
        {
            "task": one.task_id,
            "annotation": int(one.annotation) if one.annotation.isdigit() else one.annotation,
            "annotator": one.last.annotator_id,
            "since_round": one.last.round,
            "last_changed_at": one.last.updated_at or one.last.seen_at,
            "found_gone_at": one.seen_at,
        }
        for one in read_deletions(history, origin=origin)
        if wanted is None or one.task_id in wanted
    ]
    return {
        "snapshots": len(snapshots),
        "since": snapshots[0].first_read_at if snapshots else None,
        "total": sums.total.as_json(),
        "deleted": deleted,
        "classes": [{"name": key, **one.as_json()} for key, one in sorted(sums.classes.items())],
        "annotators": [{"id": key, **one.as_json()} for key, one in sorted(sums.people.items())],
        "reviewers": [{"id": key, **one.as_json()} for key, one in sorted(sums.reviewers.items())],
        "rounds": [{"round": key, "revisions": one} for key, one in sorted(sums.rounds.items())],
        "weeks": [
            {
                "week": week,
                "first_passes": sums.first_by_week[week],
                "redrawn_since": sums.redrawn_by_week[week],
                "revisions": sums.revisions_by_week[week],
            }
            for week in sorted({*sums.first_by_week, *sums.revisions_by_week})
        ],
    }


def revisions_section(summary: Mapping[str, Any], names: NameOf) -> Section | None:
    """Return the page's section; None where no snapshot holds an annotation."""
    total = summary["total"]
    if not total["annotations"]:
        return None
    columns = ("annotations", "redrawn", "share", "revisions", "by reviewers", "IoU to first pass")
    tables = [
        Table(
            ("Class", *columns),
            [(one["name"], *_cells(one)) for one in _most_redrawn(summary["classes"])],
            title="By class",
            note="An annotation counts for a class that it has or had. IoU of the latest state and "
            "the first pass, of those that were redrawn.",
        ),
        Table(
            ("Annotator", *columns),
            [(names(one["id"]), *_cells(one)) for one in _most_redrawn(summary["annotators"])],
            title="By annotator",
        ),
    ]
    if summary["reviewers"]:
        tables.append(
            Table(
                ("Reviewer", "annotations changed", "revisions", "IoU to first pass"),
                [
                    (names(one["id"]), one["redrawn"], one["revisions"], one["iou_to_first_pass"])
                    for one in summary["reviewers"]
                ],
                title="Reviewers' changes against the first pass",
            )
        )
    if len(summary["rounds"]) > 1:
        tables.append(
            Table(
                ("Round", "revisions"),
                [(one["round"] or "before rework", one["revisions"]) for one in summary["rounds"]],
                title="By rework round",
            )
        )
    if summary["deleted"]:
        tables.append(
            Table(
                ("Task", "Annotation", "Annotator", "Deleted since", "Found gone (UTC)"),
                [
                    (one["task"], one["annotation"], _person(one["annotator"], names),
                     f"round {one['since_round']}" if one["since_round"] else "before rework",
                     _day(one["found_gone_at"]))
                    for one in summary["deleted"]
                ],
                title="Deleted annotations",
                note="An earlier snapshot holds them; on the server they are gone. Their drawings "
                "stay in the history file.",
            )
        )  # fmt: skip
    weeks = summary["weeks"][-_WEEKS_SHOWN:]
    if len(weeks) > 1:
        tables.append(
            Table(
                ("Week (UTC)", "first passes", "redrawn since", "share", "revisions made"),
                [
                    (one["week"], one["first_passes"], one["redrawn_since"], _week_rate(one),
                     one["revisions"])
                    for one in weeks
                ],
                title="How the rates move",
                note="Recent weeks have had less time to be redrawn.",
            )
        )  # fmt: skip
    lead = (
        f"{total['redrawn']} of {total['annotations']} annotations were redrawn after they were "
        f"first read, {total['by_reviewers']} of {total['revisions']} times by somebody else; "
        f"{summary['snapshots']} snapshots since {_day(summary['since'])} (UTC)."
    )
    return Section("Revisions", lead, _findings(summary, names), tables)


def people_of(summary: Mapping[str, Any]) -> list[int]:
    """Return everybody whom the section names."""
    found = {one["id"] for key in ("annotators", "reviewers") for one in summary[key]}
    found |= {one["annotator"] for one in summary["deleted"]}
    return sorted(found - {None})


def _add_task(sums: RevisionSums, states: Sequence[Revision], store: sqlite3.Connection) -> None:
    of_annotation = {
        key: list(group) for key, group in groupby(states, key=lambda one: one.annotation)
    }
    # A copy of somebody's annotation is a review of it: its states go on where that one's end.
    copies: dict[str, list[Revision]] = defaultdict(list)
    for own in of_annotation.values():
        origin = of_annotation.get(str(own[0].copied_from))
        if origin is not None and origin[0].annotator_id != own[0].annotator_id:
            copies[origin[0].annotation] += own
    copied = {state.annotation for own in copies.values() for state in own}
    for key, own in of_annotation.items():
        chain = [*own, *copies.get(key, [])]
        if key not in copied and not chain[-1].was_cancelled:
            _add_annotation(sums, chain, store)


def _add_annotation(
    sums: RevisionSums, states: Sequence[Revision], store: sqlite3.Connection
) -> None:
    first, last = states[0], states[-1]
    redraws = [
        (before, after)
        for before, after in pairwise(states)
        if before.drawing_hash != after.drawing_hash
    ]
    by_reviewers = [one for _, one in redraws if _actor(one) != first.annotator_id]
    week = _week(first.created_at or first.seen_at)
    sums.first_by_week[week] += 1
    sums.redrawn_by_week[week] += bool(redraws)
    for _, after in redraws:
        sums.revisions_by_week[_week(after.updated_at or after.seen_at)] += 1
        sums.rounds[after.round] += 1
    kept = _kept(first, last, store) if redraws else {}
    groups = [sums.total]
    if first.annotator_id is not None:
        groups.append(sums.people[first.annotator_id])
    for group in groups:
        _count(group, len(redraws), len(by_reviewers), kept.values())
    for person, made in Counter(
        actor for one in by_reviewers if (actor := _actor(one)) is not None
    ).items():
        _count(sums.reviewers[person], made, made, kept.values())
    for label in sorted({label for state in states for label, _ in state.classes}):
        changed = [pair for pair in redraws if _of(pair[0], label) != _of(pair[1], label)]
        reviewed = sum(_actor(after) != first.annotator_id for _, after in changed)
        own = [value for (name, _), value in kept.items() if name == label]
        _count(sums.classes[label or _NO_LABEL], len(changed), reviewed, own if changed else ())


def _count(group: Changes, revisions: int, reviewed: int, kept: Iterable[float]) -> None:
    group.annotations += 1
    group.redrawn += revisions > 0
    group.revisions += revisions
    group.by_reviewers += reviewed
    for value in kept:
        group.iou_sum += value
        group.compared += 1


def _kept(
    first: Revision, last: Revision, store: sqlite3.Connection
) -> dict[tuple[str, int], float]:
    """IoU between the two states of each class; 0 for one that came or went."""
    found = {}
    for key in sorted({*first.classes, *last.classes}):
        one, other = first.classes.get(key), last.classes.get(key)
        if one == other:
            value: float | None = 1.0
        elif one is None or other is None:
            value = 0.0
        else:
            value = _iou(read_drawing(store, one), read_drawing(store, other))
        if value is not None:
            found[key] = value
    return found


def _iou(one: Mask, other: Mask) -> float | None:
    if (one.height_px, one.width_px) != (other.height_px, other.width_px):
        return 0.0
    return iou(one, other)


def _of(state: Revision, label: str) -> dict[int, str]:
    return {page: drawing for (name, page), drawing in state.classes.items() if name == label}


def _actor(state: Revision) -> int | None:
    return state.changed_by if state.changed_by is not None else state.annotator_id


def _findings(summary: Mapping[str, Any], names: NameOf) -> list[Finding]:
    found = []
    if gone := summary["deleted"]:
        one = gone[0]
        since = f"round {one['since_round']}" if one["since_round"] else "they were first read"
        found.append(
            Finding(
                "1 annotation was deleted." if len(gone) == 1
                else f"{len(gone)} annotations were deleted.",
                f"Annotation {one['annotation']} of task {one['task']} was deleted since {since}"
                + (f", and {len(gone) - 1} more." if len(gone) > 1 else "."),
                "warning",
            )
        )  # fmt: skip
    total = summary["total"]["redrawn_share"] or 0.0
    for one in _most_redrawn(summary["annotators"])[:3]:
        share = one["redrawn_share"] or 0.0
        if one["redrawn"] >= 5 and share >= 2 * total and one["by_reviewers"]:
            found.append(
                Finding(
                    f"{share:.0%} of {names(one['id'])}'s annotations were redrawn.",
                    f"{one['by_reviewers']} of {one['revisions']} revisions by somebody else; all "
                    f"annotators: {total:.0%}.",
                    "warning",
                )
            )
    return found


def _most_redrawn(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(entries, key=lambda one: -(one["redrawn_share"] or 0.0))


def _cells(one: Mapping[str, Any]) -> tuple[str | int | float | None, ...]:
    share = one["redrawn_share"]
    return (
        one["annotations"],
        one["redrawn"],
        None if share is None else f"{share:.0%}",
        one["revisions"],
        one["by_reviewers"],
        one["iou_to_first_pass"],
    )


def _person(person: int | None, names: NameOf) -> str:
    return "unknown" if person is None else names(person)


def _week_rate(one: Mapping[str, Any]) -> str | None:
    return f"{one['redrawn_since'] / one['first_passes']:.0%}" if one["first_passes"] else None


def _week(moment: str) -> str:
    """The ISO week of a moment in UTC, e.g. "2026-W47"."""
    year, week, _ = datetime.fromisoformat(moment).isocalendar()
    return f"{year}-W{week:02}"


def _day(moment: str | None) -> str:
    return (moment or "")[:10]
