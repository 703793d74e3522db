from __future__ import annotations

import time
from threading import Event

import numpy as np
import pytest

from ml_backend.automatic_masks import AutomaticMasks
from ml_backend.batch_modes import AutomaticJobs, automatic_label, image_places, in_pieces
from ml_backend.engines.point_batches import PointBatch
from ml_backend.predictions import AnswerError
from ml_backend.scheduler import BusyError
from segstudio.label_config import parse_label_config


def config(*controls: str, image: str = '<Image name="image" value="$image"/>'):
    return parse_label_config(f"<View>{image}{''.join(controls)}</View>")


def brush(*labels: str) -> str:
    inside = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<BrushLabels name="b" toName="image">{inside}</BrushLabels>'


@pytest.mark.parametrize(
    ("controls", "wanted", "label"),
    [
        ([brush("Car", "Object")], "Car", ("Car",)),
        ([brush("Car")], None, ("Car",)),
        ([brush("Car", "Object", "Region")], None, ("Object",)),
        ([brush("Car", " region ")], None, (" region ",)),
        (['<Brush name="b" toName="image"/>'], None, ()),
        (
            ['<Brush name="b" toName="image"/>',
             '<Labels name="l" toName="image"><Label value="A"/></Labels>'],
            None, ("A",),
        ),
        (
            [brush("Car"), '<KeyPointLabels name="k" toName="image"><Label value="Car"/>'
             '<Label value="Eye"/></KeyPointLabels>'],
            None, ("Car",),
        ),
    ],
    ids=["named", "the only one", "agnostic", "spelling", "none", "plain", "no key points"],
)  # fmt: skip
def test_masks_without_class_get_a_label_by_the_stated_rule(controls, wanted, label):
    assert automatic_label(config(*controls), "image", wanted) == label


@pytest.mark.parametrize(
    ("controls", "wanted", "sentence"),
    [
        ([brush("Car", "Road")], None, r"2 labels \('Car', 'Road'\): name one"),
        ([brush("Car", "Road")], "Tree", "holds the label 'Tree'"),
        (['<KeyPointLabels name="k" toName="image"><Label value="A"/></KeyPointLabels>'], None,
         "no label"),
    ],
)  # fmt: skip
def test_a_label_that_cannot_be_chosen_is_a_sentence(controls, wanted, sentence):
    with pytest.raises(AnswerError, match=sentence):
        automatic_label(config(*controls), "image", wanted)


def test_every_image_and_page_of_a_task_is_found():
    two = config(image='<Image name="a" value="$a"/><Image name="b" valueList="$b"/>')
    assert image_places({"a": "x.jpg", "b": ["y.jpg", "z.jpg"]}, two) == [
        ("a", 0), ("b", 0), ("b", 1),
    ]  # fmt: skip
    assert image_places({"b": []}, two) == []


def test_pieces_grow_and_shrink_with_the_devices_speed_and_leave_no_point_out():
    sizes: list[int] = []

    def decode(points):
        sizes.append(len(points))
        empty = np.zeros((len(points), 1, 2, 2), np.float32)
        batch = PointBatch(empty, empty[:, :, 0, 0], (2, 2), (2, 2))
        return batch, len(points) * (0.001 if len(sizes) < 6 else 0.05)

    points = np.arange(600.0).reshape(300, 2)
    seen = np.concatenate([piece for piece, _ in in_pieces(points, decode)])
    assert (seen == points).all()
    assert sizes[:4] == [8, 16, 32, 64]
    assert max(sizes) == 64
    assert sizes[-2] == 2  # 0.1 s at 0.05 s a point


def masks() -> AutomaticMasks:
    return AutomaticMasks((), np.zeros(1000, np.float32), 0)


def test_an_image_is_searched_once_however_many_ask():
    jobs = AutomaticJobs()
    go, calls = Event(), []

    def work() -> AutomaticMasks:
        calls.append(1)
        go.wait(10)
        return masks()

    first, second = jobs.get("a", work), jobs.get("a", work)
    go.set()
    assert first.result(10) is second.result(10)
    assert jobs.get("a", work).result(10) is first.result()
    assert len(calls) == 1
    jobs.close()


def test_a_failure_is_told_and_not_kept():
    jobs = AutomaticJobs()

    def fail() -> AutomaticMasks:
        raise ValueError("no image")

    with pytest.raises(ValueError, match="no image"):
        jobs.get("a", fail).result(10)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert jobs.get("a", masks).result(10).found == 0
            break
        except ValueError:  # the failed one is still being cleared away
            time.sleep(0.01)
    jobs.close()


def test_what_is_kept_is_bounded():
    jobs = AutomaticJobs(limit_bytes=9000)
    calls = []
    for name in ("a", "b", "c", "a"):
        jobs.get(name, lambda name=name: calls.append(name) or masks()).result(10)
        time.sleep(0.05)
    assert calls == ["a", "b", "c", "a"]
    jobs.close()


def test_too_many_images_at_once_are_refused():
    jobs, go = AutomaticJobs(), Event()
    waiting = [jobs.get(n, lambda: go.wait(10) and masks()) for n in range(16)]
    with pytest.raises(BusyError, match="16 images wait"):
        jobs.get("more", masks)
    go.set()
    assert all(one.result(10) for one in waiting)
    jobs.close()
