"""The Jinja templates of a custom schema: compiled in a sandbox, their JSON checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import ijson
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from segstudio.errors import UsageError

# What a template may run into, beside Jinja's own errors: 1 / 0, 'a' + 1, a missing key.
_TEMPLATE_ERRORS: Final = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError)


@lru_cache(maxsize=64)
def compile_template(template: str, path: str) -> Template:
    """Compile the template of a file.

    Raises:
        UsageError: it is no Jinja; the sentence names the file.
    """
    # Label data is no HTML; `tojson` is what escapes it where a template writes JSON.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["tojson"] = _to_json
    try:
        return environment.from_string(template)
    except TemplateError as error:
        raise UsageError(f"The template of '{path}' is no Jinja: {error}.") from error


def render_text(template: str, path: str, values: Mapping[str, Any], *, is_json: bool) -> str:
    """Fill a template.

    Raises:
        ValueError: it cannot be filled, or `is_json` and the text is no JSON.
    """
    return "".join(stream_text(template, path, values, is_json=is_json))


def stream_text(
    template: str, path: str, values: Mapping[str, Any], *, is_json: bool
) -> Iterator[str]:
    """Fill a template piece by piece, in the memory of one piece.

    Raises:
        ValueError: it cannot be filled, or `is_json` and the text is no JSON.
    """
    events = ijson.sendable_list()
    parser = ijson.basic_parse_coro(events)
    pieces = compile_template(template, path).generate(**values)
    while True:
        try:
            piece = next(pieces, None)
        except _TEMPLATE_ERRORS as error:
            raise ValueError(f"The template of '{path}' cannot be filled: {error}.") from error
        try:
            if is_json and piece:  # to ijson an empty piece is the end
                parser.send(piece.encode("utf-8"))
                del events[:]
            elif is_json and piece is None:
                parser.close()
        except (ijson.JSONError, ValueError) as error:
            raise ValueError(f"The template of '{path}' does not give JSON: {error}.") from error
        if piece is None:
            return
        yield piece


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
