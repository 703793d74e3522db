"""What a delivery says of itself: its manifest, its page, and what keeps it from being made.

Pure: everything here follows from what was read, measured and exported. A manifest carries no time
of its own; the same snapshot gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from exporters.problems import STRICT_KINDS
from segstudio.annotation_hashes import annotation_hash, drawing_hash, utc_text
from segstudio.errors import EXIT_GATE_FAILED, SegstudioError
from segstudio.selection import Policy, choose, submitted
from segstudio.tasks import Task

SCHEMA: Final = "segstudio-delivery/1"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.json.sig"
README: Final = "README.md"
TAXONOMY: Final = "taxonomy.yaml"
INTERFACE: Final = "label-config.xml"
GATES: Final = "gates.yaml"
GUIDELINE_FOLDER: Final = "guideline"
REPORT_FOLDER: Final = "report"
DATA_FOLDER: Final = "data"

_UNREAD_KINDS: Final = STRICT_KINDS | {"size-mismatch"}
_REASONS_SHOWN: Final = 12


class DeliveryRefusedError(SegstudioError):
    """Nothing is delivered: a gate did not pass, or something is wrong with the annotations."""

    exit_code = EXIT_GATE_FAILED

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        more = len(reasons) - _REASONS_SHOWN
        lines = [f"  - {reason}" for reason in reasons[:_REASONS_SHOWN]]
        if more > 0:
            lines.append(f"  and {more} more.")
        super().__init__(
            "Nothing was delivered.\n"
            + "\n".join(lines)
            + "\nMend it and deliver again, or say why it is to be delivered as it is: --override "
            '"reason", which the manifest records.'
        )


@dataclass(slots=True)
class TaskLedger:
    """Which annotations stand behind a delivery: each with its hash, task by task.

    `policy` decides which of them are delivered; the others that were submitted were measured.
    """

    policy: Policy
    tasks: list[dict[str, Any]] = field(default_factory=list)
    _places: dict[int, int] = field(default_factory=dict)

    def add(self, task: Task) -> None:
        """Note a task's submitted annotations."""
        choice = choose(task, self.policy)
        delivered = list(choice.annotations)
        known = submitted(task)
        # Predictions under the policy of that name are delivered and are no annotation.
        both = [*known, *(one for one in delivered if not any(one is other for other in known))]
        entry: dict[str, Any] = {"id": task.id}
        if task.project_id is not None:
            entry["project"] = task.project_id
        entry["annotations"] = [
            {
                "id": one.id,
                "annotator": one.completed_by,
                "changed_at": utc_text(one.updated_at or one.created_at),
                "sha256": annotation_hash(one),
                "drawing": drawing_hash(one),
                "delivered": any(one is other for other in delivered),
            }
            for one in both
        ]
        if choice.left_out is not None:
            entry["left_out"] = choice.left_out
        self._places[task.id] = len(self.tasks)
        self.tasks.append(entry)

    def add_classes(self, task_id: int, classes: Mapping[str, Sequence[int]]) -> None:
        """Add an image's segments and pixels by class id to its task."""
        sums: dict[str, list[int]] = self.tasks[self._places[task_id]].setdefault("classes", {})
        for class_id, (segments, pixels) in classes.items():
            entry = sums.setdefault(class_id, [0, 0])
            entry[0] += segments
            entry[1] += pixels

    def digest(self) -> str:
        """The sha256 of all tasks and annotation hashes: the snapshot that was delivered from."""
        content = [
            [task["id"], [[one["id"], one["sha256"]] for one in task["annotations"]]]
            for task in self.tasks
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def reasons_to_refuse(result: Mapping[str, Any]) -> list[str]:
    """Return why a QA result keeps a batch from being delivered; none when nothing does.

    Args:
        result: DESIGN's `qa.json`, with the check `validation`. A gate that could not be judged
            counts as one that failed, and so does having none.
    """
    batch = result["batch"]
    reasons = []
    if batch["verdict"] != "pass":
        open_gates = [one for one in batch["gates"] if one["verdict"] != "pass"]
        # Those that failed before those that could not be judged.
        open_gates.sort(key=lambda one: one["verdict"] != "fail")
        reasons += [
            f"Gate “{one['name']}” {_word(one['verdict'])}: {one['reason']}" for one in open_gates
        ]
        if not open_gates:
            reasons.append(batch["verdict_reason"])
    validation = result["checks"]["validation"]
    for kind, found in validation["kinds"].items():
        if found["severity"] == "error":
            example = next(one for one in validation["faults"] if one["kind"] == kind)
            reasons.append(
                f"Validation: {found['count']} x {kind} in {found['tasks']} tasks, for example "
                f"task {example['task']}: {example['message']}"
            )
    return [*reasons, *_unread_reasons("checked", result["errors"])]


def _word(verdict: str) -> str:
    return "failed" if verdict == "fail" else "could not be judged"


def reasons_of_export(format_name: str, dataset: Mapping[str, Any]) -> list[str]:
    """Return what was annotated and did not reach an export, from its `dataset.json`."""
    reasons = []
    if dataset["failed_images"]:
        reasons.append(f"{format_name}: {dataset['failed_images']} images could not be exported.")
    counts = dataset["problems"]["counts"]
    lost = [f"{count} x {kind}" for kind, count in counts.items() if kind in STRICT_KINDS]
    if lost:
        reasons.append(f"{format_name}: annotated and not in the export: {', '.join(lost)}.")
    unreadable = dataset["losses"].get("unreadable_regions", 0)
    if unreadable and not lost:
        reasons.append(f"{format_name}: {unreadable} regions could not be read.")
    return reasons


def _unread_reasons(what: str, problems: Iterable[Mapping[str, Any]]) -> list[str]:
    unread = [one for one in problems if one["kind"] in _UNREAD_KINDS]
    if not unread:
        return []
    return [f"{len(unread)} things could not be {what}, for example: {unread[0]['message']}"]


def override_record(reason: str | None, reasons: Sequence[str]) -> dict[str, Any] | None:
    """Return what a manifest keeps of an override: None where nothing had to be overridden.

    Raises:
        DeliveryRefusedError: there are reasons against delivering and none was given for it.
    """
    if not reasons:
        return None
    if reason is None or not reason.strip():
        raise DeliveryRefusedError(reasons)
    return {"reason": reason.strip(), "of": list(reasons)}


def gates_record(
    file: Mapping[str, str] | None, result: Mapping[str, Any], checks: Sequence[str]
) -> dict[str, Any]:
    """Return the part of a manifest that says what was asked and what came out.

    Args:
        file: `name`, `file` and `sha256` of the gates, None where there are none.
        result: DESIGN's `qa.json`.
        checks: those that ran.
    """
    batch = result["batch"]
    validation = result["checks"]["validation"]
    return {
        "gates": {**file, "results": batch["gates"]} if file else None,
        "verdict": batch["verdict"],
        "verdict_reason": batch["verdict_reason"],
        "measured": {
            "checks": list(checks),
            "tasks": batch["tasks"],
            "compared_tasks": batch["compared_tasks"],
            "pairs": batch["pairs"],
            "miou": batch["miou"]["accumulated"],
        },
        "validation": dict(validation["counts"]),
    }


def format_record(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest says of one format, from its `dataset.json`."""
    return {
        "folder": f"{DATA_FOLDER}/{dataset['format']}",
        "images": dataset["images"],
        "segments": sum(one["segments"] for one in dataset["classes"]),
        "losses": {kind: count for kind, count in dataset["losses"].items() if count},
    }


def class_records(dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the classes with what was delivered of them, from a `dataset.json`."""
    keys = ("id", "name", "kind", "images", "segments", "pixels")
    return [{key: one[key] for key in keys} for one in dataset["classes"]]


def readme_text(head: Mapping[str, Any]) -> str:
    """Return the page that lies beside the manifest, in Markdown, from what the manifest says."""
    policy, gates = head["annotations_taken"], head["gates"]
    lines = [
        f"# Delivery: {head['taxonomy']['name']}",
        "",
        f"From {head['selection']['text']}"
        + (
            f"; last annotation {head['last_annotation_at']}."
            if head["last_annotation_at"]
            else "."
        ),
        "",
        f"- Verdict of the gates{' `' + gates['name'] + '`' if gates else ''}: "
        f"**{head['verdict']}**. {head['verdict_reason']}",
        f"- Annotations: {policy['takes']} (policy `{policy['policy']}`), {policy['tasks_taken']} "
        f"of {policy['tasks_read']} tasks"
        + "".join(f"; {count} {why}" for why, count in policy["tasks_left_out"].items())
        + ".",
        f"- Validation: {head['validation']['error']} errors, "
        f"{head['validation']['warning']} warnings.",
        f"- Classes: `{TAXONOMY}`, version {head['taxonomy']['version'] or 'not given'}.",
    ]
    if head["guideline"]:
        lines.append(f"- Guideline: `{head['guideline']['file']}`.")
    override = head["override"]
    if override:
        lines += [
            "",
            "## Delivered although it was not accepted",
            "",
            f"**Reason given: {override['reason']}**",
            "",
            *(f"- {reason}" for reason in override["of"]),
        ]
    lines += ["", "## Inside", ""]
    lines += [
        f"- `{one['folder']}/`: {one['images']} images, {one['segments']} segments as {name}; its "
        "`README.md` says what the format could not hold."
        for name, one in head["formats"].items()
    ]
    lines += [
        f"- `{REPORT_FOLDER}/qa.html`: how far the annotators agree, and what was checked.",
        f"- `{MANIFEST}`: the SHA-256 of every file here and of every annotation behind it.",
    ]
    lines += ["", "| class | images | segments | pixels |", "|---|---:|---:|---:|"]
    lines += [
        f"| {str(one['name']).replace('|', chr(92) + '|')} | {one['images']} | {one['segments']} "
        f"| {one['pixels']} |"
        for one in head["classes"]
    ]
    signed = head["signature"]
    lines += [
        "",
        "## Is it whole and unchanged?",
        "",
        "`segstudio deliver verify` on this folder or zip file says so; so does any program that "
        f"computes SHA-256, from `{MANIFEST}`.",
        f"`{SIGNATURE}` is the Ed25519 signature of `{MANIFEST}`, made with the key "
        f"`{signed['public_key']}`. Ask for that key on another way than this delivery came."
        if signed
        else "It is not signed.",
    ]
    return "\n".join(lines) + "\n"
