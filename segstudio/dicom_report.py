"""The report of a DICOM import: file by file what was removed, and what could not be read.

It names files by number and attributes by tag; it holds no value of any of them, so that it can
go with the images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from segstudio.dicom_output import MADE_BY

Box = tuple[int, int, int, int]
RemovedRow = tuple[str, str, str]
_FILES_ON_PAGE: Final = 2000


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file: where its slices went, or why it was left out; (tag, keyword, action) removed."""

    name: str
    reason: str = ""
    series: str = ""
    slices: tuple[int, ...] = ()
    removed: tuple[RemovedRow, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """One series, and how likely text is in its pixels."""

    name: str
    modality: str
    files: int
    slices: int
    ordered_by: str
    text_verdict: str
    text_reasons: tuple[str, ...]
    text_boxes: tuple[Box, ...]
    masked_boxes: tuple[Box, ...]
    left_out: int
    notes: tuple[str, ...]

    @property
    def needs_a_look(self) -> bool:
        """Say whether text is likely and nothing was masked."""
        return self.text_verdict in ("declared", "suspected") and self.slices > 0


@dataclass(frozen=True, slots=True)
class Report:
    """All that the report says."""

    files: tuple[FileRow, ...]
    series: tuple[SeriesRow, ...]
    windows: tuple[tuple[str, float, float], ...]
    burned_in: str
    has_fixed_uids: bool
    has_key: bool
    has_dicom: bool
    images: int
    tasks: int


def write_report(json_path: Path, page_path: Path, report: Report) -> None:
    """Write report.json, a line a file, and report.html."""
    removals, numbers = _removal_lists(report.files)
    counts = _counts(report)
    head = {
        "made_by": MADE_BY,
        "profile": "DICOM PS3.15 E, Basic Application Level Confidentiality Profile",
        "counts": counts,
        "uids": "by the given secret" if report.has_fixed_uids else "random, for this run only",
        "key_file": "written" if report.has_key else "not written",
        "dicom_files": report.has_dicom,
        "windows": [dict(zip(("name", "center", "width"), one, strict=True))
                    for one in report.windows],
        "burned_in": report.burned_in,
    }  # fmt: skip
    with json_path.open("w", encoding="utf-8") as file:
        file.write("{\n")
        for key, value in head.items():
            file.write(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n")
        _write_list(file, "series", [asdict(one) for one in report.series], ",\n")
        listed = [
            [dict(zip(("tag", "keyword", "action"), row, strict=True)) for row in rows]
            for rows in removals
        ]
        # Most files of a series lose the same: the lists stand once, files name theirs by number.
        _write_list(file, "removals", listed, ",\n")
        _write_list(file, "files", [_file_json(row, numbers) for row in report.files], "\n")
        file.write("}\n")
    page_path.write_text(_page(report, removals, numbers, counts), encoding="utf-8")


def _write_list(file: Any, key: str, entries: Sequence[Any], end: str) -> None:
    file.write(f"{json.dumps(key)}: [")
    for at, entry in enumerate(entries):
        file.write(("," if at else "") + "\n" + json.dumps(entry, ensure_ascii=False))
    file.write(f"\n]{end}")


def _removal_lists(
    files: Sequence[FileRow],
) -> tuple[list[tuple[RemovedRow, ...]], dict[tuple[RemovedRow, ...], int]]:
    numbers: dict[tuple[RemovedRow, ...], int] = {}
    for row in files:
        if not row.reason:
            numbers.setdefault(row.removed, len(numbers))
    return list(numbers), numbers


def _file_json(row: FileRow, numbers: dict[tuple[RemovedRow, ...], int]) -> dict[str, Any]:
    if row.reason:
        return {"file": row.name, "outcome": "left out", "reason": row.reason}
    entry: dict[str, Any] = {
        "file": row.name,
        "outcome": "imported",
        "series": row.series,
        "slices": list(row.slices),
        "removal": numbers[row.removed],
    }
    return {**entry, "notes": list(row.notes)} if row.notes else entry


def _counts(report: Report) -> dict[str, int]:
    imported = sum(not row.reason for row in report.files)
    return {
        "files": len(report.files),
        "imported": imported,
        "left_out": len(report.files) - imported,
        "series": sum(one.slices > 0 for one in report.series),
        "tasks": report.tasks,
        "images": report.images,
        "series_to_look_at": sum(one.needs_a_look for one in report.series),
    }


def _page(
    report: Report, removals: Sequence[tuple[RemovedRow, ...]],
    numbers: dict[tuple[RemovedRow, ...], int], counts: dict[str, int],
) -> str:  # fmt: skip
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE).render(
        report=report,
        counts=counts,
        removals=list(enumerate(removals, 1)),
        list_of={removed: number + 1 for removed, number in numbers.items()},
        files=report.files[:_FILES_ON_PAGE],
        more=max(0, len(report.files) - _FILES_ON_PAGE),
        to_look_at=[one for one in report.series if one.needs_a_look],
    )


_TEMPLATE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>DICOM import: what was removed</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884;
  vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: .92em; }
.warning { border-left: 4px solid #c60; padding: .4rem 1rem; background: #c601; }
details { margin: .4rem 0; }
</style></head><body>
<h1>DICOM import</h1>
<p>{{ counts.imported }} of {{ counts.files }} files became {{ counts.tasks }} tasks with
{{ counts.images }} images in {{ counts.series }} series; {{ counts.left_out }} left out.
Patient data was removed by the Basic Application Level Confidentiality Profile of DICOM PS3.15.
UIDs were replaced consistently,
{% if report.has_fixed_uids %}by the given secret: other runs with it give the same ones
{%- else %}by a random secret of this run{% endif %}.
{% if report.has_key %}A key file that leads back was written elsewhere.
{%- else %}No key that leads back was written.{% endif %}

Files are named by number; this page holds no value of any removed attribute.</p>
{% if to_look_at %}
<h2>Look at these images before you give them away</h2>
<div class="warning">
<p>Removing attributes does not change pixels. Text may be burned into the images of:</p>
<ul>{% for one in to_look_at %}
<li><strong>{{ one.name }}</strong> ({{ one.modality or "no modality" }},
{{ one.slices }} {{ "image" if one.slices == 1 else "images" }}):
{{ one.text_verdict }}; {{ one.text_reasons | join("; ") }}.
{% if one.masked_boxes %}{{ one.masked_boxes | length }} boxes were blacked out.
{%- else %}Nothing was blacked out.{% endif %}</li>
{% endfor %}</ul></div>
{% endif %}
<h2>Series</h2>
<table><tr><th>series</th><th>modality</th><th>files</th><th>slices</th><th>order</th>
<th>text in pixels</th><th>notes</th></tr>
{% for one in report.series %}
<tr><td>{{ one.name }}</td><td>{{ one.modality }}</td><td class="number">{{ one.files }}</td>
<td class="number">{{ one.slices }}</td><td>{{ one.ordered_by }}</td><td>{{ one.text_verdict }}</td>
<td>{{ one.notes | join("; ") }}</td></tr>
{% endfor %}</table>
<h2>What was removed</h2>
{% for number, rows in removals %}
<details {% if loop.length == 1 %}open{% endif %}><summary>List {{ number }}: {{ rows | length }}
attributes</summary>
<table><tr><th>tag</th><th>attribute</th><th>what happened</th></tr>
{% for tag, keyword, action in rows %}
<tr><td><code>{{ tag }}</code></td><td>{{ keyword or "private or unknown" }}</td>
<td>{{ action }}</td></tr>
{% endfor %}</table></details>
{% endfor %}
<h2>Files</h2>
<p><code>segstudio dicom files</code> with the same paths shows which number is which file. Slices
count from 0, as the names of their images do.</p>
<table><tr><th>file</th><th>outcome</th><th>slices</th><th>removed</th></tr>
{% for row in files %}
<tr><td>{{ row.name }}</td>
{% if row.reason %}<td colspan="3">left out: {{ row.reason }}</td>
{% else %}<td>{{ row.series }}</td>
<td>{{ row.slices[0] }}{% if row.slices | length > 1 %} to {{ row.slices[-1] }}{% endif %}</td>
<td>list {{ list_of[row.removed] }}</td>{% endif %}</tr>
{% endfor %}</table>
{% if more %}<p>and {{ more }} more in report.json.</p>{% endif %}
</body></html>
"""
