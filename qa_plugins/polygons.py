"""The check ``polygons``: would a polygon of 20 vertices, or a box, capture these shapes as well?

Pixels are slow to draw. Where a class loses nothing as polygons, or less than two people differ
anyway, the next batch can be drawn faster.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qa_plugins.drawing import DrawnObject, Place, draw
from qa_plugins.metrics.polygon_fit import box_iou, polygon_ious
from segstudio.errors import UsageError
from segstudio.images import image_size, regions_by_image
from segstudio.plugins import CheckContext
from segstudio.report_sections import Finding, NameOf, Section, Table
from segstudio.tasks import Task

_LADDER: Final = (4, 6, 8, 12, 16, 20, 30, 40, 60, 100)
_MIN_OBJECTS: Final = 10
_TENTH: Final = 10


@dataclass(frozen=True, slots=True)
class ObjectFit:
    """How simple shapes fit one object; `vertices` is the fewest of the ladder that suffice.

    `lead_time_s` is the object's equal share of its annotation's lead time, None where that is not
    known.
    """

    class_name: str
    area_px: int
    polygon_iou: float
    box_iou: float
    vertices: int | None
    lead_time_s: float | None


@dataclass(frozen=True, slots=True)
class PolygonsCheck:
    """What simple shapes would lose, by class.

    Options: ``vertices`` (20), ``enough_iou`` (0.95): the IoU that counts as captured,
    ``seconds_per_vertex`` (1.2): what a vertex costs an annotator, an assumption of yours.
    """

    name: str = "polygons"
    summary: str = "Would a 20-vertex polygon, or a box, capture these shapes as well as pixels?"

    def measure(self, task: Task, context: CheckContext) -> list[ObjectFit]:
        """Fit polygons and a box to each object of every submitted annotation."""
        vertices, enough, _ = _options(context)
        fits: list[ObjectFit] = []
        for annotation in task.annotations:
            if annotation.was_cancelled:
                continue
            found: list[DrawnObject] = []
            for regions in regions_by_image(annotation).values():
                size_px = image_size(regions)
                if size_px is None:
                    continue
                place = Place(task.id, annotation.id)
                drawing, _ = draw(regions, context.taxonomy, *size_px, place)
                found += drawing.objects if drawing is not None else ()
            lead_time_s = annotation.lead_time_s
            share_s = lead_time_s / len(found) if lead_time_s and found else None
            for one in found:
                counts = sorted({*_LADDER, vertices})
                ious = polygon_ious(one.mask, counts)
                needed = [
                    count for count, value in zip(counts, ious, strict=True) if value >= enough
                ]
                fits.append(
                    ObjectFit(
                        one.class_name,
                        one.mask.area_px,
                        ious[counts.index(vertices)],
                        box_iou(one.mask),
                        needed[0] if needed else None,
                        share_s,
                    )
                )
        return fits

    def summarize(
        self, measurements: Iterable[list[ObjectFit]], context: CheckContext
    ) -> dict[str, Any]:
        """Return the fits by class, and which shape each class needs."""
        vertices, enough, seconds = _options(context)
        by_class: dict[str, list[ObjectFit]] = {}
        for fits in measurements:
            for fit in fits:
                by_class.setdefault(fit.class_name, []).append(fit)
        classes = [
            _class_summary(one.name, by_class[one.name], enough, seconds)
            for one in context.taxonomy.scored_classes
            if one.name in by_class
        ]
        return {
            "vertices": vertices,
            "enough_iou": enough,
            "seconds_per_vertex": seconds,
            "classes": classes,
        }

    def report(self, summary: dict[str, Any], names: NameOf) -> Section | None:
        """Return the advice for each class in a sentence, and the table behind it."""
        if not summary["classes"]:
            return None
        vertices = summary["vertices"]
        findings = [_finding(one, vertices, summary) for one in summary["classes"]]
        columns = [
            "Class", "Objects", f"IoU of {vertices} vertices, median", "worst tenth",
            f"Objects with {summary['enough_iou']:g} or more", "IoU of a box, median",
            "Vertices needed, median", "Drawn in (s)", "As polygons (s)", "Advice",
        ]  # fmt: skip
        rows = [
            [
                one["name"],
                one["objects"],
                one["polygon_iou"]["median"],
                one["polygon_iou"]["worst_tenth"],
                f"{one['polygon_iou']['share_enough']:.0%}",
                one["box_iou"]["median"],
                "over 100" if one["vertices_needed"] is None else one["vertices_needed"],
                _seconds(one["lead_time_s"]),
                _seconds(one["polygon_time_s"]),
                one["advice"],
            ]
            for one in summary["classes"]
        ]
        note = (
            "A polygon has one part and no hole. Times: the objects' equal shares of the "
            f"annotations' lead time, against {summary['seconds_per_vertex']:g} s a vertex (the "
            "option seconds_per_vertex)."
        )
        return Section(
            title="Polygons or pixels?",
            lead=f"What the best polygon of {vertices} vertices that was found, or a box, keeps of "
            "what was drawn.",
            findings=findings,
            tables=[Table(columns, rows, note=note)],
        )


def _class_summary(
    name: str, fits: list[ObjectFit], enough: float, seconds: float
) -> dict[str, Any]:
    polygons = np.array([fit.polygon_iou for fit in fits])
    boxes = np.array([fit.box_iou for fit in fits])
    needed = np.array([fit.vertices if fit.vertices is not None else np.inf for fit in fits])
    middle = float(np.median(needed))
    times = [fit.lead_time_s for fit in fits if fit.lead_time_s is not None]
    if len(fits) < _MIN_OBJECTS:
        advice = "too few"
    elif np.percentile(boxes, _TENTH) >= enough:
        advice = "boxes"
    elif np.percentile(polygons, _TENTH) >= enough:
        advice = "polygons"
    else:
        advice = "pixels"
    return {
        "name": name,
        "objects": len(fits),
        "polygon_iou": _spread(polygons, enough),
        "box_iou": _spread(boxes, enough),
        "vertices_needed": middle if np.isfinite(middle) else None,
        "lead_time_s": float(np.median(times)) if times else None,
        "polygon_time_s": middle * seconds if np.isfinite(middle) else None,
        "advice": advice,
    }


def _spread(values: NDArray[np.float64], enough: float) -> dict[str, float]:
    return {
        "median": float(np.median(values)),
        "worst_tenth": float(np.percentile(values, _TENTH)),
        "share_enough": float(np.mean(values >= enough)),
    }


def _finding(one: dict[str, Any], vertices: int, summary: dict[str, Any]) -> Finding:
    name, polygon, box = one["name"], one["polygon_iou"], one["box_iou"]
    if one["advice"] == "too few":
        objects = "1 object" if one["objects"] == 1 else f"{one['objects']} objects"
        return Finding(
            f"“{name}” has {objects}, too few for advice.",
            f"{_MIN_OBJECTS} are needed.",
        )
    if one["advice"] == "boxes":
        return Finding(
            f"“{name}” can be drawn as boxes.",
            f"Nine of ten objects keep an IoU of {box['worst_tenth']:.2f} or more.{_saving(one)}",
        )
    if one["advice"] == "polygons":
        return Finding(
            f"“{name}” can be drawn as polygons of {vertices} vertices.",
            f"Nine of ten objects keep an IoU of {polygon['worst_tenth']:.2f} or more; half need "
            f"{one['vertices_needed']:g} vertices or fewer.{_saving(one)}",
        )
    return Finding(
        f"“{name}” needs pixels.",
        f"A polygon of {vertices} vertices captures {polygon['share_enough']:.0%} of the objects "
        f"(IoU {summary['enough_iou']:g} or more); the worst tenth are at or below "
        f"{polygon['worst_tenth']:.2f}.",
    )


def _saving(one: dict[str, Any]) -> str:
    drawn, polygon = one["lead_time_s"], one["polygon_time_s"]
    if not drawn or not polygon or polygon >= drawn:
        return ""
    return f" About {drawn:.0f} s an object now, {polygon:.0f} s as a polygon."


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"


def _options(context: CheckContext) -> tuple[int, float, float]:
    try:
        vertices = int(context.options.get("vertices", "20"))
        enough = float(context.options.get("enough_iou", "0.95"))
        seconds = float(context.options.get("seconds_per_vertex", "1.2"))
    except ValueError as error:
        raise UsageError(f"An option of the check polygons is no number: {error}.") from error
    if not (3 <= vertices <= 1000 and 0 < enough <= 1 and seconds > 0):
        raise UsageError(
            f"The check polygons cannot work with vertices={vertices}, enough_iou={enough}, "
            f"seconds_per_vertex={seconds}: 3 vertices or more, an IoU above 0, time above 0."
        )
    return vertices, enough, seconds
