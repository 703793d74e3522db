import pytest

from exporters.options import check_options, image_split, split_rule
from exporters.splits import SplitError
from segstudio.errors import UsageError
from segstudio.images import AnnotatedImage, ImageKey

KNOWN = {"masks": ("whole", "visible"), "split": (), "group": ()}


def image(task_id: int = 1, **data: str) -> AnnotatedImage:
    return AnnotatedImage(
        task_id, ImageKey("image"), "/x/1.jpg", 8, 10, (), 1, 5, "1", task_data=data
    )


def test_what_is_not_given_has_the_first_value() -> None:
    assert check_options({"overlap": "error"}, KNOWN, "f") == {
        "masks": "whole", "overlap": "error",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mask": "whole"}, "no option 'mask'; did you mean 'masks'"),
        ({"colour": "red"}, "no option 'colour'; it has masks, split, group"),
        ({"masks": "half"}, "is 'half'; choose one of whole, visible"),
        ({"split": "../up"}, "'../up', which is no folder name"),
        ({"split": "train:x"}, "the share 'train:x'"),
        ({"split": "train:8,val:-1"}, "the share 'val:-1'"),
        ({"split": ""}, "'', which is no folder name"),
    ],
)
def test_what_a_format_does_not_have_is_refused(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence.replace("(", r"\(")):
        check_options(options, KNOWN, "f")


def test_a_split_is_a_name_a_field_or_shares() -> None:
    assert image_split(image(), {}) == "train"
    assert image_split(image(), {"split": "val"}) == "val"
    assert image_split(image(subset="test"), {"split": "{subset}"}) == "test"
    shares = {"split": "train:8,val:2"}
    dealt = [image_split(image(number), shares) for number in range(400)]
    assert 40 < dealt.count("val") < 120 and set(dealt) == {"train", "val"}


def test_shares_keep_a_group_together() -> None:
    options = {"split": "train:1,val:1", "group": "{video}"}
    assert len({image_split(image(n, video="a"), options) for n in range(50)}) == 1


@pytest.mark.parametrize("value", ["", "../x", "a/b", ".hidden"])
def test_a_field_that_is_no_folder_name_is_refused(value: str) -> None:
    with pytest.raises(SplitError, match="Task 1"):
        image_split(image(subset=value), {"split": "{subset}"})


def test_the_rule_keeps_the_order_of_the_shares() -> None:
    assert list(split_rule({"split": "test:1, train:3"}).shares) == ["test", "train"]
