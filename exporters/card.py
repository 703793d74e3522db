"""The card beside every export: dataset.json for programs, README.md for people.

Both say what is inside, who drew it, under which policies, and what the format could not hold.
They carry no time of their own: the same input gives the same card.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exporters.files import write_json, write_text
from exporters.plan import Plan
from exporters.problems import ProblemLog, place
from exporters.statistics import Statistics
from segstudio.cli import installed_version
from segstudio.plugins import ExportContext, Exporter
from segstudio.source import Source, describe_selection
from segstudio.source_description import source_name
from segstudio.tasks import Problem
from segstudio.taxonomy import dump_taxonomy
from segstudio.versions import package_version

CARD: Final = "dataset.json"
README: Final = "README.md"
TAXONOMY: Final = "taxonomy.yaml"
MARKER: Final = "segstudio_version"
_PROBLEMS_SHOWN: Final = 20
_ANSWERS_SHOWN: Final = 12

LOSS_SENTENCES: Final[Mapping[str, str]] = {
    "overlapped_px": "pixels of a region lie under another segment (see the overlap policy)",
    "hidden_regions": "regions lie wholly under others and have no pixel left",
    "empty_regions": "regions were stored without a single pixel",
    "keypoint_regions": "key points have no area and were left out",
    "outside_taxonomy_regions": "regions have no label, or one that the taxonomy does not know",
    "several_labels_regions": "regions have several labels; the first in taxonomy order was taken",
    "unreadable_regions": "regions are damaged or belong to another image size",
    "objects_without_majority": "drawn objects had no majority among the annotators",
    "answers_without_majority": "answers about whole images had no majority among the annotators",
    "images_not_copied": "images could not be opened and are not beside their annotations",
    "instances_merged": "objects share their class with another one of the image; "
    "a label map does not tell them apart",
    "segments_outside_the_schema": "segments belong to classes that the schema leaves out",
    "stuff_left_out": "stuff segments were left out, as `stuff=exclude` asks",
    "void_px_not_held": "pixels are VOID, which this format cannot mark; they read as background",
    "parts_bridged": "bridges join parts of an object, which this format cannot keep apart",
    "bridge_px": "pixels are covered by such bridges and read as part of an object",
    "parts_split": "parts of an object were written as objects of their own",
    "border_px": "pixels along borders were made VOID, as `border_px` asks",
    "polygon_px": "pixels of an object lie under a bridge in the polygons' file; the images are "
    "exact",
    "instances_beyond_1000": "objects beyond the 1000th of their class were written as groups",
    "void_px_as_unlabeled": "pixels are VOID, which this format does not tell from unlabelled",
    "segments_without_train_id": "segments belong to classes without a train id and became VOID",
    "tracks_not_given": "objects had no track id of their annotator; region ids or overlap link "
    "them, see tracks.json",
    "segments_without_their_attributes": "segments had attributes, which this format cannot hold",
}


def write_cards(
    exporter: Exporter,
    context: ExportContext,
    source: Source,
    plan: Plan,
    statistics: Mapping[str, Statistics],
    problems: ProblemLog,
    qa: Mapping[str, Any] | None,
    *,
    failed: int,
) -> dict[str, Any]:
    """Write the card of the export, and one in each annotator's folder; return the export's."""
    common = {
        "format": exporter.name,
        MARKER: installed_version(),
        "source": source_name(source.description),
        "project_id": source.project_id,
        "selection": describe_selection(source).as_json(),
        "last_annotation_at": plan.last_change or None,
        "annotations": plan.survey.as_json(),
        "overlap_policy": context.options.get("overlap"),
        "taxonomy": {
            "name": context.taxonomy.name,
            "version": context.taxonomy.version,
            "void_id": context.taxonomy.void_id,
            "unlabelled_id": context.taxonomy.unlabelled_id,
        },
        "versions": _versions(context),
        "qa": _qa_summary(qa, plan),
    }
    whole = {
        **common,
        "annotators": _annotators(plan.annotators),
        "failed_images": failed,
        **_total(statistics.values()).as_json(context.taxonomy),
        "problems": problems.as_json(),
    }
    folders = sorted(folder for folder in statistics if folder)
    if folders:
        whole["folders"] = folders
    for folder in folders:
        part = {
            **common,
            "annotators": _annotators({folder: plan.annotators[folder]}),
            **statistics[folder].as_json(context.taxonomy),
        }
        write_text(context.out_dir / folder / TAXONOMY, dump_taxonomy(context.taxonomy))
        _write(context.out_dir / folder, part, exporter, (), in_folder=True)
    # What an import of this folder takes as it is: aliases and boundary rules no format holds.
    write_text(context.out_dir / TAXONOMY, dump_taxonomy(context.taxonomy))
    _write(context.out_dir, whole, exporter, problems.first)
    return whole


def _write(
    folder: Path,
    card: Mapping[str, Any],
    exporter: Exporter,
    problems: list[Problem] | tuple[()],
    *,
    in_folder: bool = False,
) -> None:
    write_json(folder / CARD, card)
    text = readme_text(card, exporter, list(problems), in_folder=in_folder)
    write_text(folder / README, text)


def _annotators(by_folder: Mapping[str, Mapping[int | None, int]]) -> list[dict[str, Any]]:
    totals: dict[int | None, int] = {}
    for counts in by_folder.values():
        for annotator, images in counts.items():
            totals[annotator] = totals.get(annotator, 0) + images
    ordered = sorted(totals.items(), key=lambda item: (item[0] is None, item[0] or 0))
    return [{"id": annotator, "images": images} for annotator, images in ordered]


def _total(parts: Any) -> Statistics:
    total = Statistics()
    for part in parts:
        total.merge(part)
    return total


def _versions(context: ExportContext) -> dict[str, str | None]:
    """Return what the bytes depend on beside the annotations."""
    packages = ("numpy", "pillow", "zlib-ng")
    return {
        "segstudio": installed_version(),
        "taxonomy": context.taxonomy.version,
        **{name: package_version(name) for name in packages},
    }


def _qa_summary(qa: Mapping[str, Any] | None, plan: Plan) -> dict[str, Any] | None:
    batch = (qa or {}).get("batch")
    if qa is None or not isinstance(batch, Mapping):
        return None
    tasks = qa.get("tasks")
    measured = {one.get("id") for one in tasks if isinstance(one, Mapping)} if tasks else set()
    of_export = len({one.image.task_id for one in plan.items() if one.image.task_id in measured})
    summary = {key: batch.get(key) for key in ("verdict", "compared_tasks", "miou", "gates")}
    return {**summary, "measured_tasks_of_this_export": of_export}


def readme_text(
    card: Mapping[str, Any], exporter: Exporter, problems: list[Problem], *, in_folder: bool = False
) -> str:
    """Return the card as Markdown; `in_folder` for that of one annotator's folder."""
    taken = card["annotations"]
    lines = [
        f"# {card['taxonomy']['name']}: {card['images']} images as {card['format']}",
        "",
        f"{exporter.summary}. Written by segstudio {card[MARKER]} from {card['selection']['text']}"
        + (
            f"; last annotation {card['last_annotation_at']}."
            if card["last_annotation_at"]
            else "."
        ),
        "",
        f"- Annotations: {taken['takes']} (policy `{taken['policy']}`), "
        f"{taken['tasks_taken']} of {taken['tasks_read']} tasks"
        + "".join(f"; {count} {why}" for why, count in taken["tasks_left_out"].items())
        + ".",
        f"- Annotators: {_annotator_text(card['annotators'])}.",
        f"- Where regions overlap: `{card['overlap_policy']}`.",
        f"- Images without any segment: {card['images_without_segments']} (kept).",
        f"- Quality: {_qa_text(card['qa'])}.",
        f"- Versions: {_version_text(card['versions'])}.",
    ]
    if card.get("folders"):
        lines.append(f"- File sets, one an annotator: {', '.join(card['folders'])}.")
    if not in_folder:
        lines += ["", "![A few of the images with their segments](contact-sheet.jpg)"]
    lines += ["", "## Classes", "", *_class_table(card), "", "## What was lost", ""]
    lines += _loss_lines(card)
    lines += _answer_lines(card)
    lines += _problem_lines(card, problems)
    next_step = getattr(exporter, "next_step", "")
    if next_step:
        lines += ["", "## Next", "", str(next_step)]
    return "\n".join(lines) + "\n"


def _annotator_text(annotators: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{'unknown' if one['id'] is None else one['id']} ({one['images']} images)"
        for one in annotators
    )


def _qa_text(qa: Mapping[str, Any] | None) -> str:
    if qa is None:
        return "no QA result was given (`--qa qa.json`)"
    miou = (qa.get("miou") or {}).get("accumulated")
    score = f", mIoU {miou:.3f} over the batch" if isinstance(miou, int | float) else ""
    return (
        f"verdict **{qa.get('verdict')}**{score}, {qa.get('compared_tasks')} tasks compared; "
        f"{qa.get('measured_tasks_of_this_export')} of this export's tasks were measured"
    )


def _version_text(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items() if number)


def _class_table(card: Mapping[str, Any]) -> list[str]:
    labelled = sum(one["pixels"] for one in card["classes"])
    rows = ["| id | class | kind | images | segments | pixels | of the labelled |"]
    rows.append("|---:|---|---|---:|---:|---:|---:|")
    for one in card["classes"]:
        share = f"{100 * one['pixels'] / labelled:.2f} %" if labelled else "-"
        name = str(one["name"]).replace("|", "\\|")
        rows.append(
            f"| {one['id']} | {name} | {one['kind']} | {one['images']} | {one['segments']} "
            f"| {one['pixels']} | {share} |"
        )
    pixels = card["pixels"]
    rows += ["", f"VOID {pixels['void']} px, unlabelled {pixels['unlabelled']} px, "
             f"all images {pixels['total']} px."]  # fmt: skip
    return rows


def _loss_lines(card: Mapping[str, Any]) -> list[str]:
    lost = {kind: count for kind, count in card["losses"].items() if count}
    if not lost and not card.get("failed_images"):
        return ["Nothing: every region is in the export, pixel for pixel."]
    lines = [f"- {count} {LOSS_SENTENCES.get(kind, kind)}." for kind, count in lost.items()]
    if card.get("failed_images"):
        lines.append(f"- {card['failed_images']} images could not be exported at all.")
    return lines


def _answer_lines(card: Mapping[str, Any]) -> list[str]:
    if not card["image_answers"]:
        return []
    lines = ["", "## Answers about whole images", "", "Image by image in `images.jsonl`.", ""]
    for name, counts in card["image_answers"].items():
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_ANSWERS_SHOWN]
        lines.append(f"- {name}: " + ", ".join(f"{text} ({count})" for text, count in ranked))
    return lines


def _problem_lines(card: Mapping[str, Any], problems: list[Problem]) -> list[str]:
    counts = card.get("problems", {}).get("counts", {})
    if not counts:
        return []
    lines = ["", "## What to look at", ""]
    lines += [f"- {count} x {kind}" for kind, count in counts.items()]
    lines.append("")
    lines += [f"1. {place(one)}{one.message}" for one in problems[:_PROBLEMS_SHOWN]]
    more = sum(counts.values()) - min(len(problems), _PROBLEMS_SHOWN)
    if more > 0:
        lines += ["", f"{more} more are in {CARD}."]
    return lines
