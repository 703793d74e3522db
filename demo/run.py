"""The demo from beginning to end: everything it starts stops when the context is left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.annotators import (
    ANNOTATOR_EMAILS,
    DEVIATIONS,
    ExpectedOverlap,
    Objects,
    expected_overlaps,
)
from demo.environments import say
from demo.label_studio_server import (
    ADMIN_EMAIL,
    Account,
    LabelStudioServer,
    ensure_label_studio,
)
from demo.ml_backend_server import MlBackendServer
from demo.photos import PHOTOS, load_photo, save_photos
from demo.processes import FolderLock
from demo.project import (
    ANNOTATORS_PER_TASK,
    SimulatedAnnotation,
    ensure_annotations,
    ensure_ml_backend,
    ensure_project,
    ensure_tasks,
    user_ids,
)
from demo.references import REFERENCES
from segstudio.client import Client, connect
from segstudio.errors import MissingExtraError

EXPORT_FORMATS = ("coco-panoptic", "semantic-png")
CHECKS = ("agreement", "boundary", "validation")
DOMAIN = "demo"

Report = Callable[[str], None]
Drawn = Mapping[str, tuple[Objects, ...]]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Where the demo works and how."""

    out_dir: Path
    label_studio_venv: Path
    port: int | None = None


@dataclass(frozen=True, slots=True)
class DemoState:
    """The running demo, and all that a person needs to look at it."""

    options: DemoOptions
    label_studio: LabelStudioServer
    ml_backend: MlBackendServer
    project_id: int
    tab_id: int | None
    tasks: Mapping[str, int]
    admin: Account
    annotators: tuple[Account, ...]
    annotator_ids: tuple[int, ...]
    overlaps: tuple[ExpectedOverlap, ...]
    qa_result: Mapping[str, Any]
    qa_files: tuple[Path, ...]
    exports: Mapping[str, Path]

    def require_running(self) -> None:
        """Raises a ProcessError when one of the servers has ended by itself."""
        self.label_studio.require_running()
        self.ml_backend.require_running()


@contextmanager
def running_demo(options: DemoOptions, report: Report = say) -> Iterator[DemoState]:
    """Sets everything up, measures, exports, and keeps the servers up while inside.

    Raises:
        SegstudioError: A sentence that says what failed; what was started has been stopped.
    """
    out_dir = options.out_dir.absolute()
    with (
        FolderLock(out_dir, purpose="The demo"),
        ThreadPoolExecutor(max_workers=1) as beside,
    ):
        photos = _save_photos(out_dir / "photos")
        executable = ensure_label_studio(options.label_studio_venv, report=report)
        # The references take seconds of computing, the server's start mostly waiting.
        drawing = beside.submit(draw_simulated)
        report("Starting Label Studio ...")
        with (
            LabelStudioServer(
                executable, out_dir / "label-studio", port=options.port, report=report
            ) as server,
            MlBackendServer(
                out_dir / "ml-backend",
                label_studio_url=server.url,
                api_key=server.api_key,
                report=report,
            ) as backend,
        ):
            with connect(server.url, server.api_key) as client:
                yield _set_up(options, server, backend, client, photos, drawing, report)
            report("Stopping the ML backend and Label Studio ...")


def draw_simulated() -> Drawn:
    """What annotators 1, 2 and 3 draw on each photo that has a reference."""
    photos = {photo.name: photo for photo in PHOTOS}
    drawn = {}
    for name, reference in REFERENCES.items():
        objects = reference.segment(load_photo(photos[name]))
        drawn[name] = tuple(deviation.apply(objects) for deviation in DEVIATIONS[name])
    return drawn


def _save_photos(folder: Path) -> Mapping[str, Path]:
    try:
        return save_photos(folder)
    except ImportError as error:
        raise MissingExtraError("The demo", "scikit-image", "demo") from error


def _set_up(
    options: DemoOptions,
    server: LabelStudioServer,
    backend: MlBackendServer,
    client: Client,
    photos: Mapping[str, Path],
    drawing: Future[Drawn],
    report: Report,
) -> DemoState:
    from label_configs import load_label_config

    report("Setting up the accounts, the project and the photos ...")
    annotators = tuple(server.ensure_users(ANNOTATOR_EMAILS))
    by_email = user_ids(client, ANNOTATOR_EMAILS)
    annotator_ids = tuple(by_email[email] for email in ANNOTATOR_EMAILS)
    project_id = ensure_project(client, load_label_config(DOMAIN), REFERENCES)
    tasks = ensure_tasks(client, project_id, photos)
    drawn = drawing.result()
    stored = ensure_annotations(client, tasks, _simulated(drawn, annotator_ids))
    if stored:
        report(f"Stored {stored} simulated annotations on {len(drawn)} photos.")
    backend.wait_until_up()
    ensure_ml_backend(client, project_id, backend.url, title=f"segstudio ({backend.model})")
    out_dir = options.out_dir.absolute()
    report("Measuring the agreement and writing it back ...")
    qa_result, qa_files = _check(client, project_id, out_dir / "qa")
    report("Exporting ...")
    exports = _export(client, project_id, annotator_ids[0], qa_result, out_dir / "export")
    return DemoState(
        options=options,
        label_studio=server,
        ml_backend=backend,
        project_id=project_id,
        tab_id=_tab_id(client, project_id),
        tasks=tasks,
        admin=server.account(ADMIN_EMAIL),
        annotators=annotators,
        annotator_ids=annotator_ids,
        overlaps=tuple(expected_overlaps(drawn)),
        qa_result=qa_result,
        qa_files=qa_files,
        exports=exports,
    )


def _simulated(drawn: Drawn, annotator_ids: tuple[int, ...]) -> list[SimulatedAnnotation]:
    return [
        SimulatedAnnotation(photo, annotator_id, objects, deviation.words)
        for photo, by_annotator in drawn.items()
        for annotator_id, objects, deviation in zip(
            annotator_ids, by_annotator, DEVIATIONS[photo], strict=True
        )
    ]


def _completed(client: Client, project_id: int) -> Any:
    """The tasks that all three annotators have finished, pulled through the SDK."""
    from segstudio.source import TaskFilter, open_source

    filters = TaskFilter(min_annotations=ANNOTATORS_PER_TASK)
    return open_source(f"project:{project_id}", client=client, filters=filters)


def _check(
    client: Client, project_id: int, out_dir: Path
) -> tuple[Mapping[str, Any], tuple[Path, ...]]:
    from label_configs import taxonomy_path
    from qa_plugins.gates import load_gates
    from qa_plugins.project_write_back import write_to_project
    from qa_plugins.report_files import ReportOptions, write_report
    from qa_plugins.runner import run_checks
    from segstudio.taxonomy import load_taxonomy

    taxonomy = load_taxonomy(taxonomy_path(DOMAIN))
    gates = load_gates(str(Path(__file__).with_name("gates.yaml")))
    source = _completed(client, project_id)
    run = run_checks(list(CHECKS), source, taxonomy, gates=gates, workers=1)
    files = write_report(run, ReportOptions(out_dir, True, (), 6), client)
    write_to_project(run, client, project_id)
    return run.result, tuple(files)


def _export(
    client: Client,
    project_id: int,
    annotator_id: int,
    qa_result: Mapping[str, Any],
    out_dir: Path,
) -> Mapping[str, Path]:
    from exporters.runner import run_export
    from label_configs import taxonomy_path
    from segstudio.media import image_bytes, load_image
    from segstudio.taxonomy import load_taxonomy

    def picture_of(task_id: int, reference: str) -> Any:
        return load_image(image_bytes(reference, client, (), task_id=task_id))

    taxonomy = load_taxonomy(taxonomy_path(DOMAIN))
    folders = {name: out_dir / name for name in EXPORT_FORMATS}
    for name, folder in folders.items():
        run_export(
            name,
            _completed(client, project_id),
            folder,
            taxonomy=taxonomy,
            annotations=f"user:{annotator_id}",
            workers=1,
            picture_of=picture_of,
            qa=qa_result,
            show_progress=False,
        )
    return folders


def _tab_id(client: Client, project_id: int) -> int | None:
    from qa_plugins.write_back import TAB_TITLE

    views = client.get_json("/api/dm/views/", what="the tabs", project=project_id)
    return next((int(view["id"]) for view in views if view["data"]["title"] == TAB_TITLE), None)


def default_label_studio_venv() -> Path:
    """`SEGSTUDIO_LABEL_STUDIO_VENV`, else `.venv-label-studio` where the command runs."""
    return Path(os.environ.get("SEGSTUDIO_LABEL_STUDIO_VENV") or ".venv-label-studio")
