"""Makes a delivery: one reading, checks, gates, exports, a report, a manifest, one rename.

All of it is made in a hidden folder beside the place. A killed run leaves what was there before;
the same command goes on with the images that are finished.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batch import delivery
from batch.delivery import MANIFEST, SIGNATURE, DeliveryRefusedError, TaskLedger
from batch.delivery_files import DeliveryFiles, verify
from batch.frozen_source import FrozenSource
from batch.publish import publish
from segstudio.errors import SourceError, UsageError
from segstudio.source import Source, describe_selection
from segstudio.taxonomy import Taxonomy, dump_taxonomy

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from qa_plugins.runner import QaRun

ALWAYS_CHECKED: Final = ("agreement", "validation")
_PACKAGES: Final = (
    "numpy", "scipy", "numba", "pillow", "zlib-ng", "opencv-python-headless", "pycocotools",
)  # fmt: skip
_ZIP: Final = ".zip"


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """What is to be delivered, and how.

    Attributes:
        formats: export formats, each once.
        gates: a file or the name of a preset; None only with an override.
        override: why it is delivered although something speaks against it.
        annotations: the policy, see `segstudio.selection`.
        guideline: a file that goes into the delivery.
        key: signs the manifest.
        checks: beside agreement and validation, e.g. gold.
        check_options: of the checks.
        options: of each format, by its name.
        overlap: the overlap policy.
        images: "copy", "reference" or "none".
        roots: folders of this machine with the images of a file source.
        pictures: how many of the worst tasks the report shows.
        history: where snapshots of annotations are kept.
        replace: an earlier delivery in the same place may be replaced.
    """

    formats: tuple[str, ...]
    gates: str | None = None
    override: str | None = None
    annotations: str | None = None
    guideline: Path | None = None
    key: Ed25519PrivateKey | None = None
    checks: tuple[str, ...] = ()
    check_options: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    overlap: str = "draw-order"
    images: str = "reference"
    roots: tuple[Path, ...] = ()
    pictures: int = 6
    history: Path | None = None
    replace: bool = False


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
    earlier = _check_place(place)
    _check_settings(settings)
    work = place.with_name(f".{place.name}.segstudio-deliver")
    work.mkdir(parents=True, exist_ok=True)
    with lock_file(work / "lock", place):
        ledger = TaskLedger(parse_policy(settings.annotations))
        label = "reading" if show_progress else ""
        try:
            with FrozenSource(source, ledger.add, label=label) as frozen:
                making = _Making(frozen, taxonomy, settings, ledger, work, show_progress)
                head, finished = making.all(workers, cluster)
                unchanged = earlier and _is_same(finished, place)
                if not unchanged:
                    _put(finished, place, may_replace=settings.replace)
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

        origin = "" if self._source.client is None else str(self._source.client.url)
        record_snapshot(history, self._source, self._source.tasks(), origin=origin)

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
                "sha256": _sha256(self._folder / delivery.GATES),
            }
        guideline = None
        if settings.guideline is not None:
            file = f"{delivery.GUIDELINE_FOLDER}/{settings.guideline.name}"
            write_bytes(self._folder / file, settings.guideline.read_bytes())
            guideline = {"file": file, "sha256": _sha256(self._folder / file)}
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
                "sha256": _sha256(self._folder / delivery.TAXONOMY),
            },
            "label_config": {
                "file": delivery.INTERFACE,
                "sha256": _sha256(self._folder / delivery.INTERFACE),
            },
            "guideline": guideline,
            **delivery.gates_record(gates, run.result, self._checks()),
            "check_options": _named_files(settings.check_options),
            "formats": {name: delivery.format_record(one) for name, one in datasets.items()},
            "format_options": {
                "overlap": settings.overlap,
                "images": settings.images,
                **{name: _named_files(one) for name, one in settings.options.items() if one},
            },
            "classes": delivery.class_records(first),
            "versions": _versions(),
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


def gates_path(spec: str) -> Path:
    """Return the file that `--gates` means: a preset's, or the one of that path."""
    from qa_plugins.gates import PRESETS_DIR, preset_names

    return PRESETS_DIR / f"{spec}.yaml" if spec in preset_names() else Path(spec)


def _check_place(place: Path) -> bool:
    """Tell whether an earlier delivery is there.

    Raises:
        UsageError: something else is.
    """
    if not place.exists():
        return False
    if place.is_dir() and place.name.lower().endswith(_ZIP):
        raise UsageError(f"{place} is a folder; name a zip file that can be written.")
    if place.is_dir() and not any(place.iterdir()):
        return False
    try:
        with DeliveryFiles(place) as files:
            files.manifest()
    except (SourceError, UsageError) as error:
        raise UsageError(
            f"{place} is there and is no delivery ({error}) Choose another place."
        ) from error
    return True


def _check_settings(settings: DeliverySettings) -> None:
    from qa_plugins.gates import load_gates
    from segstudio.plugins import find_check, find_exporter
    from segstudio.selection import parse_policy

    if settings.override is not None and not settings.override.strip():
        raise UsageError("--override needs a reason, which the manifest records.")
    if settings.gates is None and settings.override is None:
        raise UsageError(
            "Name what the batch must reach, for example --gates miou-0.84. Without gates nothing "
            'is delivered, unless --override "reason" says why.'
        )
    if not settings.formats:
        raise UsageError("Name at least one format, for example: --format coco-panoptic.")
    for name in settings.formats:
        find_exporter(name)
    for name in settings.checks:
        find_check(name)
    load_gates(settings.gates)
    parse_policy(settings.annotations)
    if settings.guideline is not None and settings.guideline.name in ("", ".", ".."):
        raise UsageError(f"The guideline {settings.guideline} is no file.")


def _is_same(finished: Path, place: Path) -> bool:
    """Tell whether the place holds this very delivery, whole."""
    with DeliveryFiles(finished) as new, DeliveryFiles(place) as old:
        same = all(_content(new, name) == _content(old, name) for name in (MANIFEST, SIGNATURE))
        return same and not verify(old).problems


def _content(files: DeliveryFiles, name: str) -> bytes | None:
    return files.read(name) if name in files.names() else None


def _put(finished: Path, place: Path, *, may_replace: bool) -> None:
    if place.exists() and not may_replace and (place.is_file() or any(place.iterdir())):
        raise UsageError(
            f"{place} holds another delivery. Deliver to a new name (`segstudio deliver diff` says "
            "what changed between the two), or give --replace."
        )
    publish(finished, place)


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
        yield {"path": name, "bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _named_files(options: Mapping[str, str]) -> dict[str, Any]:
    """Return options for a manifest: of a file its name and hash, never its folder."""
    named: dict[str, Any] = {}
    for key, value in sorted(options.items()):
        path = Path(value)
        with_content = _is_file(path)
        named[key] = {"file": path.name, "sha256": _sha256(path)} if with_content else value
    return named


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text that no path can be
        return False


def _versions() -> dict[str, str]:
    from segstudio.cli import installed_version

    found = {"segstudio": installed_version(), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # pragma: no cover - all of them are required
            continue
    return found
