"""Runs an import: reads in parallel, counts what went wrong, writes three files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from exporters.files import atomic_writer, compact_json, write_text
from exporters.importers import find_format, format_name
from exporters.importers.dataset import DamagedImageError, Dataset, ImportedImage, Item
from exporters.importers.folder import DatasetFolder
from exporters.importers.tasks import (
    AsWhat,
    TaskShape,
    answer_controls,
    label_config_xml,
    task_of,
)
from segstudio.compute import map_tasks
from segstudio.errors import SegstudioError, UsageError
from segstudio.label_config import parse_label_config
from segstudio.tasks import Problem
from segstudio.taxonomy import Taxonomy, dump_taxonomy

_MAX_KEPT: Final = 1000


@dataclass(frozen=True, slots=True)
class ImportFiles:
    """The three files of an import: the tasks, and what every reader of them takes beside them."""

    tasks: Path

    @property
    def label_config(self) -> Path:
        """The labelling interface."""
        return self._beside("label-config.xml")

    @property
    def taxonomy(self) -> Path:
        """The taxonomy."""
        return self._beside("taxonomy.yaml")

    def _beside(self, kind: str) -> Path:
        return self.tasks.with_name(f"{self.tasks.name.removesuffix('.json')}.{kind}")


@dataclass(slots=True)
class ImportSummary:
    """What an import did, for the caller and for the last lines of the command."""

    format_name: str
    files: ImportFiles
    as_what: AsWhat
    images: int = 0
    segments: int = 0
    left_out: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    problem_counts: Counter[str] = field(default_factory=Counter)
    first_problems: list[Problem] = field(default_factory=list)


def run_import(
    format_: str,
    folder: Path,
    out: Path,
    *,
    taxonomy: Taxonomy | None = None,
    as_what: AsWhat = "annotations",
    image_root_url: str = "",
    strict: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
    show_progress: bool = True,
) -> ImportSummary:
    """Turn a data set into Label Studio tasks with a labelling interface and a taxonomy.

    Args:
        format_: the format's name or an alias.
        folder: the data set; nothing outside of it is read.
        out: the tasks, `X.json`; `X.label-config.xml` and `X.taxonomy.yaml` come beside it.
        taxonomy: names, kinds and colours to use instead of the data set's own; its class ids
            are the data set's.
        as_what: annotations (no ground truth) or predictions.
        image_root_url: what the pictures' names are put behind; see `tasks.image_url`.
        strict: stop at the first thing that cannot be read, with nothing written.
        workers: processes; the bytes do not depend on it.
        cluster: address of a Ray cluster, which must see the same folder.
        show_progress: on stderr.

    Raises:
        UsageError: unknown format, no such folder, an `out` that is no `.json` or would overwrite
            a file that no import wrote.
        DatasetError: the folder holds no data set of the format.
        SegstudioError: strict and something could not be read; or nothing could.
    """
    name = format_name(format_)
    opener = find_format(name)
    files = ImportFiles(out)
    _check_paths(folder, files)
    if show_progress:
        print(f"reading the lists of {folder} ...", file=sys.stderr)
    dataset = opener(DatasetFolder(folder), taxonomy)
    controls = answer_controls(dataset.attributes)
    xml = label_config_xml(dataset.taxonomy, dataset.attributes, controls)
    shape = TaskShape(name, parse_label_config(xml), controls, as_what, image_root_url)
    summary = ImportSummary(name, files, as_what)
    _note(summary, dataset.problems, strict)
    homeless = sorted(one for one, kind in controls.items() if not kind)
    if homeless:
        text = (
            f"No control of Label Studio holds the answers of {', '.join(map(repr, homeless[:10]))}"
            "; they are kept in the regions' meta."
        )
        _note(summary, [Problem("attribute-in-meta", text)], strict=False)
    label = f"import {name}" if show_progress else ""
    with atomic_writer(files.tasks) as file:
        file.write(b"[")
        between = b"\n"
        for line in _lines(dataset, shape, summary, strict, workers, cluster, label):
            file.write(between + line)
            between = b",\n"
        file.write(b"\n]\n")
        if not summary.images:
            first = summary.first_problems[0].message if summary.first_problems else ""
            raise SegstudioError(
                f"No image of {folder} could be imported. "
                + (f"The first reason: {first}" if first else f"It holds none in {name}.")
            )
        # The tasks take their place last: who sees them finds the others beside them.
        write_text(files.label_config, xml)
        write_text(files.taxonomy, dump_taxonomy(dataset.taxonomy))
    return summary


def _lines(
    dataset: Dataset,
    shape: TaskShape,
    summary: ImportSummary,
    strict: bool,
    workers: int | None,
    cluster: str | None,
    label: str,
) -> Iterator[bytes]:
    """Yield each image's task as JSON, in the order of the data set."""
    # What a worker needs, without the stream of items, which stays here.
    work = partial(_read_item, replace(dataset, items=()), shape)
    results = map_tasks(
        work, dataset.items, workers=workers, label=label, cluster=cluster, total=dataset.total
    )
    for result in results:
        if result.value is None:
            summary.left_out += 1
            if result.error is not None:
                _note(summary, [replace(result.error, kind="image-left-out")], strict)
            continue
        line, labels, problems = result.value
        _note(summary, problems, strict)
        summary.images += 1
        summary.segments += sum(labels.values())
        summary.classes.update(labels)
        yield line


def _read_item(
    dataset: Dataset, shape: TaskShape, item: Item
) -> tuple[bytes, Counter[str], tuple[Problem, ...]]:
    """Read one image in a worker: its task as JSON, its labels, what was wrong."""
    try:
        item.name.encode()
    except UnicodeEncodeError as error:
        raise DamagedImageError(
            f"The file name {item.name!r} is not UTF-8; rename the file."
        ) from error
    image: ImportedImage = dataset.read(item)
    task = task_of(item, image, shape)
    labels = Counter(segment.label for segment in image.segments)
    return compact_json(task).encode("utf-8"), labels, image.problems


def _note(summary: ImportSummary, problems: Any, strict: bool) -> None:
    for problem in problems:
        summary.problem_counts[problem.kind] += 1
        if len(summary.first_problems) < _MAX_KEPT:
            summary.first_problems.append(problem)
        if strict:
            raise SegstudioError(
                f"{problem.message} (--strict stops at the first such problem; mend the data set, "
                "or leave --strict out to count it and go on.)"
            )


def _check_paths(folder: Path, files: ImportFiles) -> None:
    """Refuse what cannot be read or must not be overwritten."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the folder of the data set.")
    if files.tasks.suffix != ".json" or files.tasks.name == ".json":
        raise UsageError(f"--out is the file of the tasks and ends in .json, not {files.tasks}.")
    if files.tasks.is_dir():
        raise UsageError(f"{files.tasks} is a folder; --out is the file of the tasks.")
    if files.tasks.exists() and not _is_import(files.tasks):
        raise UsageError(
            f"{files.tasks} exists and was not written by an import; it may hold annotations. "
            "Choose another name for --out."
        )


def _is_import(path: Path) -> bool:
    """Say whether the first task of a file is one that an import wrote."""
    with path.open("rb") as file:
        if file.readline(3) != b"[\n":
            return False
        head = file.readline(1 << 16).decode("utf-8", "replace")
    found = head.partition('"meta":{"segstudio":{"import":')[1]
    return bool(found)
