"""`segstudio dicom import` from beginning to end: find, index, look, convert, report."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from segstudio.compute import map_tasks
from segstudio.dicom_burned_in import Box, BurnedIn, assess, detect_text, outside_regions
from segstudio.dicom_convert import Converted, ConvertSettings, convert_file
from segstudio.dicom_files import (
    DicomFileError,
    FoundFile,
    find_files,
    quiet_pydicom,
    read_header,
)
from segstudio.dicom_output import (
    LABEL_CONFIG,
    REPORT,
    REPORT_PAGE,
    TASKS,
    TAXONOMY,
    OutputFolder,
    write_private,
    write_tasks,
)
from segstudio.dicom_pixels import (
    Window,
    auto_window,
    chosen_window,
    iter_frames,
    sample_indices,
    to_8bit,
)
from segstudio.dicom_report import FileRow, RemovedRow, Report, SeriesRow, write_report
from segstudio.dicom_series import IndexedFile, PlannedFile, Series, index_file, plan_series
from segstudio.dicom_uids import new_secret, read_secret
from segstudio.errors import SegstudioError, UsageError
from segstudio.progress import ProgressLine

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

BurnedInPolicy = Literal["warn", "mask", "drop"]
_LOOKED_AT: Final = 3  # frames of a series in which text is looked for


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What an import was asked for; see the command's options."""

    paths: tuple[Path, ...]
    out: Path
    windows: tuple[Window, ...] = ()
    label_config: str = ""
    taxonomy: str = ""
    uid_key_file: Path | None = None
    key: Path | None = None
    burned_in: BurnedInPolicy = "warn"
    mask_regions: tuple[Box, ...] = ()
    with_dicom: bool = True
    image_root_url: str = ""
    workers: int | None = None
    show_progress: bool = True


@dataclass(slots=True)
class ImportSummary:
    """What an import did, for the last lines of the command; nothing of any patient."""

    out: Path
    files: int = 0
    imported: int = 0
    images: int = 0
    tasks: int = 0
    resumed: int = 0
    series: tuple[SeriesRow, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    key: Path | None = None


def run_import(options: ImportOptions) -> ImportSummary:
    """Import DICOM files as pictures and tasks without patient data.

    Raises:
        UsageError: a path that does not exist, a place that must not be written to.
        SegstudioError: not one image could be imported; the sentence has the first reason.
    """
    _check_places(options)
    fixed = read_secret(options.uid_key_file) if options.uid_key_file else None
    found = list(find_files(options.paths))
    if not found:
        raise SegstudioError("There is no file in what was given; give folders or zip archives.")
    output = OutputFolder(options.out)
    with output.opened(_digest(options, found, fixed), fixed or new_secret()) as secret:
        rows: dict[int, FileRow] = {}
        series = plan_series(_index(found, rows, options))
        looked, plan = [], []
        with ProgressLine(_label(options, "looking at the series"), len(series)) as progress:
            for one in series:
                burned_in, files = _look(one, options)
                looked.append((one, burned_in))
                plan.append(one.with_files(files))
                progress.advance()
        settings = ConvertSettings(
            output.folder, secret, options.windows, options.image_root_url, options.with_dicom,
            options.key is not None,
        )  # fmt: skip
        summary = ImportSummary(options.out, files=len(found), key=options.key)
        _convert_all(options, settings, output, looked, plan, rows, summary)
        summary.series = _series_rows(looked, plan, rows, options)
        if not summary.imported:
            first = next((row.reason for row in rows.values() if row.reason), "")
            raise SegstudioError(
                f"None of the {len(found)} files could be imported. The first reason: {first} "
                "'segstudio dicom files' lists them by number."
            )
        summary.left_out = Counter(row.reason for row in rows.values() if row.reason)
        _finish(options, output, rows, summary)
    return summary


def _label(options: ImportOptions, text: str) -> str:
    return text if options.show_progress else ""


def _index(
    found: Sequence[FoundFile], rows: dict[int, FileRow], options: ImportOptions
) -> Iterator[IndexedFile]:
    """Read all headers; files that are no image, or one seen before, become rows with a reason."""
    seen: dict[str, IndexedFile] = {}
    with ProgressLine(_label(options, "reading headers"), len(found)) as progress:
        for file in found:
            try:
                with file.local() as path, quiet_pydicom():
                    indexed = index_file(file, read_header(path))
            except DicomFileError as error:
                rows[file.number] = FileRow(file.name, reason=str(error))
                progress.advance(failed=True)
                continue
            except Exception as error:  # a foreign file may fail anywhere in the library
                reason = f"Its header cannot be read ({type(error).__name__}): it is damaged."
                rows[file.number] = FileRow(file.name, reason=reason)
                progress.advance(failed=True)
                continue
            progress.advance()
            first = seen.setdefault(indexed.uid, indexed) if indexed.uid else indexed
            if first is not indexed:
                rows[file.number] = FileRow(file.name, reason=_doubled_reason(first, indexed))
                continue
            yield indexed


def _doubled_reason(first: IndexedFile, other: IndexedFile) -> str:
    """Say why a file is left out that has another's SOP instance UID."""
    if replace(other, file=first.file, series_key=first.series_key) == first:
        return f"It is the same DICOM instance as {first.file.name}, which stands for both."
    return (
        f"It has the SOP instance UID of {first.file.name} and is another image (its place, number"
        " or frames differ). Give each file a UID of its own, or import them apart."
    )


def _look(series: Series, options: ImportOptions) -> tuple[BurnedIn, tuple[PlannedFile, ...]]:
    """Decode some frames of a series: for a window where the files state none, and for text."""
    needs_window = any(file.indexed.needs_window for file in series.files)
    places = [(file, frame) for file in series.files for frame in range(file.indexed.frames)]
    wanted = sample_indices(len(places))
    if not needs_window:
        wanted = sorted({0, len(places) // 2, len(places) - 1})
    samples: list[tuple[Any, Dataset, int]] = []
    for at in wanted:
        file, frame = places[at]
        try:
            with quiet_pydicom(), file.indexed.file.local() as path:
                header = read_header(path)
                frames = iter_frames(path, header, [frame])
                samples += [(stored, header, frame) for stored in frames]
        except Exception:  # noqa: S112 - conversion says what is wrong with it
            continue
    with quiet_pydicom():
        window = auto_window(samples) if needs_window else None
        boxes: dict[Box, None] = {}
        for stored, header, frame in samples[:: max(1, len(samples) // _LOOKED_AT)]:
            try:
                shown = to_8bit(stored, header, frame, chosen_window(header, frame, None, window))
            except Exception:  # noqa: S112 - as above
                continue
            boxes.update(dict.fromkeys(detect_text(shown)))
        burned_in = assess(samples[0][1], tuple(boxes)) if samples else BurnedIn("unlikely", ())
        masks = list(options.mask_regions)
        if options.burned_in == "mask" and burned_in.is_likely:
            masks += [*burned_in.boxes, *outside_regions(samples[0][1])]
    return burned_in, tuple(
        replace(file, window=window, boxes=tuple(masks)) for file in series.files
    )


def _convert_all(
    options: ImportOptions, settings: ConvertSettings, output: OutputFolder,
    looked: Sequence[tuple[Series, BurnedIn]], plan: Sequence[Series],
    rows: dict[int, FileRow], summary: ImportSummary,
) -> None:  # fmt: skip
    """Convert what is not done yet, keep a journal of it, and make a row of every file."""
    for entry in output.entries():
        _count(entry, rows, summary)
        summary.resumed += 1
    work: list[PlannedFile] = []
    for (_, burned_in), one in zip(looked, plan, strict=True):
        dropped = options.burned_in == "drop" and burned_in.is_likely
        for file in one.files:
            number = file.indexed.file.number
            if dropped:
                reason = "Its series may have text in its pixels, and such were to be dropped."
                rows[number] = FileRow(file.indexed.file.name, reason=reason)
            elif number not in rows:
                work.append(file)
    convert = partial(convert_file, settings)
    label = _label(options, "writing images")
    results = map_tasks(convert, work, workers=options.workers, label=label, total=len(work))
    for file, result in zip(work, results, strict=True):
        if result.value is None:
            raise SegstudioError(
                "Writing stopped"
                + (f": {result.error.message}" if result.error is not None else ".")
                + " Start the same command again to go on from here."
            )
        entry = _entry(file, result.value)
        if result.value.key is not None:
            _append_key(options, result.value.key)
        output.note(entry)
        _count(entry, rows, summary)


def _entry(file: PlannedFile, converted: Converted) -> dict[str, Any]:
    return {
        "number": converted.number,
        "name": file.indexed.file.name,
        "reason": converted.reason,
        "series": file.series,
        "tasks": list(converted.tasks),
        "removed": [asdict(one) for one in converted.removed],
        "notes": list(converted.notes),
    }


@lru_cache(maxsize=1024)
def _shared(removed: tuple[RemovedRow, ...]) -> tuple[RemovedRow, ...]:
    """Return an equal list seen before: the files of a series lose the same, one copy will do."""
    return removed


def _slices_of(entry: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(task["data"]["frame"]) for task in entry["tasks"])


def _count(entry: Mapping[str, Any], rows: dict[int, FileRow], summary: ImportSummary) -> None:
    removed = _shared(
        tuple((one["tag"], one["keyword"], one["action"]) for one in entry["removed"])
    )
    tasks = entry["tasks"]
    rows[int(entry["number"])] = FileRow(
        name=str(entry["name"]),
        reason=str(entry["reason"]),
        series="" if entry["reason"] else str(entry["series"]),
        slices=_slices_of(entry),
        removed=removed,
        notes=tuple(entry["notes"]),
    )
    if not entry["reason"]:
        summary.imported += 1
        summary.tasks += len(tasks)
        summary.images += sum(
            key == "image" or key.startswith("image_") for task in tasks for key in task["data"]
        )


def _series_rows(
    looked: Sequence[tuple[Series, BurnedIn]], plan: Sequence[Series], rows: Mapping[int, FileRow],
    options: ImportOptions,
) -> tuple[SeriesRow, ...]:  # fmt: skip
    made = []
    for (series, burned_in), planned in zip(looked, plan, strict=True):
        files = [rows[file.indexed.file.number] for file in series.files]
        kept = [row for row in files if not row.reason]
        boxes = planned.files[0].boxes if planned.files else ()
        made.append(
            SeriesRow(
                name=series.name,
                modality=series.modality,
                files=len(files),
                slices=sum(len(row.slices) for row in kept),
                ordered_by=series.ordered_by,
                text_verdict=burned_in.verdict,
                text_reasons=burned_in.reasons,
                text_boxes=burned_in.boxes,
                masked_boxes=boxes,
                left_out=len(files) - len(kept),
                notes=tuple(sorted({note for row in kept for note in row.notes})),
            )
        )
    return tuple(made)


def _finish(
    options: ImportOptions, output: OutputFolder, rows: Mapping[int, FileRow],
    summary: ImportSummary,
) -> None:  # fmt: skip
    from segstudio.dicom_label_config import windowed_label_config

    folder = output.folder
    # In the order of the series, whatever the order in which a resumed run finished them.
    places = {
        int(entry["number"]): (str(entry["series"]), min(_slices_of(entry), default=0))
        for entry in output.entries()
    }
    order = sorted(places, key=lambda number: (places[number], number))
    write_tasks(folder / TASKS, _tasks_in_order(output, order))
    xml = windowed_label_config(options.label_config, [window.name for window in options.windows])
    (folder / LABEL_CONFIG).write_text(xml, encoding="utf-8")
    (folder / TAXONOMY).write_text(options.taxonomy, encoding="utf-8")
    report = Report(
        files=tuple(rows[number] for number in sorted(rows)),
        series=summary.series,
        windows=tuple((window.name, window.center, window.width) for window in options.windows),
        burned_in=options.burned_in,
        has_fixed_uids=options.uid_key_file is not None,
        has_key=options.key is not None,
        has_dicom=options.with_dicom,
        images=summary.images,
        tasks=summary.tasks,
    )
    write_report(folder / REPORT, folder / REPORT_PAGE, report)
    output.finish()
    if options.key is not None:
        _finish_key(options.key)


def _tasks_in_order(
    output: OutputFolder, order: Sequence[int]
) -> Iterator[Iterable[Mapping[str, Any]]]:
    """Yield each file's tasks; entries that come out of order wait for their turn."""
    waiting: dict[int, list[Mapping[str, Any]]] = {}
    at = 0
    for entry in output.entries():
        waiting[int(entry["number"])] = entry["tasks"]
        while at < len(order) and order[at] in waiting:
            yield waiting.pop(order[at])
            at += 1


def _digest(options: ImportOptions, found: Sequence[FoundFile], secret: bytes | None) -> str:
    """Return what two runs have in common if the second may go on where the first stopped."""
    state = asdict(options)
    for key in ("workers", "show_progress", "label_config", "taxonomy"):
        del state[key]
    digest = hashlib.sha256(json.dumps(state, default=str, sort_keys=True).encode())
    digest.update(hashlib.sha256(secret or b"").digest())
    for file in found:
        stat = file.path.stat() if file.path.exists() else None
        facts = (file.original, stat.st_size, stat.st_mtime_ns) if stat else (file.original,)
        digest.update(repr(facts).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _check_places(options: ImportOptions) -> None:
    out = options.out.resolve()
    for flag, path in (("--key", options.key), ("--uid-key-file", options.uid_key_file)):
        if path is not None and path.resolve().is_relative_to(out):
            raise UsageError(
                f"{flag} {path} lies in {options.out}, which is meant to be given away; keep it "
                "elsewhere."
            )
    for given in options.paths:
        if given.is_dir() and out.is_relative_to(given.resolve()):
            raise UsageError(
                f"--out {options.out} lies in {given}, where the originals are; choose another."
            )
    if len({window.name for window in options.windows}) < len(options.windows):
        raise UsageError("A --window was given twice; give each once.")


def _key_part(key: Path) -> Path:
    return key.with_name(f".{key.name}.segstudio-part")


def _append_key(options: ImportOptions, line: Mapping[str, object]) -> None:
    assert options.key is not None  # noqa: S101 - for mypy
    part = _key_part(options.key)
    if not part.exists():
        write_private(part, b"")
    with part.open("ab") as file:
        file.write((json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "replace"))


def _finish_key(key: Path) -> None:
    """Put the key file in its place; of lines that a killed run wrote twice the last counts."""
    part = _key_part(key)
    lines: dict[str, bytes] = {}
    with part.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                lines[json.loads(line)["file"]] = line
    write_private(key, b"".join(lines[name] for name in sorted(lines)))
    part.unlink()
