"""The two plugin protocols, `Exporter` and `Check`, and how they are found.

A plugin is one class and one entry point; a team's own package adds its line in the groups
`segstudio.exporters` or `segstudio.checks` and needs nothing else. Names are read from package
metadata; a plugin is imported only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from segstudio.errors import SegstudioError, UsageError
from segstudio.photos import PhotoSource

if TYPE_CHECKING:
    from segstudio.images import AnnotatedImage
    from segstudio.label_config import LabelConfig
    from segstudio.tasks import Task
    from segstudio.taxonomy import Taxonomy

EXPORTERS_GROUP = "segstudio.exporters"
CHECKS_GROUP = "segstudio.checks"


@dataclass(frozen=True, slots=True)
class ExportContext:
    """What an exporter may know beside the image: picklable, the same in every worker."""

    out_dir: Path
    taxonomy: Taxonomy
    label_config: LabelConfig
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What a check may know beside the task: picklable, the same in every worker.

    `out_dir` is where a check may put files, in a folder of its own name; None where nothing is to
    be written. `photos.load(reference, task_id)` opens a task's photo where it can be had.
    """

    taxonomy: Taxonomy
    label_config: LabelConfig
    options: Mapping[str, str] = field(default_factory=dict)
    out_dir: Path | None = None
    photos: PhotoSource = field(default_factory=PhotoSource)


@runtime_checkable
class Exporter(Protocol):
    """Writes one data-set format.

    An exporter may also have ``prepare(options, taxonomy) -> options``: called once before anything
    is written, to check its options and to replace the names of files by their content.
    """

    name: str
    summary: str

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Write the files of one image under `context.out_dir`; return a JSON-able record.

        Runs in a worker process; must not depend on other images. The record's `files` are the
        files it wrote, relative to `context.out_dir`; its `losses` are counted on the card; its
        `image_file` says where the format wants the image itself, should it be copied or linked.
        """
        ...

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Write the files of the whole data set from the records, which come in task order.

        From the records alone: files of images that were finished earlier may lie elsewhere.
        """
        ...


@runtime_checkable
class Check(Protocol):
    """Measures one aspect of quality.

    A check may also have ``report(summary, names)``, see `segstudio.report_sections`.
    """

    name: str
    summary: str

    def measure(self, task: Task, context: CheckContext) -> Any:
        """Return the picklable sufficient statistics of one task. Runs in a worker process."""
        ...

    def summarize(self, measurements: Iterable[Any], context: CheckContext) -> dict[str, Any]:
        """Merge the measurements, which come in task order, into the JSON of this check."""
        ...


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin as its package's metadata names it, without importing it."""

    name: str
    target: str
    package: str


def list_exporters() -> list[PluginInfo]:
    """Return every export format installed here, by name."""
    return _list(EXPORTERS_GROUP)


def list_checks() -> list[PluginInfo]:
    """Return every check installed here, by name."""
    return _list(CHECKS_GROUP)


def find_exporter(name: str) -> Exporter:
    """Return a new exporter of the given name.

    Raises:
        UsageError: no package provides it; the message lists those that are there.
        SegstudioError: the package that provides it cannot be imported.
    """
    plugin = _load(EXPORTERS_GROUP, "export format", name)
    if not isinstance(plugin, Exporter):
        raise _not_a_plugin(name, plugin, "Exporter", "name, summary, write_image and finish")
    return plugin


def find_check(name: str) -> Check:
    """Return a new check of the given name.

    Raises:
        UsageError: no package provides it; the message lists those that are there.
        SegstudioError: the package that provides it cannot be imported.
    """
    plugin = _load(CHECKS_GROUP, "check", name)
    if not isinstance(plugin, Check):
        raise _not_a_plugin(name, plugin, "Check", "name, summary, measure and summarize")
    return plugin


def installed_entry_points(group: str) -> dict[str, EntryPoint]:
    """Return a group's entry points by name, sorted; of two with one name, ours wins."""
    return dict(_scanned(entry_points, group))


@cache
def _scanned(scan: Callable[..., Iterable[EntryPoint]], group: str) -> dict[str, EntryPoint]:
    """Look once a process: every installed package is asked."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(scan(group=group), key=lambda entry: (entry.name, entry.value)):
        if entry.name not in found or package_of(entry) == "segstudio":
            found[entry.name] = entry
    return found


def package_of(entry: EntryPoint) -> str:
    """Return the name of the distribution that declares an entry point."""
    return entry.dist.name if entry.dist is not None else "unknown"


def _list(group: str) -> list[PluginInfo]:
    entries = installed_entry_points(group).values()
    return [PluginInfo(entry.name, entry.value, package_of(entry)) for entry in entries]


def _load(group: str, what: str, name: str) -> Any:
    entries = installed_entry_points(group)
    if name not in entries:
        close = get_close_matches(name, entries, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        known = ", ".join(entries) or "none; install segstudio with pip so that they are found"
        raise UsageError(f"There is no {what} named '{name}'.{hint} Installed: {known}.")
    entry = entries[name]
    try:
        loaded = entry.load()
    except ImportError as error:
        raise SegstudioError(
            f"The {what} '{name}' of the package '{package_of(entry)}' cannot be imported: {error}."
            " Install what it needs, or remove that package."
        ) from error
    except AttributeError as error:
        raise SegstudioError(
            f"The {what} '{name}' of the package '{package_of(entry)}' points to '{entry.value}', "
            "which does not exist. Correct the entry point and install the package again."
        ) from error
    return loaded() if isinstance(loaded, type) else loaded


def _not_a_plugin(name: str, plugin: object, protocol: str, members: str) -> SegstudioError:
    return SegstudioError(
        f"The plugin '{name}' ({type(plugin).__module__}.{type(plugin).__qualname__}) is not a "
        f"segstudio {protocol}: it must have {members}."
    )
