"""What the agreement says on the page beside its tables: sentences a lead can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qa_plugins.disagreement import sentence
from segstudio.report_sections import Finding, NameOf, Section, Severity, Table

_CARRIED_SHARE = 0.5  # of the agreeing pixels, left as the shared pre-label had them
_BLUNDER_SHARE = 0.25  # missed and mislabelled: more than a matter of outlines


def agreement_section(result: Mapping[str, Any], names: NameOf) -> Section | None:
    """What the disagreement is made of, class by class; None where nothing was compared."""
    if not result["batch"]["compared_tasks"]:
        return None
    near_px = result["batch"]["disagreement"]["within_px"]
    return Section(
        title="Boundary or blunder",
        lead="What the pixels are on which two people disagree: a matter of where to draw the "
        "line, or objects missed and misnamed; and whether pre-labels made them agree.",
        findings=[
            _coverage(result["batch"]),
            *_anchoring(result["batch"]),
            *(_disagreements(result, near_px) or [Finding("The annotators agree on every pixel.")]),
        ],
        tables=[*_disagreement_table(result, near_px), *_supercategory_table(result)],
    )


def _coverage(batch: Mapping[str, Any]) -> Finding:
    """Who was measured at all, and the agreement beyond chance."""
    found = batch["coverage"]
    alpha = batch["alpha"]
    beyond = "" if alpha is None else f"Krippendorff's alpha over all pixels is {alpha:.3f}. "
    return Finding(
        f"{found['annotators_compared']} of {found['annotators']} annotators measured, "
        f"{found['pairs_compared']} of {found['pairs_possible']} pairs.",
        f"{beyond}Every pair weighs alike in the means; intervals resample tasks, never pairs.",
    )


def _anchoring(batch: Mapping[str, Any]) -> list[Finding]:
    """Whether shared pre-labels carry the agreement, and how it is with and without a model."""
    found = batch["anchoring"]
    findings = []
    if found["shared_pairs"]:
        share, decided = found["untouched_share"], found["miou_decided"]
        is_carried = decided is None or (share or 0.0) >= _CARRIED_SHARE
        on_decided = (
            "nobody changed a pixel of it, so this is no evidence of agreement"
            if decided is None
            else f"where people decided, mIoU is {decided:.3f} in place of "
            f"{batch['miou']['accumulated']:.3f}"
        )
        untouched = "" if share is None else f"{share:.0%} of the agreeing pixels are untouched. "
        findings.append(
            Finding(
                f"Shared pre-labels {'carry this agreement' if is_carried else 'had a part'}: "
                f"{on_decided}.",
                f"{untouched}{found['shared_pairs']:,} of {batch['pairs']:,} pairs began with one "
                "and the same pre-label.",
                "warning" if is_carried else "note",
                "Have some tasks annotated without the pre-label before trusting this agreement."
                if is_carried
                else "",
            )
        )
    by_assistance = found["by_assistance"]
    helped, alone = by_assistance["assisted"], by_assistance["unassisted"]
    if helped["miou"] is not None and alone["miou"] is not None:
        findings.append(
            Finding(
                f"With a model's help two people agree with an mIoU of {helped['miou']:.3f}, "
                f"without with {alone['miou']:.3f}.",
                f"{helped['pairs']:,} and {alone['pairs']:,} pairs, accumulated.",
            )
        )
    return findings


def _disagreements(result: Mapping[str, Any], near_px: int) -> list[Finding]:
    """A sentence a class, the class with most disagreement first."""
    findings = []
    for one in _by_disagreement(result):
        found = one["disagreement"]
        blunders = found["missed"] + found["mislabelled"]
        severity: Severity = "warning" if blunders >= _BLUNDER_SHARE else "note"
        findings.append(
            Finding(
                f"“{one['name']}”: {sentence(found, near_px)}.",
                f"{found['pixels']:,} pixels, IoU {one['iou']['accumulated']:.3f}.",
                severity,
            )
        )
    return findings


def _disagreement_table(result: Mapping[str, Any], near_px: int) -> list[Table]:
    classes = _by_disagreement(result)
    if not classes:
        return []
    rows = []
    for one in classes:
        found = one["disagreement"]
        seconds = found["rework_s"]
        rows.append(
            [
                one["name"], found["pixels"],
                *(f"{found[kind]:.1%}" for kind in ("boundary", "missed", "mislabelled", "shape")),
                found["missed_objects"],
                None if seconds is None else round(seconds / 60, 1),
            ]
        )  # fmt: skip
    columns = [
        "Class", "Pixels in dispute", f"Within {near_px} px", "Missed objects", "Other class",
        "Shape", "Objects", "Rework (min)",
    ]  # fmt: skip
    return [
        Table(
            columns,
            rows,
            note="Pixels and objects are counted over all pairs. Rework: each missed object takes "
            "its equal share of the lead time of the annotation that holds it, once per task.",
        )
    ]


def _supercategory_table(result: Mapping[str, Any]) -> list[Table]:
    """IoU of each supercategory beside the mean of its classes."""
    of_class = {one["name"]: one["iou"]["accumulated"] for one in result["classes"]}
    rows = []
    for one in result["supercategories"]:
        known = [of_class[name] for name in one["classes"] if of_class.get(name) is not None]
        if known:
            names = ", ".join(one["classes"])
            rows.append([one["name"], one["iou"]["accumulated"], sum(known) / len(known), names])
    if not rows:
        return []
    return [
        Table(
            ["Supercategory", "IoU as one class", "Mean IoU of its classes", "Classes"],
            rows,
            title="One level up",
            note="Where the first is much higher than the second, people see the same things and "
            "disagree on their names.",
        )
    ]


def _by_disagreement(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    disputed = [one for one in result["classes"] if one["disagreement"]["pixels"]]
    return sorted(disputed, key=lambda one: -one["disagreement"]["pixels"])
