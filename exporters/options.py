"""The options of a format (`--option KEY=VALUE`): checked before anything is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from exporters.splits import SplitError, SplitRule, split_of
from segstudio.errors import UsageError
from segstudio.images import AnnotatedImage

SPLIT_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {"split": (), "group": ()}
"""`split`: a name, shares or a task field, see `split_rule`; `group`: what shares keep together."""

# Options of every format, which the runner reads.
_SHARED: Final = frozenset({"images", "overlap"})
_NAME: Final = re.compile(r"\w[\w.-]{0,99}")
_FIELD: Final = re.compile(r"\{([^{}]+)\}")


def check_options(
    options: Mapping[str, str], known: Mapping[str, tuple[str, ...]], format_name: str
) -> dict[str, str]:
    """Return the options with every choice filled in, its first value being the default.

    Args:
        options: as the user gave them.
        known: the format's options: the values that each takes, none for free text.
        format_name: for the sentences.

    Raises:
        UsageError: an option or a value that the format does not have, or a bad split.
    """
    for key in options:
        if key not in known and key not in _SHARED:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(known)}."
            raise UsageError(f"The format {format_name} has no option '{key}'; {hint}")
    for key, choices in known.items():
        if choices and options.get(key, choices[0]) not in choices:
            raise UsageError(
                f"The option {key} of the format {format_name} is '{options[key]}'; "
                f"choose one of {', '.join(choices)}."
            )
    split_rule(options)
    defaults = {key: choices[0] for key, choices in known.items() if choices}
    return {**defaults, **options}


def split_rule(options: Mapping[str, str]) -> SplitRule:
    """Read the options `split` and `group`.

    `split` is a name that all images get (default ``train``), shares (``train:8,val:2``, dealt by
    the hash of `group`, by default ``{task_id}``), or a field of the task's data (``{subset}``).

    Raises:
        UsageError: a name that is no folder name, or shares that are no positive numbers.

    >>> split_rule({"split": "train:8,val:2", "group": "{video}"}).shares
    {'train': 8.0, 'val': 2.0}
    """
    text = options.get("split", "train")
    group = options.get("group", "{task_id}")
    if found := _FIELD.fullmatch(text):
        return SplitRule(field_name=found[1])
    if ":" not in text:
        _check_name(text)
        return SplitRule(default=text)
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition(":")
        _check_name(name.strip())
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            shares[name.strip()] = 0.0
        if not 0 < shares[name.strip()] < float("inf"):
            raise UsageError(
                f"The option split has the share '{part}'; write positive numbers, "
                "as in split=train:8,val:2."
            )
    return SplitRule(shares=shares, group=group)


def image_split(image: AnnotatedImage, options: Mapping[str, str]) -> str:
    """Return the split of an image, which is safe as a folder's name.

    Raises:
        SplitError: the task's data lacks the field, or the field is no folder name.
    """
    name = split_of(image, split_rule(options))
    if not _NAME.fullmatch(name):
        raise SplitError(
            f"Task {image.task_id} asks for the split '{name}', which is no folder name; "
            "use letters, digits, dots, dashes and underscores."
        )
    return name


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"The option split names '{name}', which is no folder name; use letters, digits, "
            "dots, dashes and underscores, as in split=train or split=train:8,val:2."
        )
