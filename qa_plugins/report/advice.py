"""What to do next: a few sentences that follow from a QA result, the most urgent first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segstudio.report_sections import Section, Severity

WEAK_BELOW = 0.70
HIDDEN_GAP = 0.15
CONFUSED_SHARE = 0.05
_UNLABELLED = "(unlabelled)"
_NOTES = frozenset({"derived-label-config"})  # said to be known, nothing to mend


@dataclass(frozen=True, slots=True)
class Advice:
    """One step: what to do, and the evidence for it."""

    action: str
    evidence: str


def weak_classes(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Classes that are low, or far below the mean that hides them; the lowest first."""
    mean = result["batch"]["miou"]["accumulated"]
    limits = [
        gate["threshold"]
        for gate in result["batch"].get("gates", [])
        if gate["against"] == "annotators" and gate["metric"].startswith(("iou", "miou"))
    ]
    floor = min([*limits, WEAK_BELOW])
    weak = [
        entry
        for entry in result["classes"]
        if (value := entry["iou"]["accumulated"]) is not None
        and (value < floor or (mean is not None and value < mean - HIDDEN_GAP))
    ]
    return sorted(weak, key=lambda entry: (entry["iou"]["accumulated"], entry["name"]))


def is_hidden_by_mean(result: Mapping[str, Any], weak: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the mean looks well while some class does not."""
    mean = result["batch"]["miou"]["accumulated"]
    drawn = [entry for entry in result["classes"] if entry["iou"]["accumulated"] is not None]
    return bool(
        weak
        and mean is not None
        and len(weak) * 2 <= len(drawn)
        and weak[0]["iou"]["accumulated"] < mean - HIDDEN_GAP
    )


def next_steps(
    result: Mapping[str, Any], people: Mapping[int, str], sections: Sequence[Section] = ()
) -> list[Advice]:
    """The steps that a batch needs, at most ten; one friendly sentence when it needs none.

    That nothing was compared is said only where agreement was asked for.
    """
    steps = [
        *(_nothing_compared(result) if result.get("annotators") or not sections else []),
        *_found(sections, "error"),
        *_rework(result),
        *_failed_references(result),
        *_weak(result),
        *_confused(result),
        *_outlier(result, people),
        *_found(sections, "warning"),
        *_unread(result),
        *_too_few(result),
    ]
    if not steps:
        steps = [Advice("Nothing to do.", "Every class and every task is above its threshold.")]
    return steps[:10]


def _found(sections: Sequence[Section], severity: Severity) -> list[Advice]:
    return [
        Advice(finding.action, " ".join(part for part in (finding.text, finding.evidence) if part))
        for section in sections
        for finding in section.findings
        if finding.action and finding.severity == severity
    ]


def confusions(result: Mapping[str, Any]) -> list[tuple[str, str, int, float]]:
    """Pairs of classes drawn for each other: names, pixels, share of the smaller class's pixels."""
    confusion = result.get("confusion") or {"labels": [], "pixels": []}
    labels: Sequence[str] = confusion["labels"]
    pixels = confusion["pixels"]
    totals = [sum(row) for row in pixels]
    found = []
    for i, first in enumerate(labels):
        for j in range(i + 1, len(labels)):
            if _UNLABELLED in (first, labels[j]) or not pixels[i][j]:
                continue
            share = pixels[i][j] / min(totals[i], totals[j])
            found.append((first, labels[j], pixels[i][j], share))
    return sorted(found, key=lambda item: (-item[3], item[0], item[1]))


def _nothing_compared(result: Mapping[str, Any]) -> list[Advice]:
    batch = result["batch"]
    if batch["compared_tasks"] or not batch["tasks"]:
        return []
    truths = batch["kept_out"].get("ground_truth", 0)
    if truths:
        return [
            Advice(
                "Unset ground truth on the annotations that annotators made.",
                f"{truths} annotations are marked as ground truth and were not compared; "
                "Label Studio sets the mark on every annotation that is imported.",
            )
        ]
    return [
        Advice(
            "Have at least two people annotate the same tasks.",
            "No task has submitted annotations by two different people.",
        )
    ]


def _rework(result: Mapping[str, Any]) -> list[Advice]:
    tasks = [task for task in result["tasks"] if task.get("verdict") == "rework"]
    if not tasks:
        return []
    worst = sorted(tasks, key=lambda task: (task["miou"], task["id"]))[:5]
    ids = ", ".join(str(task["id"]) for task in worst)
    more = "" if len(tasks) <= 5 else f" and {len(tasks) - 5} more"
    return [
        Advice(
            f"Send {len(tasks)} {'task' if len(tasks) == 1 else 'tasks'} back for rework.",
            f"Worst first: task {ids}{more}. All are in tasks.csv (verdict rework) and, after "
            "write-back, in the tab “QA: needs rework” of the Data Manager.",
        )
    ]


def _failed_references(result: Mapping[str, Any]) -> list[Advice]:
    """The tasks behind gates against gold or consensus; those between annotators are rework."""
    failed = [
        gate
        for gate in result["batch"].get("gates", [])
        if gate["verdict"] == "fail" and gate["against"] != "annotators" and gate["worst_tasks"]
    ]
    failed.sort(key=lambda gate: (gate["value"] or 0.0) - gate["threshold"])
    steps = []
    for gate in failed[:2]:
        tasks = [one["task"] for one in gate["worst_tasks"]]
        ids = ", ".join(map(str, tasks[:5]))
        more = "" if len(tasks) <= 5 else f" and {len(tasks) - 5} more"
        what = f"“{gate['subject']}” on " if gate["scope"] == "class" else ""
        many = "1 task" if len(tasks) == 1 else f"{len(tasks)} tasks"
        action = f"Look at {what}{many} that differ from the {gate['against']}."
        steps.append(Advice(action, f"{gate['reason']} Worst first: task {ids}{more}."))
    return steps


def _weak(result: Mapping[str, Any]) -> list[Advice]:
    steps = []
    for entry in weak_classes(result)[:3]:
        name, value, f1 = entry["name"], entry["iou"]["accumulated"], entry["f1"]
        if f1 is not None and f1 >= 0.9:
            action = f"Write down where “{name}” ends."
            why = f"people find the same objects (F1 {f1:.2f}) but draw their outlines apart"
        else:
            action = f"Settle what counts as “{name}”."
            found = "" if f1 is None else f" (object F1 {f1:.2f})"
            why = f"people do not find the same objects{found}"
        tasks = entry["tasks"]
        steps.append(
            Advice(action, f"IoU {value:.2f} in {tasks} task{'' if tasks == 1 else 's'}: {why}.")
        )
    return steps


def _confused(result: Mapping[str, Any]) -> list[Advice]:
    return [
        Advice(
            f"Tell “{first}” and “{second}” apart in the guideline.",
            f"{share:.0%} of the pixels of the smaller one were drawn as the other.",
        )
        for first, second, _, share in confusions(result)[:2]
        if share >= CONFUSED_SHARE
    ]


def _outlier(result: Mapping[str, Any], people: Mapping[int, str]) -> list[Advice]:
    scored = [
        (entry["miou"]["accumulated"], entry["id"])
        for entry in result["annotators"]
        if entry["miou"]["accumulated"] is not None
    ]
    if len(scored) < 3:
        return []
    lowest, person = min(scored)
    others = [value for value, other in scored if other != person]
    mean = sum(others) / len(others)
    if mean - lowest < 0.05:
        return []
    return [
        Advice(
            f"Go through a few tasks together with {people.get(person, 'this annotator')}.",
            f"Mean IoU with the others is {lowest:.2f}; theirs is {mean:.2f}.",
        )
    ]


def _unread(result: Mapping[str, Any]) -> list[Advice]:
    kinds = Counter(error["kind"] for error in result["errors"] if error["kind"] not in _NOTES)
    if not kinds:
        return []
    total = sum(kinds.values())
    listed = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(3))
    return [
        Advice(
            f"Look at {total} {'problem' if total == 1 else 'problems'} in the data.",
            f"Most are: {listed}. Each is listed below with its task and annotation.",
        )
    ]


def _too_few(result: Mapping[str, Any]) -> list[Advice]:
    short = [
        gate
        for gate in result["batch"].get("gates", [])
        if gate["verdict"] == "n/a"
        and gate["tasks"] < gate["min_tasks"]
        and (gate["tasks"] or gate["against"] == "annotators")
    ]
    annotated = [gate for gate in short if gate["against"] != "gold"]
    if result["batch"]["compared_tasks"] and annotated:
        missing = max(gate["min_tasks"] - gate["tasks"] for gate in annotated)
        action = f"Have {missing} more {'task' if missing == 1 else 'tasks'} annotated twice."
        return [Advice(action, annotated[0]["reason"])]
    if short and len(annotated) < len(short):
        missing = max(gate["min_tasks"] - gate["tasks"] for gate in short)
        action = f"Make gold for {missing} more {'task' if missing == 1 else 'tasks'}."
        return [Advice(action, short[0]["reason"])]
    return []
