import numpy as np
import pytest

from qa_plugins.metrics.average_precision import AveragePrecision, ImageObjects, average_precision
from segstudio.masks import Mask


def box(left: int, right: int) -> Mask:
    array = np.zeros((10, 100))
    array[:, left:right] = 1
    return Mask.from_dense(array)


def test_the_same_objects_give_one() -> None:
    objects = (("car", box(0, 10)), ("car", box(20, 40)))
    found = average_precision([ImageObjects(objects, objects)], ["car", "sky"])
    assert found["car"] == AveragePrecision(pytest.approx(1), pytest.approx(1), pytest.approx(1))
    assert found["sky"] == AveragePrecision(None, None, None)


def test_an_iou_of_06_counts_at_05_and_not_at_075() -> None:
    found = average_precision(
        [ImageObjects((("car", box(0, 10)),), (("car", box(0, 6)),))], ["car"]
    )["car"]
    assert (found.at_50, found.at_75) == (pytest.approx(1), pytest.approx(0))
    assert found.at_50_to_95 == pytest.approx(0.3)  # 0.5, 0.55 and 0.6 of ten


def test_one_of_two_found_is_half_and_other_classes_do_not_matter() -> None:
    gold = (("car", box(0, 10)), ("car", box(50, 60)))
    drawn = (("car", box(0, 10)), ("sky", box(50, 60)))
    found = average_precision([ImageObjects(gold, drawn)], ["car"])["car"]
    assert found.at_50 == pytest.approx(0.5, abs=0.01)


def test_no_gold_object_gives_no_value() -> None:
    nothing = AveragePrecision(None, None, None)
    drawn_only = [ImageObjects((), (("car", box(0, 5)),))]
    assert average_precision(drawn_only, ["car"]) == {"car": nothing}
    assert average_precision([], ["car"]) == {"car": nothing}
