"""The check ``consensus``: what most annotators drew, and how far each is from the others.

By class: majority vote and STAPLE (`qa_plugins.metrics.consensus_votes`); objects by quorum
(`segstudio.consensus`, as the export policy has it). Files: see `qa_plugins.consensus_files`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from qa_plugins.agreement import draw_task
from qa_plugins.clips import clip_place
from qa_plugins.consensus_files import (
    FOLDER,
    PAGE_SIDE_PX,
    ConsensusFiles,
    heat_png,
    label_png,
)
from qa_plugins.consensus_sums import ClassVotes, ConsensusSums, ImageConsensus, TaskConsensus
from qa_plugins.drawing import Drawing
from qa_plugins.metrics.consensus_votes import against_others, staple, vote_patterns
from qa_plugins.metrics.label_votes import vote_labels
from qa_plugins.raters import model_policy, select_raters
from qa_plugins.subsets import subsets_of, wanted_subsets
from segstudio.consensus import consensus_regions
from segstudio.errors import UsageError
from segstudio.images import regions_by_image
from segstudio.masks import Mask
from segstudio.plugins import CheckContext
from segstudio.region_items import RegionItemsError, region_items
from segstudio.report_sections import Finding, NameOf, Picture, Section, Table
from segstudio.tasks import Region, Task

MODEL_VERSION: Final = "consensus-quorum"
_TASK_KINDS: Final = ("predictions", "annotations")
_FAR_BELOW: Final = 0.1
"""An annotator whose IoU to the others lies this far below the others' is worth a finding."""


@dataclass(frozen=True, slots=True)
class ConsensusCheck:
    """Majority vote, STAPLE, objects by quorum, and each annotator against the others.

    Tasks of one annotator have no consensus and are counted. Options: ``tasks`` (``predictions`` or
    ``annotations``) also writes ``consensus/tasks.json`` for import; by default it does not,
    because a prediction biases the next annotator.
    """

    name: str = "consensus"
    summary: str = "What most drew (votes, STAPLE, quorum), and each annotator against the others."

    def measure(self, task: Task, context: CheckContext) -> TaskConsensus:
        """Vote on every image that two or more people annotated."""
        kind = _task_kind(context)
        drawn = draw_task(task, context)
        known = [(key, size, found) for key, size, found in drawn.images if math.prod(size)]
        if not known:
            return TaskConsensus(task.id, drawn.annotators, ())
        raters = select_raters(task, model_policy(context.options)).raters
        people = {one.annotator_id: regions_by_image(one.annotation) for one in raters}
        images: list[ImageConsensus] = []
        agreed: list[Region] = []
        for position, (key, size_px, drawings) in enumerate(known):
            regions = [people[person].get(key, ()) for person in drawn.annotators]
            merged = consensus_regions(regions, context.taxonomy, *size_px)
            agreed.extend(merged.regions)
            stem = f"task-{task.id}" + (f"-image-{position}" if len(known) > 1 else "")
            objects = Counter(_class_name(region, context) for region in merged.regions)
            images.append(
                _measure_image(
                    stem, size_px, drawings, context, objects, merged.objects_without_majority
                )
            )
        raw, problem = (None, "") if kind is None else _raw_task(task, agreed, kind, context)
        return TaskConsensus(
            task.id,
            drawn.annotators,
            tuple(images),
            raw,
            problem,
            subsets_of(task, context.options),
            clip_place(task, context.options),
        )

    def summarize(
        self, measurements: Iterable[TaskConsensus], context: CheckContext
    ) -> dict[str, Any]:
        """Write the files; add up classes and people; keep the most disputed pictures."""
        wanted = wanted_subsets(context.options)
        sums, parts = ConsensusSums(), [ConsensusSums() for _ in wanted]
        with ConsensusFiles(context.out_dir, with_tasks=_task_kind(context) is not None) as files:
            for measurement in measurements:
                for one in (sums, *(parts[index] for index in measurement.subsets)):
                    one.add(measurement)
                for image in measurement.images:
                    files.add_image(image.stem, image.labels_png, image.heat_png)
                if measurement.raw is not None:
                    files.add_task(measurement.raw)
        folder = None if context.out_dir is None else FOLDER
        return {
            **sums.as_json(),
            "subsets": [
                {"where": where, **part.others.as_json(part.people)}
                for where, part in zip(wanted, parts, strict=True)
            ],
            "folder": folder,
            "tasks_written_as": _task_kind(context),
        }

    def report(self, summary: dict[str, Any], names: NameOf) -> Section:
        """Return who is far from the others, the classes, the people, the most disputed images."""
        people = [
            [
                names(person["id"]), one["name"], one["images"], one["iou_to_others"],
                one["sensitivity"], one["specificity"],
            ]
            for person in summary["annotators"]
            for one in person["classes"]
        ]  # fmt: skip
        classes = [
            [
                one["name"], one["images"], one["unanimous_share"], one["majority_share"],
                one["staple_share"], one["objects_agreed"],
            ]
            for one in summary["classes"]
        ]  # fmt: skip
        tables = [
            Table(
                ["Annotator", "Class", "Images", "IoU to the others", "Sensitivity", "Specificity"],
                people,
                title="Each annotator against the consensus",
                note="IoU is to the majority of the OTHER annotators (pixels on which those are "
                "evenly divided are left out); a consensus that contains the annotator would "
                "flatter them. Sensitivity and specificity are STAPLE's, which estimates the truth "
                "from all of them.",
            ),
            Table(
                ["Class", "Images", "All agree", "Majority", "STAPLE", "Objects agreed"],
                classes,
                title="What is agreed, by class",
                note="Shares of the pixels that anybody gave the class.",
            ),
        ]
        pictures = [
            Picture(
                f"Task {one['task']}: votes split {one['split']:.3f} on average (black: all "
                "agree, yellow: everybody says something else).",
                one["uri"],
                one["width_px"],
                one["height_px"],
            )
            for one in summary["most_disputed"]
        ]
        return Section(
            title="Consensus",
            lead=f"{summary['images']} images of {summary['tasks_with_consensus']} tasks were put "
            f"to the vote; {summary['tasks_without']} tasks had fewer than two annotators.",
            findings=_findings(summary, names),
            tables=[table for table in tables if table.rows],
            pictures=pictures,
        )


def _task_kind(context: CheckContext) -> str | None:
    kind = context.options.get("tasks")
    if kind is not None and kind not in _TASK_KINDS:
        raise UsageError(f"The option tasks is {' or '.join(_TASK_KINDS)}, not {kind!r}.")
    return kind


def _class_name(region: Region, context: CheckContext) -> str:
    found = context.taxonomy.by_label(region.labels[0]) if region.labels else None
    return found.name if found is not None else ""


def _measure_image(
    stem: str,
    size_px: tuple[int, int],
    drawings: Sequence[Drawing],
    context: CheckContext,
    objects: Mapping[str, int],
    without_majority: int,
) -> ImageConsensus:
    taxonomy = context.taxonomy
    names = sorted({name for one in drawings for name in one.class_masks})
    labels, entropy = vote_labels(
        [one.class_masks for one in drawings],
        {name: taxonomy.by_name[name].id for name in names},
        *size_px,
        taxonomy.unlabelled_id,
        taxonomy.void_id,
    )
    return ImageConsensus(
        stem=stem,
        size_px=size_px,
        classes=tuple(class_votes(name, drawings, size_px) for name in names),
        split=float(entropy.mean()),
        objects_agreed={name: objects[name] for name in sorted(objects) if name},
        objects_without_majority=without_majority,
        labels_png=label_png(labels),
        heat_png=heat_png(entropy),
        page_png=heat_png(entropy, PAGE_SIDE_PX),
    )


def class_votes(name: str, drawings: Sequence[Drawing], size_px: tuple[int, int]) -> ClassVotes:
    """Vote on one class of one image; who drew none of it votes against it."""
    nothing = Mask.empty(*size_px)
    found = vote_patterns([one.class_masks.get(name, nothing) for one in drawings])
    counts, votes = found.counts_px, found.votes
    estimate = staple(votes, counts)
    inside, outside = counts * estimate.probability, counts * (1 - estimate.probability)
    people = np.zeros((len(drawings), 6))
    people[:, :2] = against_others(votes, counts)
    people[:, 2], people[:, 3] = inside @ votes, inside.sum()
    people[:, 4], people[:, 5] = outside @ ~votes, outside.sum()
    return ClassVotes(
        name=name,
        any_px=int(counts[votes.any(axis=1)].sum()),
        unanimous_px=int(counts[votes.all(axis=1)].sum()),
        majority_px=int(counts[found.majority()].sum()),
        staple_px=int(counts[estimate.probability >= 0.5].sum()),
        people=people,
    )


def _raw_task(
    task: Task, regions: Sequence[Region], kind: str, context: CheckContext
) -> tuple[dict[str, Any] | None, str]:
    """The task with its agreed regions, to be imported; or why it cannot be written."""
    try:
        result = region_items(regions, context.label_config)
    except RegionItemsError as error:
        return None, f"Task {task.id} is not in consensus/tasks.json: {error}"
    head: dict[str, Any] = {"result": result}
    if kind == "predictions":
        head["model_version"] = MODEL_VERSION
    return {"id": task.id, "data": dict(task.data), kind: [head]}, ""


def _findings(summary: Mapping[str, Any], names: NameOf) -> list[Finding]:
    findings: list[Finding] = []
    if summary["two_annotators_at_most"]:
        findings.append(
            Finding(
                "No image has three annotators: the majority of two is what both drew.",
                "Each one's IoU to the others is then the IoU of the pair, and nobody can tell who "
                "is right; STAPLE with two is weak.",
            )
        )
    else:
        findings += _outliers(summary, names)
    if summary["objects_without_majority"]:
        findings.append(
            Finding(
                f"{summary['objects_without_majority']} drawn objects found no majority and are "
                "not in the consensus.",
                severity="note",
            )
        )
    if summary["tasks_not_written"]:
        findings.append(
            Finding(
                f"{len(summary['tasks_not_written'])} tasks could not be written to tasks.json.",
                summary["tasks_not_written"][0],
                "warning",
            )
        )
    if summary["tasks_written_as"] == "predictions":
        findings.append(
            Finding(
                "consensus/tasks.json holds the consensus as predictions.",
                "Whoever annotates with them in sight will agree with them: do not measure "
                "agreement on such annotations.",
                "warning",
            )
        )
    if not summary["images"]:
        findings.append(Finding("No image was annotated by two people: there is no consensus."))
    return findings


def _outliers(summary: Mapping[str, Any], names: NameOf) -> list[Finding]:
    by_class: dict[str, dict[int, float]] = {}
    for person in summary["annotators"]:
        for one in person["classes"]:
            if one["iou_to_others"] is not None:
                by_class.setdefault(one["name"], {})[person["id"]] = one["iou_to_others"]
    found: list[tuple[float, Finding]] = []
    for name, scores in sorted(by_class.items()):
        for person, score in scores.items():
            rest = [other for who, other in scores.items() if who != person]
            if len(rest) >= 2 and score < float(np.median(rest)) - _FAR_BELOW:
                who = names(person)
                text = f"{who[0].upper()}{who[1:]} is far from what the others drew as “{name}”."
                evidence = f"IoU {score:.3f} to them; the median of the others is "
                evidence += f"{float(np.median(rest)):.3f}."
                action = f"Look at “{name}” with {who}."
                found.append((score, Finding(text, evidence, "warning", action)))
    return [finding for _, finding in sorted(found, key=lambda entry: entry[0])]
