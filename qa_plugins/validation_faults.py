"""The faults that one task's annotations have: found one by one, pure of any report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final

from qa_plugins.metrics.mask_faults import crossing_edges, slivers, small_holes, small_parts
from segstudio.errors import UsageError
from segstudio.images import ImageKey, regions_by_image
from segstudio.masks import Mask, intersection_area, iou, union_all
from segstudio.plugins import CheckContext
from segstudio.region_classes import ClassedRegion, classify_regions
from segstudio.report_sections import Severity
from segstudio.tasks import Annotation, Problem, Region, Task

# What the reading of a task reports, as kinds of this check.
_READING: Final[Mapping[str, tuple[str, Severity]]] = {
    "unreadable-region": ("unreadable", "error"),
    "unreadable-annotation": ("unreadable", "error"),
    "unknown-type": ("unreadable", "error"),
    "prompt-left-behind": ("forgotten-prompt", "error"),
    "unknown-label": ("unknown-class", "error"),
    "unknown-extra-label": ("unknown-class", "warning"),
    "no-label": ("no-class", "error"),
    "other-size": ("wrong-size", "error"),
    "duplicate-region": ("duplicate", "warning"),
    "mistyped-region": ("doubtful-data", "note"),
    "shared-id": ("doubtful-data", "note"),
    "open-polygon": ("doubtful-data", "note"),
    "orphan-answer": ("doubtful-data", "note"),
}
_PERCENT_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as a fault; 0 switches a limit off. `coverage` is a share of the image."""

    coverage: float = 0.0
    speck_px: int = 16
    hole_px: int = 16
    sliver_px: int = 30
    overlap_px: int = 30
    duplicate_iou: float = 0.95

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Limits:
        """Read the limits from a check's options.

        Raises:
            UsageError: a limit that is no number, or below 0, or a share above 1.
        """
        found: dict[str, Any] = {}
        for name, default in asdict(cls()).items():
            if name not in options:
                continue
            try:
                value = type(default)(options[name])
            except ValueError as error:
                raise UsageError(f"The option {name} is '{options[name]}', no number.") from error
            if value < 0 or (isinstance(default, float) and value > 1):
                raise UsageError(f"The option {name} is {value}, which is out of its range.")
            found[name] = value
        return cls(**found)

    def as_json(self) -> dict[str, float]:
        """Return the limits by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: where it is, how large, how grave.

    `bbox` is (x, y, width, height) in pixels of the image; None where there is no single place.
    """

    kind: str
    severity: Severity
    message: str
    task_id: int
    annotation_id: int | None
    annotator_id: int | None
    key: ImageKey | None = None
    region_ids: tuple[str, ...] = ()
    class_name: str = ""
    bbox: tuple[int, int, int, int] | None = None
    size_px: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fault as ``qa.json`` lists it."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "message": self.message,
            "task": self.task_id,
            "annotation": self.annotation_id,
            "annotator": self.annotator_id,
            "image": None if self.key is None else self.key._asdict(),
            "regions": list(self.region_ids),
            "class": self.class_name or None,
            "bbox": None if self.bbox is None else list(self.bbox),
            "size_px": self.size_px,
        }


Report = Callable[..., Fault]


def find_faults(
    task: Task, annotations: Sequence[Annotation], context: CheckContext, limits: Limits
) -> Iterator[Fault]:
    """Yield the faults of a task's annotations, annotation by annotation."""
    sizes = _usual_sizes(annotations)
    drawn: dict[ImageKey, list[tuple[Annotation, set[str]]]] = {}
    for annotation in annotations:
        report = _reporter(task, annotation)
        yield from _of_reading(annotation.problems, report)
        by_image = regions_by_image(annotation)
        for key in sizes:
            regions = by_image.get(key, ())
            found = classify_regions(regions, context.taxonomy, *sizes[key], every_class=True)
            yield from _of_reading(found.problems, report, key)
            yield from _of_labels(regions, context, report, key)
            yield from _of_geometry(regions, report, key)
            yield from _of_masks(found.regions, limits, report, key)
            yield from _of_pairs(found.regions, limits, report, key)
            if regions:
                yield from _of_coverage(found.regions, sizes[key], limits, report, key)
            names = {one.segment_class.name for one in found.regions if one.segment_class}
            drawn.setdefault(key, []).append((annotation, names))
    yield from _of_comparison(task, annotations, drawn)


def _reporter(task: Task, annotation: Annotation) -> Report:
    def report(kind: str, severity: Severity, message: str, **more: Any) -> Fault:
        return Fault(
            kind, severity, message, task.id, annotation.id, annotation.completed_by, **more
        )

    return report


def _usual_sizes(annotations: Iterable[Annotation]) -> dict[ImageKey, tuple[int, int]]:
    """The (height, width) that most regions of each image name, over all annotations."""
    counts: dict[ImageKey, Counter[tuple[int, int]]] = {}
    for annotation in annotations:
        for key, regions in regions_by_image(annotation).items():
            counts.setdefault(key, Counter()).update(
                (region.original_height_px, region.original_width_px) for region in regions
            )
    return {key: found.most_common(1)[0][0] for key, found in counts.items()}


def _of_reading(
    problems: Iterable[Problem], report: Report, key: ImageKey | None = None
) -> Iterator[Fault]:
    for problem in problems:
        if problem.kind in _READING:
            kind, severity = _READING[problem.kind]
            regions = () if problem.region_id is None else (problem.region_id,)
            yield report(kind, severity, problem.message, key=key, region_ids=regions)


def _of_labels(
    regions: Iterable[Region], context: CheckContext, report: Report, key: ImageKey
) -> Iterator[Fault]:
    """Labels that the taxonomy knows and the interface no longer offers: renamed after use."""
    config = context.label_config
    if config.has_dynamic_labels:
        return
    offered = {label.strip() for label in config.label_names}
    for region in regions:
        for label in region.labels:
            if label.strip() not in offered and context.taxonomy.knows(label):
                yield report(
                    "unknown-class",
                    "warning",
                    f"Region {region.id!r} has the label '{label}', which the labelling interface "
                    "no longer offers.",
                    key=key,
                    region_ids=(region.id,),
                )


def _of_geometry(regions: Iterable[Region], report: Report, key: ImageKey) -> Iterator[Fault]:
    for region in regions:
        if region.kind == "polygon":
            points = region.value["points"]
            edges = crossing_edges(points)
            if edges is not None:
                yield report(
                    "self-intersection",
                    "warning",
                    f"Polygon {region.id!r} crosses itself: the edges from its points "
                    f"{edges[0] + 1} and {edges[1] + 1}.",
                    key=key,
                    region_ids=(region.id,),
                )
        beyond = _percent_outside(region)
        if beyond > _PERCENT_TOLERANCE:
            side_px = max(region.original_width_px, region.original_height_px)
            yield report(
                "out-of-bounds",
                "note",
                f"Region {region.id!r} reaches {beyond:.2f}% of the image over its edge; that part "
                "is cut off.",
                key=key,
                region_ids=(region.id,),
                size_px=round(beyond / 100 * side_px),
            )


def _percent_outside(region: Region) -> float:
    value = region.value
    if region.kind == "polygon":
        numbers = [float(number) for point in value["points"] for number in point]
    elif region.kind == "keypoint":
        numbers = [float(value["x"]), float(value["y"])]
    elif region.kind == "rectangle" and not value.get("rotation"):
        x, y = float(value["x"]), float(value["y"])
        numbers = [x, y, x + float(value["width"]), y + float(value["height"])]
    elif region.kind == "ellipse" and not value.get("rotation"):
        x, y = float(value["x"]), float(value["y"])
        across, down = float(value["radiusX"]), float(value["radiusY"])
        numbers = [x - across, x + across, y - down, y + down]
    else:
        return 0.0
    return max(0.0, max(numbers) - 100.0, -min(numbers))


def _of_masks(
    regions: Iterable[ClassedRegion], limits: Limits, report: Report, key: ImageKey
) -> Iterator[Fault]:
    last: Region | None = None
    for one in regions:
        if one.region is last:  # under another of its classes: the same pixels
            continue
        last = one.region
        more = {"key": key, "region_ids": (one.region.id,), "class_name": _name(one)}
        named = f"Region {one.region.id!r} ({_name(one)})"
        if one.mask.is_empty:
            yield report("empty-region", "error", f"{named} has no pixel.", **more)
            continue
        for kind, limit, parts in (
            ("speck", limits.speck_px, small_parts),
            ("hole", limits.hole_px, small_holes),
        ):
            found = parts(one.mask, limit) if limit else []
            if found:
                area_px = sum(part.area_px for part in found)
                biggest = max(found, key=lambda part: part.area_px)
                what = "away from its main part" if kind == "speck" else "inside"
                yield report(
                    kind,
                    "warning",
                    f"{named} has {len(found)} {kind}{'s' if len(found) > 1 else ''} of fewer than "
                    f"{limit} pixels {what}, {area_px} pixels in all; the place is the largest's.",
                    bbox=biggest.bbox,
                    size_px=area_px,
                    **more,
                )
        for part in slivers(one.mask, limits.sliver_px) if limits.sliver_px else []:
            yield report(
                "sliver",
                "note",
                f"{named} has a part of {part.area_px} pixels that is nowhere thicker than 2.",
                bbox=part.bbox,
                size_px=part.area_px,
                **more,
            )


def _of_pairs(
    regions: Sequence[ClassedRegion], limits: Limits, report: Report, key: ImageKey
) -> Iterator[Fault]:
    filled = [one for one in regions if not one.mask.is_empty and not one.is_void]
    for a, b in combinations(filled, 2):
        if a.region is b.region or not _boxes_meet(a.mask.bbox, b.mask.bbox):
            continue
        shared_px = intersection_area(a.mask, b.mask)
        if not shared_px:
            continue
        more: dict[str, Any] = {
            "key": key,
            "region_ids": (a.region.id, b.region.id),
            "bbox": (a.mask & b.mask).bbox,
            "size_px": shared_px,
        }
        overlap = iou(a.mask, b.mask) or 0.0
        if limits.duplicate_iou and overlap >= limits.duplicate_iou:
            same = a.segment_class is b.segment_class
            yield report(
                "duplicate",
                "error",
                f"Regions {a.region.id!r} and {b.region.id!r} are the same shape "
                + (f"twice, both {_name(a)}" if same else f"as {_name(a)} and as {_name(b)}")
                + f" (IoU {overlap:.3f}).",
                class_name=_name(a),
                **more,
            )
        elif limits.overlap_px and shared_px >= limits.overlap_px and _is_conflict(a, b):
            yield report(
                "overlap",
                "warning",
                f"Regions {a.region.id!r} ({_name(a)}) and {b.region.id!r} ({_name(b)}) overlap on "
                f"{shared_px} pixels.",
                class_name=_name(a),
                **more,
            )


def _is_conflict(a: ClassedRegion, b: ClassedRegion) -> bool:
    """Whether an overlap says anything: strokes of one stuff class may lie over each other."""
    if a.segment_class is not b.segment_class:
        return True
    return a.segment_class is not None and a.segment_class.is_thing


def _boxes_meet(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _of_coverage(
    regions: Sequence[ClassedRegion],
    size_px: tuple[int, int],
    limits: Limits,
    report: Report,
    key: ImageKey,
) -> Iterator[Fault]:
    if not limits.coverage:
        return
    covered = union_all([one.mask for one in regions], *size_px)
    gaps: Mask = covered.complement()
    total_px = size_px[0] * size_px[1]
    if gaps.area_px <= (1 - limits.coverage) * total_px:
        return
    largest = max(gaps.components(4), key=lambda part: part.area_px)
    yield report(
        "unlabelled",
        "error",
        f"{gaps.area_px} pixels ({gaps.area_px / total_px:.2%}) have no class; the place is the "
        "largest gap's.",
        key=key,
        bbox=largest.bbox,
        size_px=gaps.area_px,
    )


def _of_comparison(
    task: Task,
    annotations: Sequence[Annotation],
    drawn: Mapping[ImageKey, Sequence[tuple[Annotation, set[str]]]],
) -> Iterator[Fault]:
    """What one annotation lacks and others have: everything, or a class that all others drew."""
    empty = [one for one in annotations if not one.regions and not one.problems]
    for annotation in empty:
        drew = len(annotations) - len(empty)
        if drew:
            yield _reporter(task, annotation)(
                "empty-annotation",
                "warning",
                f"Annotation {annotation.id} was submitted without a region; {drew} "
                f"{'other has' if drew == 1 else 'others have'} some.",
            )
    for key, lists in drawn.items():
        people = [(one, names) for one, names in lists if one.regions]
        if len(people) < 3:  # of two, nobody knows who is right
            continue
        for annotation, names in people:
            others = [found for one, found in people if one is not annotation]
            for name in sorted(set.intersection(*others) - names):
                yield _reporter(task, annotation)(
                    "missing-class",
                    "warning",
                    f"Annotation {annotation.id} has no {name}; all {len(others)} others drew it.",
                    key=key,
                    class_name=name,
                )


def _name(one: ClassedRegion) -> str:
    return one.segment_class.name if one.segment_class is not None else "VOID"
