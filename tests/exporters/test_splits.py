from collections import Counter

import pytest

from exporters.splits import SplitError, SplitRule, fill, share_of, split_of
from segstudio.images import AnnotatedImage, ImageKey


def image(task_id: int, **data: str | int) -> AnnotatedImage:
    return AnnotatedImage(task_id, ImageKey("image"), "a.jpg", 4, 5, (), 1, 1, "a", data)


FIELD = SplitRule(field_name="part", values={"training": "train", "held out": "test"})


@pytest.mark.parametrize(
    ("rule", "data", "split"),
    [
        (SplitRule(), {}, ""),
        (SplitRule(default="train"), {}, "train"),
        (FIELD, {"part": "training"}, "train"),
        (FIELD, {"part": "held out"}, "test"),
        (SplitRule(field_name="part"), {"part": "val"}, "val"),
        (SplitRule(field_name="part", default="train"), {}, "train"),
        (SplitRule(field_name="part", values={"1": "val"}, default="train"), {"part": 1}, "val"),
        (SplitRule(shares={"all": 1.0}), {}, "all"),
    ],
)
def test_a_rule_gives_the_split(rule: SplitRule, data: dict[str, str], split: str) -> None:
    assert split_of(image(1, **data), rule) == split


@pytest.mark.parametrize(
    ("rule", "data", "words"),
    [
        (FIELD, {"part": "other"}, "part = 'other', which no split takes"),
        (FIELD, {}, "part = '', which no split takes"),
        (SplitRule(shares={"a": 1.0}, group="{video}"), {}, "no field 'video'"),
    ],
)
def test_an_image_that_fits_no_split_is_an_error(
    rule: SplitRule, data: dict[str, str], words: str
) -> None:
    with pytest.raises(SplitError, match=words):
        split_of(image(7, **data), rule)


def test_shares_are_kept_and_depend_on_the_seed() -> None:
    shares = {"train": 8.0, "val": 1.0, "test": 1.0}
    counts = Counter(share_of(f"s:{number}", shares) for number in range(10_000))
    assert counts["train"] == pytest.approx(8000, abs=200)
    assert counts["val"] == pytest.approx(1000, abs=150)
    other = [share_of(f"t:{number}", shares) for number in range(100)]
    assert other != [share_of(f"s:{number}", shares) for number in range(100)]


def test_the_frames_of_a_video_stay_together() -> None:
    rule = SplitRule(shares={"a": 1.0, "b": 1.0}, group="{video}")
    for video in ("x", "y", "z"):
        assert len({split_of(image(n, video=video, frame=n), rule) for n in range(20)}) == 1


def test_fill_replaces_fields_of_the_task() -> None:
    assert fill("{video}-{task_id}-{stem}", image(3, video="v")) == "v-3-a"
