"""The page of the check ``medical``: organs, agreement of volumes, the worst slices."""

from __future__ import annotations

from math import sqrt
from typing import Any, Final

from qa_plugins.medical_sums import GOLD_ID
from segstudio.report_sections import Finding, NameOf, Section, Table

_WORST_SHOWN: Final = 12
_ENOUGH_VOLUMES: Final = 5
_T_SDS: Final = 1.96


def medical_section(summary: dict[str, Any], names: NameOf) -> Section | None:
    """Return the section of a summary; None where no task shows a DICOM slice."""
    if summary["tasks"] == summary["tasks_without_dicom"] and not summary["problems"]:
        return Section(
            title="Organs on DICOM",
            findings=[
                Finding(
                    "No task of this batch shows a DICOM slice.",
                    "Tasks made by 'segstudio dicom import' have one.",
                )
            ],
        )
    batch, classes = summary["batch"], summary["classes"]
    dimensions = {pair["dimension"] for one in summary["series"] for pair in one["pairs"]}
    how = {
        frozenset({3}): "Surfaces are measured in 3-D.",
        frozenset({2}): "Surfaces are measured slice by slice (2-D): the slices are not at even "
        "distances, or not all annotated by both.",
        frozenset({2, 3}): "Surfaces are measured in 3-D where the slices are at even distances "
        "and all annotated by both, else slice by slice (2-D).",
    }.get(frozenset(dimensions), "")
    against = "gold" if summary["against"] == "gold" else "one another"
    return Section(
        title="Organs on DICOM",
        lead=f"{batch['compared_tasks']} slices of {batch['volumes']} volumes, annotators against "
        f"{against}. {how}",
        findings=_findings(summary, names),
        tables=[
            table
            for table in (
                _organs(classes),
                _volume_table(classes, names),
                _differences(summary["series"], names),
                _worst(summary["worst_slices"], names),
            )
            if table.rows
        ],
    )


def _organs(classes: list[dict[str, Any]]) -> Table:
    return Table(
        ["Organ", "Dice", "lowest", "HD95 (mm)", "largest", "Surface Dice", "at (mm)",
         "Mean distance (mm)", "Comparisons", "only one drew"],
        [
            [
                one["name"], one["dice"], one["lowest_dice"], one["hd95_mm"],
                one["largest_hd95_mm"], one["surface_dice"], one["tolerance_mm"],
                one["mean_distance_mm"], one["comparisons"], one["only_one_drew"],
            ]
            for one in classes
        ],
        note="Means over volumes. HD95 and surface Dice weigh the surface by its area (in 2-D by "
        "its length) and have no value where one drew nothing; Dice is 0 there.",
    )  # fmt: skip


def _volume_table(classes: list[dict[str, Any]], names: NameOf) -> Table:
    rows: list[list[str | int | float | None]] = []
    for one in classes:
        for pair in one["volume_agreement"]:
            limits = pair["limits_ml"]
            if limits is None:
                continue
            rows.append(
                [
                    one["name"], _who(pair["first"], names), _who(pair["second"], names),
                    limits["pairs"], pair["mean_volume_ml"], limits["bias"], limits["lower"],
                    limits["upper"],
                ]
            )  # fmt: skip
    return Table(
        ["Organ", "First", "Second", "Volumes", "Mean (ml)", "First larger by (ml)",
         "95% of differences from", "to"],
        rows,
        title="Agreement of volumes",
        note="Bland and Altman's limits of agreement, over the slices that both annotated.",
    )  # fmt: skip


def _differences(series: list[dict[str, Any]], names: NameOf) -> Table:
    """Return the volumes on which two people differ most, as a share of their mean."""
    found = [
        (
            abs(one["volume_difference_ml"])
            / (one["volume_first_ml"] + one["volume_second_ml"])
            * 2,
            [
                volume["name"], one["name"], _who(pair["first"], names), one["volume_first_ml"],
                _who(pair["second"], names), one["volume_second_ml"], one["volume_difference_ml"],
                f"{pair['slices']} of {volume['slices']}",
            ],
        )
        for volume in series
        for pair in volume["pairs"]
        for one in pair["classes"]
        if one["volume_difference_ml"]
    ]  # fmt: skip
    found.sort(key=lambda row: (-row[0], row[1][0], row[1][1]))
    return Table(
        ["Volume", "Organ", "First", "ml", "Second", "ml", "Difference (ml)", "Slices"],
        [row for _, row in found[:_WORST_SHOWN]],
        title="Largest differences of volume",
    )


def _worst(slices: list[dict[str, Any]], names: NameOf) -> Table:
    return Table(
        ["Task", "Volume", "Slice", "Organ", "First", "Second", "Dice", "HD95 (mm)"],
        [
            [
                one["task"], one["volume"], one["slice"], one["class"], _who(one["first"], names),
                _who(one["second"], names), one["dice"], one["hd95_mm"],
            ]
            for one in slices[:_WORST_SHOWN]
        ],
        title="Worst slices",
    )  # fmt: skip


def _findings(summary: dict[str, Any], names: NameOf) -> list[Finding]:
    found = [
        Finding(one["message"], severity="error", action="Mend the task's data or the gold.")
        for one in summary["problems"][:5]
    ]
    for one in summary["classes"]:
        if one["only_one_drew"]:
            found.append(
                Finding(
                    f"{one['name']}: in {one['only_one_drew']} of {one['comparisons']} "
                    "comparisons only one of the two drew it.",
                    "Their distances have no value and are not in the means.",
                    "warning",
                    f"Look at the slices of {one['name']} that one annotator left empty.",
                )
            )
        for pair in one["volume_agreement"]:
            if (bias := _bias(one["name"], pair, names)) is not None:
                found.append(bias)
    if summary["tasks_without_dicom"]:
        found.append(Finding(f"{summary['tasks_without_dicom']} tasks show no DICOM slice."))
    if summary["tasks_without_spacing"]:
        found.append(
            Finding(
                f"{summary['tasks_without_spacing']} slices have no pixel spacing: they count for "
                "Dice only."
            )
        )
    return found


def _bias(organ: str, pair: dict[str, Any], names: NameOf) -> Finding | None:
    """Return a finding where volumes differ one way, beyond chance (95% interval of the bias)."""
    limits = pair["limits_ml"]
    if limits is None or limits["pairs"] < _ENOUGH_VOLUMES or limits["sd"] is None:
        return None
    if abs(limits["bias"]) <= _T_SDS * limits["sd"] / sqrt(limits["pairs"]):
        return None
    more, less = (pair["first"], pair["second"])[:: 1 if limits["bias"] > 0 else -1]
    share = abs(limits["bias"]) / pair["mean_volume_ml"]
    who = _who(more, names)
    return Finding(
        f"{who[0].upper() + who[1:]} draws {organ} larger than {_who(less, names)}, by "
        f"{abs(limits['bias']):.3g} ml ({share:.0%}) on average.",
        f"{limits['pairs']} volumes.",
        "warning",
        f"Agree where {organ} ends.",
    )


def _who(rater: int, names: NameOf) -> str:
    return "gold" if rater == GOLD_ID else names(rater)
