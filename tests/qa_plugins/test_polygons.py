from typing import Any

import numpy as np
import pytest

from qa_plugins.polygons import PolygonsCheck
from segstudio.errors import UsageError
from segstudio.tasks import parse_task
from tests.qa_plugins.qa_tasks import annotation, context, raw_task


def box(at: int) -> np.ndarray:
    array = np.zeros((60, 80), bool)
    array[10 : 20 + at, 5 : 30 + at] = True
    return array


def comb(at: int) -> np.ndarray:
    array = np.zeros((60, 80), bool)
    array[5:15] = True
    array[5 : 45 + at % 10, ::4] = array[5 : 45 + at % 10, 1::4] = True
    return array


def disc(at: int) -> np.ndarray:
    rows, columns = np.mgrid[:60, :80]
    return (columns - 40) ** 2 + (rows - 30) ** 2 <= (18 + at % 9) ** 2


def summary(drawn: list[list[tuple[str, Any]]], **options: str) -> dict[str, Any]:
    check, given = PolygonsCheck(), context(options)
    tasks = [
        raw_task(n, [annotation(n, 7, one, lead_time=30.0 * len(one))])
        for n, one in enumerate(drawn, start=1)
    ]
    return check.summarize([check.measure(parse_task(raw), given) for raw in tasks], given)


def advice(drawn: list[list[tuple[str, Any]]], **options: str) -> dict[str, str]:
    return {one["name"]: one["advice"] for one in summary(drawn, **options)["classes"]}


TWELVE = [[("car", box(n)), ("road", comb(n)), ("sky", disc(n))] for n in range(12)]


def test_each_class_gets_the_simplest_shape_that_captures_it() -> None:
    assert advice(TWELVE) == {"car": "boxes", "road": "pixels", "sky": "polygons"}


def test_fewer_vertices_capture_less() -> None:
    assert advice(TWELVE, vertices="4") == {"car": "boxes", "road": "pixels", "sky": "pixels"}


def test_few_objects_give_no_advice() -> None:
    assert advice(TWELVE[:5]) == dict.fromkeys(("car", "road", "sky"), "too few")


def test_times_are_shares_of_the_lead_time_beside_the_assumption() -> None:
    found = {one["name"]: one for one in summary(TWELVE, seconds_per_vertex="2")["classes"]}
    assert found["sky"]["lead_time_s"] == 30.0
    assert found["sky"]["polygon_time_s"] == 2 * found["sky"]["vertices_needed"]
    assert found["road"]["vertices_needed"] is None or found["road"]["vertices_needed"] > 20


def test_skipped_annotations_are_left_out_and_nothing_gives_no_section() -> None:
    check, given = PolygonsCheck(), context()
    skipped = parse_task(raw_task(1, [annotation(1, 7, [("car", box(1))], was_cancelled=True)]))
    found = check.summarize([check.measure(skipped, given)], given)
    assert found["classes"] == [] and check.report(found, str) is None


def test_the_section_says_it_in_sentences() -> None:
    section = PolygonsCheck().report(summary(TWELVE), str)
    assert section is not None
    texts = [finding.text for finding in section.findings]
    assert texts == [
        "“car” can be drawn as boxes.",
        "“road” needs pixels.",
        "“sky” can be drawn as polygons of 20 vertices.",
    ]
    assert "30 s an object now" in section.findings[0].evidence


@pytest.mark.parametrize("options", [{"vertices": "2"}, {"enough_iou": "x"}, {"enough_iou": "2"}])
def test_options_that_cannot_work_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="polygons"):
        summary(TWELVE[:1], **options)
