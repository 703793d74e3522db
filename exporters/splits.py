"""Which split (train, val, test ...) an image belongs to: by a field, or by stated shares.

Shares are kept by hashing, never by drawing lots: an image stays in its split whatever else joins
the project, and the images of one group (the frames of a video, the slices of a patient) are never
torn apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from segstudio.images import AnnotatedImage

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_SCALE: Final = 1 << 64


class SplitError(ValueError):
    """An image that no split takes; the sentence names the field and its value."""


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How images are dealt into splits.

    `field_name` names the task field that decides, through `values` (field value -> split; a value
    that is not there is the split's name itself where `values` is empty, else `default`). Without
    a field, `shares` (split -> share, any positive numbers) decide by the hash of `seed` and of
    `group` filled in, such as ``"{video}"``. No shares either: every image is in `default`.
    """

    default: str = ""
    field_name: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    group: str = "{task_id}"
    seed: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Return every split that the rule itself names, in order, without doubles."""
        named = [*self.values.values(), *self.shares, self.default]
        return tuple(dict.fromkeys(name for name in named if name))


def split_of(image: AnnotatedImage, rule: SplitRule) -> str:
    """Return the split of an image; "" where the rule names none.

    Raises:
        SplitError: the task lacks the field and there is no default, or a group's field is missing.

    >>> rule = SplitRule(shares={"train": 8, "val": 2}, group="{video}")
    >>> share_of("0:clip-7", rule.shares) in rule.shares
    True
    """
    if rule.field_name:
        value = str(image.task_data.get(rule.field_name, ""))
        if value in rule.values:
            return rule.values[value]
        if value and not rule.values:
            return value
        if rule.default:
            return rule.default
        raise SplitError(
            f"Task {image.task_id} has {rule.field_name} = '{value}', which no split takes; add it "
            "to the split's values or give a default."
        )
    if rule.shares:
        return share_of(f"{rule.seed}:{fill(rule.group, image)}", rule.shares)
    return rule.default


def share_of(key: str, shares: Mapping[str, float]) -> str:
    """Return the split that a key falls into: its hash as a point on the line of the shares."""
    number = int.from_bytes(blake2b(key.encode("utf-8"), digest_size=8).digest(), "big")
    point = number / _SCALE * sum(shares.values())
    reached = 0.0
    for name, share in shares.items():
        reached += share
        if point < reached:
            return name
    return list(shares)[-1]


def fill(template: str, image: AnnotatedImage) -> str:
    """Replace ``{task_id}``, ``{stem}`` and ``{any field of the task's data}``.

    Raises:
        SplitError: the task has no such field.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name == "task_id":
            return str(image.task_id)
        if name == "stem":
            return image.file_stem
        if name in image.task_data:
            return str(image.task_data[name])
        raise SplitError(f"Task {image.task_id} has no field '{name}', which '{template}' needs.")

    return _PLACE.sub(value, template)
