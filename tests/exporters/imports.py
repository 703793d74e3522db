"""Round trips through `segstudio import`: what an export wrote, imported and exported again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporters.importers.runner import ImportSummary, run_import
from segstudio.export_file import FileSource
from segstudio.source import TaskFilter
from tests.exporters.projects import run, source_of, tree

_CARD = {"README.md", "dataset.json", "images.jsonl", "contact-sheet.jpg"}


def data_files(folder: Path) -> dict[str, bytes]:
    """The files that make up the format, without the card that stands beside every export."""
    return {
        name: content
        for name, content in tree(folder).items()
        if name not in _CARD and not name.startswith(".segstudio")
    }


def import_folder(format_name: str, folder: Path, out: Path, **options: Any) -> ImportSummary:
    settings = {"workers": 1, "show_progress": False, **options}
    return run_import(format_name, folder, out, **settings)


def imported(summary: ImportSummary) -> list[dict[str, Any]]:
    """The tasks that an import wrote."""
    found: list[dict[str, Any]] = json.loads(summary.files.tasks.read_text())
    return found


def there_and_back(
    format_name: str, tasks: Sequence[Any], where: Path, **options: Any
) -> tuple[dict[str, bytes], dict[str, bytes], ImportSummary]:
    """Export tasks, import that, export it again: both exports' files."""
    run(format_name, source_of(where / "source", tasks), where / "first", options=options)
    summary = import_folder(format_name, where / "first", where / "back.json")
    again = FileSource(str(summary.files.tasks), TaskFilter())
    run(format_name, again, where / "second", taxonomy=None, options=options)
    return data_files(where / "first"), data_files(where / "second"), summary
