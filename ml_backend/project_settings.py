"""What a project asks of the server: the `extra_params` of its ML backend, checked once at /setup.

The same reading checks them in `segstudio prelabel configure` before they are written, because
Label Studio shows nothing of a refusal but its number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from ml_backend.automatic_masks import AutomaticSettings
from ml_backend.protocol import RequestError
from ml_backend.settings import ANSWER_KINDS
from segstudio.errors import SegstudioError

__all__ = ["BatchMode", "ExtraParamsError", "ProjectSettings", "read_project_settings"]

_DEFAULTS = AutomaticSettings(clean_px=100, min_area_px=100)
_SMALL_MODEL = replace(_DEFAULTS, points_per_side=16, min_predicted_iou=0.65, min_stability=0.75)
"""The built-in model predicts lower IoUs than Meta's models, as it should: its masks are worse."""


class ExtraParamsError(SegstudioError, RequestError):
    """Extra parameters that mean nothing here; the sentence names key, value and what may be."""

    exit_code = 2


class BatchMode(StrEnum):
    """What becomes of a task that nobody has clicked on: retrieved predictions, opened tasks."""

    BOX_TO_INSTANCE = "box-to-instance"
    AUTOMATIC = "automatic"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """One project's wishes. `max_wait_s` bounds how long a task asked for alone is waited for."""

    mode: BatchMode = BatchMode.BOX_TO_INSTANCE
    answer: str | None = None
    label: str | None = None
    max_wait_s: float = 30.0
    automatic: AutomaticSettings = _DEFAULTS

    def model_version(self, engine_version: str) -> str:
        """Name what makes the predictions of tasks that nobody clicked on.

        Label Studio asks for no second prediction of a task under the same name. So automatic masks
        have a name of their own, with a digest where anything is not as the defaults have it.

        >>> ProjectSettings(BatchMode.AUTOMATIC).model_version("sam 1")
        'sam 1 automatic'
        """
        if self.mode is not BatchMode.AUTOMATIC:
            return engine_version
        shown = f"{engine_version} automatic"
        if self.automatic in (_DEFAULTS, _SMALL_MODEL):
            return shown
        digest = hashlib.sha256(repr(self.automatic).encode()).hexdigest()
        return f"{shown} {digest[:6]}"


def read_project_settings(extra_params: object, model: str = "") -> ProjectSettings:
    """Read `extra_params` as Label Studio keeps them: an object, its JSON text, or nothing.

    `model` is the engine's name: the built-in small model has defaults of its own for automatic
    masks. Raises ExtraParamsError for an unknown key and for a value that cannot be.

    >>> read_project_settings({"mode": "automatic", "label": "Object"}).mode.value
    'automatic'
    """
    params = _object(extra_params)
    automatic = _SMALL_MODEL if model == "tiny" else _DEFAULTS
    settings = ProjectSettings(automatic=automatic)
    known = [*_READERS, *_AUTOMATIC_READERS]
    for key, value in params.items():
        if key in _READERS:
            settings = replace(settings, **{key: _READERS[key](key, value)})
        elif key in _AUTOMATIC_READERS:
            automatic = replace(automatic, **{key: _AUTOMATIC_READERS[key](key, value)})
        else:
            close = get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ExtraParamsError(
                f"The extra parameters know no {key!r}.{hint} They may hold {', '.join(known)}."
            )
    return replace(settings, automatic=automatic)


def _object(extra_params: object) -> Mapping[str, Any]:
    found = extra_params
    for _ in range(2):  # the settings page stores what was typed, which may be quoted once more
        if isinstance(found, str):
            try:
                found = json.loads(found) if found.strip() else {}
            except ValueError as error:
                raise ExtraParamsError(f"The extra parameters are no JSON: {error}.") from error
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ExtraParamsError(
            f"The extra parameters are a JSON {type(found).__name__}, not an object such as "
            f'{{"mode": "automatic"}}.'
        )
    return found


def _choice(choices: tuple[str, ...]) -> Callable[[str, object], str]:
    def read(key: str, value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ExtraParamsError(
                f"The extra parameter {key!r} is one of {', '.join(choices)}, not {value!r}."
            )
        return value

    return read


def _mode(key: str, value: object) -> BatchMode:
    return BatchMode(_choice(tuple(mode.value for mode in BatchMode))(key, value))


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ExtraParamsError(f"The extra parameter {key!r} is a label's name, not {value!r}.")
    return value


def _number(low: float, high: float, *, whole: bool = False) -> Callable[[str, object], float]:
    def read(key: str, value: object) -> float:
        fits = (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and low <= value <= high
            and (not whole or value == int(value))
        )
        if not fits or not isinstance(value, int | float):
            kind = "a whole number" if whole else "a number"
            raise ExtraParamsError(
                f"The extra parameter {key!r} is {kind} from {low:g} to {high:g}, not {value!r}."
            )
        return int(value) if whole else float(value)

    return read


_READERS: Mapping[str, Callable[[str, object], Any]] = {
    "mode": _mode,
    "answer": _choice(ANSWER_KINDS),
    "label": _text,
    "max_wait_s": _number(0, 90),
}
_AUTOMATIC_READERS: Mapping[str, Callable[[str, object], Any]] = {
    "points_per_side": _number(1, 128, whole=True),
    "min_predicted_iou": _number(0, 1),
    "min_stability": _number(0, 1),
    "stability_offset": _number(0, 10),
    "max_box_iou": _number(0, 1),
    "crop_layers": _number(0, 3, whole=True),
    "crop_points_divisor": _number(1, 8, whole=True),
    "clean_px": _number(0, 1 << 30, whole=True),
    "min_area_px": _number(0, 1 << 30, whole=True),
    "max_area_percent": _number(0, 100),
    "max_masks": _number(1, 1000, whole=True),
}
assert set(_AUTOMATIC_READERS) == {one.name for one in fields(AutomaticSettings)}  # noqa: S101
