"""The check ``assist``: what became of the model's suggestions, by class and by annotator.

Of a stored prediction (a pre-label) both sides are known: what was suggested and what was
submitted. Of a click only the outcome is: Label Studio keeps no rejected suggestion and not what an
accepted one looked like before it was edited. So clicks are counted, never called kept or edited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from qa_plugins.suggestions import Fate, began_with_a_prediction, fates_of, source_prediction
from segstudio.errors import UsageError
from segstudio.plugins import CheckContext
from segstudio.report_sections import Finding, NameOf, Section, Table
from segstudio.tasks import Annotation, Task

_MIN_SUGGESTIONS: Final = 20
_MANY_THROWN_AWAY: Final = 0.3
_NEARLY_ALL: Final = 0.95
_CLEARLY_FEWER: Final = 0.75


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds a region of one annotation, and whether a model had a part in all, none or some."""

    annotator_id: int | None
    seconds: float
    assisted: bool | None
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskAssist:
    """One task's fates and paces; `without_prediction` annotations began with one not stored."""

    fates: tuple[Fate, ...]
    paces: tuple[Pace, ...]
    annotations: int
    without_prediction: int


@dataclass(frozen=True, slots=True)
class AssistCheck:
    """What SAM contributed.

    Option: ``match_iou`` (0.5), the overlap from which a submitted region without the suggestion's
    id still counts as that suggestion, edited.
    """

    name: str = "assist"
    summary: str = "What became of the model's suggestions: kept, edited, thrown away; and the time"

    def measure(self, task: Task, context: CheckContext) -> TaskAssist:
        """Follow the suggestions of each submitted annotation; ground truth is left out."""
        least = _match_iou(context)
        fates: list[Fate] = []
        paces: list[Pace] = []
        counted = missing = 0
        for annotation in task.annotations:
            if annotation.was_cancelled or annotation.ground_truth:
                continue
            counted += 1
            source = source_prediction(annotation, task.predictions)
            missing += source is None and began_with_a_prediction(annotation)
            found = fates_of(annotation, source, context.taxonomy, least)
            fates += found
            pace = _pace(annotation, found)
            paces += [pace] if pace is not None else []
        return TaskAssist(tuple(fates), tuple(paces), counted, missing)

    def summarize(
        self, measurements: Iterable[TaskAssist], context: CheckContext
    ) -> dict[str, Any]:
        """Return the counts over all, by class (of the suggestion) and by annotator."""
        fates: list[Fate] = []
        paces: list[Pace] = []
        annotations = missing = 0
        for one in measurements:
            fates += one.fates
            paces += one.paces
            annotations += one.annotations
            missing += one.without_prediction
        people = sorted({one.annotator_id for one in fates if one.annotator_id is not None})
        seen = {one.class_name for one in fates}
        return {
            "annotations": annotations,
            "annotations_without_their_prediction": missing,
            "mixed_annotations_not_timed": sum(one.assisted is None for one in paces),
            "all": _counts(fates, paces),
            "classes": [
                {
                    "name": one.name,
                    **_counts(
                        [fate for fate in fates if fate.class_name == one.name],
                        [pace for pace in paces if pace.classes == (one.name,)],
                    ),
                }
                for one in context.taxonomy.scored_classes
                if one.name in seen
            ],
            "annotators": [
                {
                    "id": person,
                    **_counts(
                        [fate for fate in fates if fate.annotator_id == person],
                        [pace for pace in paces if pace.annotator_id == person],
                    ),
                }
                for person in people
            ],
        }

    def report(self, summary: dict[str, Any], names: NameOf) -> Section | None:
        """Return what was kept, edited and thrown away in a sentence, and the tables behind it."""
        whole = summary["all"]
        if whole["suggestions"] + whole["clicks"] == 0:
            return None
        note = (
            "Kept, edited, thrown away: pre-labels whose prediction is stored, or whose regions "
            "say so. From clicks: accepted suggestions, known by their score; whether they were "
            "edited afterwards, and which were rejected, Label Studio does not store. Times: lead "
            "time by region, of annotations made wholly with a model or wholly by hand; people "
            "pause, and the two were not drawn by lot, so read them as a hint."
        )
        tables = [
            Table(
                ["Class", *_COLUMNS],
                [[one["name"], *_row(one)] for one in summary["classes"]],
                title="By class",
                note=note,
            ),
            Table(
                ["Annotator", *_COLUMNS],
                [[names(one["id"]), *_row(one)] for one in summary["annotators"]],
                title="By annotator",
            ),
        ]
        return Section(
            title="What the model contributed",
            lead=_lead(summary),
            findings=[*_class_findings(summary), *_annotator_findings(summary, names)],
            tables=tables,
        )


_COLUMNS: Final = (
    "Suggestions", "Kept", "Edited", "Pixels changed, median", "Relabelled", "Thrown away",
    "From clicks", "By hand", "Assisted (s a region)", "By hand (s a region)",
)  # fmt: skip


def _match_iou(context: CheckContext) -> float:
    given = context.options.get("match_iou", "0.5")
    try:
        least = float(given)
    except ValueError:
        least = 0.0
    if not 0 < least <= 1:
        raise UsageError(f"The option match_iou of the check assist is above 0 to 1, not {given}.")
    return least


def _pace(annotation: Annotation, fates: Sequence[Fate]) -> Pace | None:
    made = [one for one in fates if one.outcome != "thrown_away"]
    if not made or not annotation.lead_time_s:
        return None
    by_hand = sum(one.outcome == "by_hand" for one in made)
    assisted = None if 0 < by_hand < len(made) else by_hand == 0
    if by_hand == len(made) and len(fates) > len(made):
        assisted = None  # suggestions were looked at and thrown away: not wholly by hand
    classes = tuple(sorted({one.class_name for one in made}))
    return Pace(annotation.completed_by, annotation.lead_time_s / len(made), assisted, classes)


def _counts(fates: Sequence[Fate], paces: Sequence[Pace]) -> dict[str, Any]:
    number = {
        outcome: sum(one.outcome == outcome for one in fates)
        for outcome in ("kept", "edited", "thrown_away", "click", "by_hand")
    }
    changed = [
        one.changed_px / one.union_px
        for one in fates
        if one.outcome == "edited" and one.changed_px is not None and one.union_px
    ]
    return {
        "suggestions": number["kept"] + number["edited"] + number["thrown_away"],
        "kept": number["kept"],
        "edited": number["edited"],
        "relabelled": sum(one.is_relabelled for one in fates),
        "thrown_away": number["thrown_away"],
        "changed_px": sum(one.changed_px or 0 for one in fates),
        "changed_share_median": median(changed) if changed else None,
        "clicks": number["click"],
        "by_hand": number["by_hand"],
        "assisted_s": _median_s(paces, assisted=True),
        "by_hand_s": _median_s(paces, assisted=False),
    }


def _median_s(paces: Sequence[Pace], *, assisted: bool) -> float | None:
    values = [one.seconds for one in paces if one.assisted is assisted]
    return median(values) if values else None


def _row(one: Mapping[str, Any]) -> list[str | int | float | None]:
    share = one["changed_share_median"]
    return [
        one["suggestions"],
        one["kept"],
        one["edited"],
        None if share is None else f"{share:.1%}",
        one["relabelled"],
        one["thrown_away"],
        one["clicks"],
        one["by_hand"],
        *(None if one[key] is None else f"{one[key]:.1f}" for key in ("assisted_s", "by_hand_s")),
    ]


def _lead(summary: Mapping[str, Any]) -> str:
    whole = summary["all"]
    count = whole["suggestions"]
    parts = []
    if count:
        shares = [f"{whole[key] / count:.0%}" for key in ("kept", "edited", "thrown_away")]
        parts.append(
            f"Of {count} suggestions {shares[0]} were kept as they were, {shares[1]} edited and "
            f"{shares[2]} thrown away."
        )
    if whole["clicks"]:
        parts.append(f"{whole['clicks']} regions came from accepted clicks.")
    if whole["by_hand"]:
        parts.append(f"{whole['by_hand']} were drawn by hand.")
    missing = summary["annotations_without_their_prediction"]
    if missing:
        parts.append(
            f"{missing} annotations began with a prediction that this source does not hold (export "
            "files list ids only): what they threw away is not known."
        )
    return " ".join(parts)


def _class_findings(summary: Mapping[str, Any]) -> list[Finding]:
    found = []
    for one in summary["classes"]:
        count, thrown = one["suggestions"], one["thrown_away"]
        if count >= _MIN_SUGGESTIONS and thrown / count >= _MANY_THROWN_AWAY:
            found.append(
                Finding(
                    f"{thrown} of {count} suggestions of “{one['name']}” were thrown away.",
                    f"{one['kept']} were kept, {one['edited']} edited.",
                    "warning",
                    f"Leave “{one['name']}” out of the pre-labels, or give it another prompt or "
                    "model.",
                )
            )
    return found


def _annotator_findings(summary: Mapping[str, Any], names: NameOf) -> list[Finding]:
    """Who keeps nearly everything where the others do not: perhaps nobody looked."""
    found = []
    whole = summary["all"]
    for one in summary["annotators"]:
        others = whole["suggestions"] - one["suggestions"]
        if min(one["suggestions"], others) < _MIN_SUGGESTIONS:
            continue
        kept, kept_by_others = (
            one["kept"] / one["suggestions"],
            (whole["kept"] - one["kept"]) / others,
        )
        if kept >= _NEARLY_ALL and kept_by_others < _CLEARLY_FEWER:
            found.append(
                Finding(
                    f"{names(one['id'])} kept {kept:.0%} of the suggestions untouched; the others "
                    f"{kept_by_others:.0%}.",
                    f"{one['kept']} of {one['suggestions']} suggestions.",
                    "warning",
                    f"Look at some of {names(one['id'])}'s tasks: were the suggestions checked?",
                )
            )
    return found
