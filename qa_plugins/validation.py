"""The check ``validation``: faults of single annotations, each with its place, size and severity.

What is a fault depends on the project: see the options of `ValidationCheck`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qa_plugins.validation_faults import Fault, Limits, find_faults
from segstudio.plugins import CheckContext
from segstudio.report_sections import Finding, NameOf, Section, Severity, Table
from segstudio.tasks import Task

MAX_LISTED: Final = 5_000
_SHOWN: Final = 40
_SHOWN_A_KIND: Final = 10
_SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "unlabelled": ("Annotations with pixels that have no class", "Have the images covered fully."),
    "overlap": ("Pairs of regions that overlap", ""),
    "unknown-class": (
        "Regions with a label that the taxonomy or the interface does not know",
        "Map or restore the labels: segstudio labels check shows them.",
    ),
    "no-class": ("Regions without a label", "Give them one, or delete them."),
    "speck": ("Regions with specks", ""),
    "hole": ("Regions with tiny holes", ""),
    "sliver": ("Regions that are slivers", ""),
    "self-intersection": ("Polygons that cross themselves", ""),
    "out-of-bounds": ("Regions that reach over the edge of their image", ""),
    "duplicate": ("Regions drawn twice", "Delete the doubles; they count as two objects."),
    "empty-annotation": ("Submitted annotations without a region where others drew", ""),
    "empty-region": ("Regions without a pixel", "Delete them or draw them again."),
    "wrong-size": (
        "Regions that belong to another image size",
        "Find out whether the images were replaced after annotation.",
    ),
    "forgotten-prompt": (
        "Prompts submitted without their mask",
        "Reopen the tasks: the suggested mask was never accepted.",
    ),
    "missing-class": ("Classes that all others drew and one annotation lacks", ""),
    "unreadable": ("Regions that cannot be read", "Draw them again."),
    "doubtful-data": ("Regions stored oddly, each read as its sentence says", ""),
}


@dataclass(frozen=True, slots=True)
class TaskValidation:
    """The faults of one task, and how much was looked at."""

    task_id: int
    annotations: int
    regions: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class ValidationCheck:
    """Faults that need no second annotator to be seen.

    Skipped annotations are left out; ground truth is checked too. Options: ``coverage`` (share of
    each image that must have a class, e.g. 1; not required by default), ``speck_px`` (16),
    ``hole_px`` (16), ``sliver_px`` (30), ``overlap_px`` (30), ``duplicate_iou`` (0.95); 0 switches
    a limit off.
    """

    name: str = "validation"
    summary: str = "Faults of single annotations: gaps, overlaps, specks, doubles, unknown labels."

    def measure(self, task: Task, context: CheckContext) -> TaskValidation:
        """Find the faults of every submitted annotation of the task."""
        limits = Limits.from_options(context.options)
        looked_at = [one for one in task.annotations if not one.was_cancelled]
        return TaskValidation(
            task_id=task.id,
            annotations=len(looked_at),
            regions=sum(len(one.regions) for one in looked_at),
            faults=tuple(find_faults(task, looked_at, context, limits)),
        )

    def summarize(
        self, measurements: Iterable[TaskValidation], context: CheckContext
    ) -> dict[str, Any]:
        """Count by kind, class and annotator; list the first faults, errors before the rest."""
        totals: Counter[str] = Counter()
        kinds: dict[str, dict[str, Any]] = {}
        classes: dict[str, Counter[str]] = {}
        people: dict[int, Counter[str]] = {}
        listed: dict[str, list[dict[str, Any]]] = {severity: [] for severity in _SEVERITIES}
        for measurement in measurements:
            totals["tasks"] += 1
            totals["annotations"] += measurement.annotations
            totals["regions"] += measurement.regions
            totals["tasks_with_faults"] += bool(measurement.faults)
            totals["tasks_with_errors"] += any(
                fault.severity == "error" for fault in measurement.faults
            )
            for kind in {fault.kind for fault in measurement.faults}:
                kinds.setdefault(kind, {"count": 0, "tasks": 0})["tasks"] += 1
            for fault in measurement.faults:
                kinds[fault.kind]["count"] += 1
                kinds[fault.kind]["severity"] = fault.severity
                totals[fault.severity] += 1
                if fault.class_name:
                    classes.setdefault(fault.class_name, Counter())[fault.kind] += 1
                if fault.annotator_id is not None:
                    people.setdefault(fault.annotator_id, Counter())[fault.kind] += 1
                if len(listed[fault.severity]) < MAX_LISTED:
                    listed[fault.severity].append(fault.as_json())
        faults = [one for severity in _SEVERITIES for one in listed[severity]][:MAX_LISTED]
        return {
            "tasks": totals["tasks"],
            "annotations": totals["annotations"],
            "regions": totals["regions"],
            "tasks_with_faults": totals["tasks_with_faults"],
            "tasks_with_errors": totals["tasks_with_errors"],
            "counts": {severity: totals[severity] for severity in _SEVERITIES},
            "kinds": dict(sorted(kinds.items())),
            "classes": {
                name: dict(sorted(found.items())) for name, found in sorted(classes.items())
            },
            "annotators": [
                {"id": person, "faults": dict(sorted(people[person].items()))}
                for person in sorted(people)
            ],
            "limits": Limits.from_options(context.options).as_json(),
            "faults": faults,
            "faults_not_listed": sum(totals[one] for one in _SEVERITIES) - len(faults),
        }

    def report(self, summary: dict[str, Any], names: NameOf) -> Section:
        """Return the kinds of fault, the gravest first, and the first places to look at."""
        order = {severity: place for place, severity in enumerate(_SEVERITIES)}
        kinds = sorted(
            summary["kinds"].items(),
            key=lambda item: (order[item[1]["severity"]], -item[1]["count"], item[0]),
        )
        findings = [
            Finding(
                text=f"{_WORDS[kind][0]}: {found['count']}.",
                evidence=f"In {found['tasks']} of {summary['tasks']} tasks.",
                severity=found["severity"],
                action=_WORDS[kind][1] if found["severity"] != "note" else "",
            )
            for kind, found in kinds
        ]
        if not findings:
            findings = [Finding("No fault was found.")]
        rows = [
            [
                fault["task"],
                "–" if fault["annotator"] is None else names(fault["annotator"]),
                fault["severity"],
                fault["kind"],
                "–" if fault["bbox"] is None else "x {} y {} · {} × {}".format(*fault["bbox"]),
                fault["message"],
            ]
            for fault in _shown(summary["faults"])
        ]
        total = sum(summary["counts"].values())
        table = Table(
            ["Task", "Annotator", "Severity", "Kind", "Place in pixels", "What"],
            rows,
            note=f"{len(rows)} of {total}, at most {_SHOWN_A_KIND} of a kind; qa.json lists more."
            if total > len(rows)
            else "",
        )
        return Section(
            title="Faults of single annotations",
            lead=f"{summary['annotations']} annotations with {summary['regions']} regions were "
            f"looked at; {summary['tasks_with_errors']} of {summary['tasks']} tasks have an error.",
            findings=findings,
            tables=[table] if rows else [],
        )


def _shown(faults: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first faults of each kind, the gravest first, so that a frequent kind hides no other."""
    seen: Counter[str] = Counter()
    chosen = []
    for fault in faults:
        seen[fault["kind"]] += 1
        if seen[fault["kind"]] <= _SHOWN_A_KIND:
            chosen.append(fault)
    return chosen[:_SHOWN]
