"""Makes a delivery: one reading, checks, gates, exports, a report, a manifest, one rename.

All of it is made in a hidden folder beside the place. A killed run leaves what was there before;
the same command goes on with the images that are finished.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batch import delivery
from batch.delivery import MANIFEST, SIGNATURE, DeliveryRefusedError, TaskLedger
from batch.delivery_settings import (
    DeliverySettings,
    check_settings,
    gates_path,
    named_files,
    sha256_of,
    versions,
)
from batch.frozen_source import FrozenSource
from batch.publish import holds_delivery, is_same, put
from segstudio.errors import UsageError
from segstudio.source import Source, describe_selection
from segstudio.taxonomy import Taxonomy, dump_taxonomy

if TYPE_CHECKING:
    from qa_plugins.runner import QaRun

ALWAYS_CHECKED: Final = ("agreement", "validation")
_ZIP: Final = ".zip"


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was delivered: the manifest without its lists of files and tasks.

    `unchanged` says that the same delivery, byte for byte, was there already.
    """

    place: Path
    head: Mapping[str, Any]
    files: int
    unchanged: bool


def deliver(
    source: Source,
    taxonomy: Taxonomy,
    place: Path,
    settings: DeliverySettings,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    show_progress: bool = True,
) -> Delivered:
    """Deliver a batch into a folder or a zip file.

    Args:
        source: where the tasks come from; read once.
        taxonomy: the classes.
        place: a folder, or a name that ends in .zip.
        settings: see there.
        workers: processes; the bytes do not depend on it.
        cluster: address of a Ray cluster that sees the folder of `place`.
        show_progress: on stderr.

    Raises:
        UsageError: unknown gates, format or policy, or a place that something else lives in.
        DeliveryRefusedError: a gate did not pass, or the annotations have errors, and there is no
            override; nothing is left behind.
    """
    from exporters.files import lock_file
    from segstudio.selection import parse_policy

    place = place.resolve()
    earlier = holds_delivery(place)
    check_settings(settings)
    work = place.with_name(f".{place.name}.segstudio-deliver")
    work.mkdir(parents=True, exist_ok=True)
    with lock_file(work / "lock", place):
        ledger = TaskLedger(parse_policy(settings.annotations))
        label = "reading" if show_progress else ""
        try:
            with FrozenSource(source, ledger.add, label=label) as frozen:
                making = _Making(frozen, taxonomy, settings, ledger, work, show_progress)
                head, finished = making.all(workers, cluster)
                unchanged = earlier and is_same(finished, place)
                if not unchanged:
                    put(finished, place, may_replace=settings.replace)
        except (DeliveryRefusedError, UsageError):
            shutil.rmtree(work)
            raise
        shutil.rmtree(work)
    return Delivered(place, head, making.file_count, unchanged)


class _Making:
    """One delivery on its way: each step writes below `work`."""

    def __init__(
        self,
        source: FrozenSource,
        taxonomy: Taxonomy,
        settings: DeliverySettings,
        ledger: TaskLedger,
        work: Path,
        show_progress: bool,
    ) -> None:
        self._source = source
        self._taxonomy = taxonomy
        self._settings = settings
        self._ledger = ledger
        self._work = work
        self._folder = work / "delivery"
        self._show_progress = show_progress
        self.file_count = 0

    def all(self, workers: int | None, cluster: str | None) -> tuple[dict[str, Any], Path]:
        """Make everything; return the manifest's head and what is to be put in place."""
        settings = self._settings
        if settings.history is not None:
            self._record_snapshot(settings.history)
        self._start_empty()
        run = self._check(workers, cluster)
        reasons = delivery.reasons_to_refuse(run.result)
        delivery.override_record(settings.override, reasons)  # before hours of exporting
        self._report(run)
        datasets = {}
        for name in settings.formats:
            datasets[name] = self._export(name, run, workers, cluster)
            reasons += delivery.reasons_of_export(name, datasets[name])
        override = delivery.override_record(settings.override, reasons)
        self._count_classes()
        head = {**self._head(run, datasets), "override": override, "signature": self._signer()}
        self._write_texts(head)
        self._write_manifest(head)
        if not self._wants_zip():
            return head, self._folder
        from exporters.archive import write_zip

        packed = self._work / "delivery.zip"
        write_zip(self._folder, packed)
        return head, packed

    def _record_snapshot(self, history: Path) -> None:
        from segstudio.snapshots import record_snapshot

        client, filters = self._source.client, self._source.filters
        record_snapshot(
            history, self._source, self._source.tasks(),
            origin="" if client is None else str(client.url),
            tells_deleted=client is not None and not filters.selects_annotations,
        )  # fmt: skip

    def _start_empty(self) -> None:
        """Remove what a killed run left, but for exports that can be gone on with."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        exports = self._work / "exports"
        for path in exports.iterdir() if exports.is_dir() else ():
            if path.name not in self._settings.formats:
                shutil.rmtree(path)

    def _check(self, workers: int | None, cluster: str | None) -> QaRun:
        from qa_plugins.gates import load_gates
        from qa_plugins.runner import run_checks

        return run_checks(
            self._checks(), self._source, self._taxonomy,
            gates=load_gates(self._settings.gates),
            options={"seed": "0", **self._settings.check_options},
            workers=workers, cluster=cluster, pictures=self._settings.pictures,
            out_dir=self._folder / delivery.REPORT_FOLDER,
            label="checking" if self._show_progress else "",
        )  # fmt: skip

    def _checks(self) -> list[str]:
        return list(dict.fromkeys([*ALWAYS_CHECKED, *self._settings.checks]))

    def _report(self, run: QaRun) -> None:
        from qa_plugins.report_files import ReportOptions, write_report

        options = ReportOptions(
            out_dir=self._folder / delivery.REPORT_FOLDER,
            names=False,
            images=self._settings.roots,
            pictures=self._settings.pictures,
            crops=0,
        )
        write_report(run, options, self._source.client)

    def _export(
        self, name: str, run: QaRun, workers: int | None, cluster: str | None
    ) -> Mapping[str, Any]:
        from exporters.files import export_files
        from exporters.runner import run_export

        settings, folder = self._settings, self._work / "exports" / name
        summary = run_export(
            name, self._source, folder, taxonomy=self._taxonomy,
            annotations=settings.annotations,
            options={**settings.options.get(name, {}), "overlap": settings.overlap},
            workers=workers, cluster=cluster, images=settings.images, roots=settings.roots,
            qa=run.result, show_progress=self._show_progress,
        )  # fmt: skip
        for file in export_files(folder):
            _link(folder / file, self._folder / delivery.DATA_FOLDER / name / file)
        return summary.dataset

    def _count_classes(self) -> None:
        """Take over each image's segments and pixels, which all formats count alike."""
        from exporters.files import WORK_FOLDER
        from exporters.journal import JournalRecords

        first = self._work / "exports" / self._settings.formats[0]
        for outcome in JournalRecords(first / WORK_FOLDER / "journal.jsonl", ""):
            task_id, counts = outcome["record"]["task_id"], outcome["counts"]
            self._ledger.add_classes(task_id, counts["classes"])

    def _head(self, run: QaRun, datasets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        from exporters.files import write_bytes, write_text

        settings, taxonomy = self._settings, self._taxonomy
        write_text(self._folder / delivery.TAXONOMY, dump_taxonomy(taxonomy))
        write_text(self._folder / delivery.INTERFACE, self._source.label_config.xml)
        gates = None
        if settings.gates is not None:
            path = gates_path(settings.gates)
            write_bytes(self._folder / delivery.GATES, path.read_bytes())
            gates = {
                "name": path.name,
                "file": delivery.GATES,
                "sha256": sha256_of(self._folder / delivery.GATES),
            }
        guideline = None
        if settings.guideline is not None:
            file = f"{delivery.GUIDELINE_FOLDER}/{settings.guideline.name}"
            write_bytes(self._folder / file, settings.guideline.read_bytes())
            guideline = {"file": file, "sha256": sha256_of(self._folder / file)}
        first = datasets[settings.formats[0]]
        return {
            "schema": delivery.SCHEMA,
            "selection": describe_selection(self._source).as_json(),
            "annotations_taken": first["annotations"],
            "last_annotation_at": first["last_annotation_at"],
            "snapshot_sha256": self._ledger.digest(),
            "taxonomy": {
                "name": taxonomy.name,
                "version": taxonomy.version,
                "file": delivery.TAXONOMY,
                "sha256": sha256_of(self._folder / delivery.TAXONOMY),
            },
            "label_config": {
                "file": delivery.INTERFACE,
                "sha256": sha256_of(self._folder / delivery.INTERFACE),
            },
            "guideline": guideline,
            **delivery.gates_record(gates, run.result, self._checks()),
            "check_options": named_files(settings.check_options),
            "formats": {name: delivery.format_record(one) for name, one in datasets.items()},
            "format_options": {
                "overlap": settings.overlap,
                "images": settings.images,
                **{name: named_files(one) for name, one in settings.options.items() if one},
            },
            "classes": delivery.class_records(first),
            "versions": versions(),
        }

    def _signer(self) -> dict[str, str] | None:
        if self._settings.key is None:
            return None
        from batch.signature import public_key_text

        key = public_key_text(self._settings.key)
        return {"algorithm": "Ed25519", "file": SIGNATURE, "public_key": key}

    def _write_texts(self, head: Mapping[str, Any]) -> None:
        from exporters.files import write_text

        write_text(self._folder / delivery.README, delivery.readme_text(head))

    def _write_manifest(self, head: dict[str, Any]) -> None:
        from exporters.files import export_files, write_bytes, write_json_lists

        names = export_files(self._folder)
        self.file_count = len(names)
        path = self._folder / MANIFEST
        write_json_lists(
            path, head, {"files": _entries(self._folder, names), "tasks": self._ledger.tasks}
        )
        if self._settings.key is not None:
            write_bytes(self._folder / SIGNATURE, self._settings.key.sign(path.read_bytes()))

    def _wants_zip(self) -> bool:
        return self._work.name.removesuffix(".segstudio-deliver").lower().endswith(_ZIP)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; where the file system has no links, a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _entries(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        path = folder / name
        yield {"path": name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
