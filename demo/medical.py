"""`segstudio demo --medical`: CT slices from DICOM, organ labels, SAM assist, on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

from demo.environments import say
from demo.label_studio_server import ADMIN_EMAIL, Account, LabelStudioServer, ensure_label_studio
from demo.ml_backend_server import MlBackendServer
from demo.phantom import SLICES, write_phantom
from demo.processes import FolderLock
from demo.project import ensure_ml_backend, ensure_titled_project, upload_image
from demo.run import DemoOptions, Report
from segstudio.client import Client, connect
from segstudio.errors import MissingExtraError

TITLE: Final = "segstudio demo: CT"
DOMAIN: Final = "medical"
REAL_SLICE: Final = "CT_small.dcm"
_DESCRIPTION: Final = (
    f"{SLICES} slices of a synthetic abdominal phantom (shapes, no patient) and one small real CT "
    f"slice ({REAL_SLICE} of pydicom's test files), imported from DICOM with 'segstudio dicom "
    "import'. For trying out, not for diagnosis. [made by segstudio demo --medical]"
)
FIRST_SLICE: Final = 11
"""The slice to begin with: the liver is at its largest."""


@dataclass(frozen=True, slots=True)
class MedicalState:
    """The running demo, and all that a person needs to look at it.

    `tasks` are the task ids by (series, slice).
    """

    options: DemoOptions
    label_studio: LabelStudioServer
    ml_backend: MlBackendServer
    project_id: int
    tasks: Mapping[tuple[str, int], int]
    admin: Account
    import_dir: Path

    def require_running(self) -> None:
        """Raises a ProcessError when one of the servers has ended by itself."""
        self.label_studio.require_running()
        self.ml_backend.require_running()

    @property
    def first_task_id(self) -> int:
        """The task to begin with, on the phantom."""
        return self.tasks["series-0001", FIRST_SLICE]


@contextmanager
def running_medical_demo(options: DemoOptions, report: Report = say) -> Iterator[MedicalState]:
    """Writes the phantom, imports it, sets a project up, and keeps the servers up while inside.

    Raises:
        SegstudioError: A sentence that says what failed; what was started has been stopped.
    """
    out_dir = options.out_dir.absolute()
    with FolderLock(out_dir, purpose="The demo"):
        report("Importing the CT series from DICOM ...")
        import_dir = import_series(out_dir / "dicom")
        executable = ensure_label_studio(options.label_studio_venv, report=report)
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
                report("Setting up the project and its slices ...")
                project_id, tasks = ensure_ct_project(client, import_dir)
                backend.wait_until_up()
                title = f"segstudio ({backend.model})"
                ensure_ml_backend(client, project_id, backend.url, title=title)
                yield MedicalState(
                    options, server, backend, project_id, tasks, server.account(ADMIN_EMAIL),
                    import_dir,
                )  # fmt: skip
            report("Stopping the ML backend and Label Studio ...")


def import_series(folder: Path) -> Path:
    """Writes the DICOM files and imports them as `segstudio dicom import` does; gives the output.

    The secret of the UIDs is kept in the folder, so that a second run gives the same tasks.

    Raises:
        MissingExtraError: pydicom is not installed.
    """
    try:
        from pydicom.data import get_testdata_file
    except ImportError as error:
        raise MissingExtraError("The demo --medical", "pydicom", "dicom") from error
    from label_configs import load_label_config, taxonomy_path
    from segstudio.dicom_files import require_dicom_packages
    from segstudio.dicom_import import ImportOptions, run_import
    from segstudio.dicom_pixels import parse_window

    require_dicom_packages()
    write_phantom(folder / "original" / "1-phantom")
    real = get_testdata_file(REAL_SLICE)
    if isinstance(real, str):
        target = folder / "original" / "2-real"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real, target / REAL_SLICE)
    run_import(
        ImportOptions(
            paths=(folder / "original",),
            out=folder / "imported",
            windows=(parse_window("abdomen"),),
            label_config=load_label_config(DOMAIN),
            taxonomy=taxonomy_path(DOMAIN).read_text(encoding="utf-8"),
            uid_key_file=folder / "uid-secret",
            workers=1,
            show_progress=False,
        )
    )
    return folder / "imported"


def ensure_ct_project(
    client: Client, import_dir: Path
) -> tuple[int, Mapping[tuple[str, int], int]]:
    """Gives the project's id and the task of each (series, slice), making what is missing.

    Raises:
        ServerError: The server refused.
    """
    label_config = (import_dir / "tasks.label-config.xml").read_text(encoding="utf-8")
    project_id = ensure_titled_project(
        client, label_config, title=TITLE, description=_DESCRIPTION, maximum_annotations=1
    )
    wanted = json.loads((import_dir / "tasks.json").read_text(encoding="utf-8"))
    present = _present_tasks(client, project_id)
    missing = [task for task in wanted if _key(task["data"]) not in present]
    if missing:
        _add_tasks(client, project_id, import_dir, missing)
        present = _present_tasks(client, project_id)
    tasks = {
        (str(task["data"]["video"]), int(task["data"]["frame"])): present[_key(task["data"])]
        for task in wanted
    }
    return project_id, tasks


def _key(data: Mapping[str, Any]) -> str:
    return str((data.get("dicom") or {}).get("sop_instance_uid"))


def _present_tasks(client: Client, project_id: int) -> dict[str, int]:
    listed = client.get_json(
        "/api/tasks/", what="the tasks", project=project_id, page_size=1000, fields="task_only"
    )
    return {_key(task["data"]): int(task["id"]) for task in listed["tasks"]}


def _add_tasks(
    client: Client, project_id: int, import_dir: Path, missing: Sequence[Mapping[str, Any]]
) -> None:
    tasks = []
    for task in missing:
        file_name = task["meta"]["segstudio"]["import"]["file_name"]
        address = upload_image(client, project_id, import_dir / file_name)
        tasks.append({**task, "data": {**task["data"], "image": address}})
    client.json_of(
        client.request(
            "POST", f"/api/projects/{project_id}/import", what="the import of slices", json=tasks
        )
    )


def medical_table(state: MedicalState, *, stays_up: bool) -> Table:
    """Where to go and what to try, as one table of two columns."""
    table = Table(title="segstudio demo: CT", show_header=False, title_style="bold", pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    project_url = f"{state.label_studio.url}/projects/{state.project_id}/data"
    rows = [
        (
            "1. Assist",
            f"{project_url}?task={state.first_task_id} [dim]log in, turn Auto-Annotation on, take "
            "the purple rectangle tool and the label Liver, draw a box around the large organ on "
            "the left, accept with the green tick, Submit. The small built-in model does better "
            "with boxes than with clicks here; it never saw a CT[/]",
        ),
        ("2. Report", escape(str(state.import_dir / "report.html"))),
        (
            "3. Export",
            f"segstudio export dicom-seg project:{state.project_id} --out seg --option "
            f"dicom={escape(str(state.import_dir))} [dim]with LABEL_STUDIO_URL and "
            "LABEL_STUDIO_API_KEY set[/]",
        ),
        ("Label Studio", state.label_studio.url),
        ("ML backend", f"{state.ml_backend.url} [dim]model {escape(state.ml_backend.model)}[/]"),
        ("Administrator", escape(f"{state.admin.email}  {state.admin.password}")),
        (
            "Data",
            f"{len(state.tasks)} slices: a synthetic phantom (series-0001: shapes, no patient) and "
            f"{REAL_SLICE} of pydicom's test files (series-0002: real, 128 x 128)",
        ),
    ]
    for name, text in rows:
        table.add_row(name, text)
    table.add_section()
    end = (
        "Ctrl-C stops all of it; the next start reuses what is there."
        if stays_up
        else "With --exit all of it stops now; start it without --exit to click through it."
    )
    table.add_row("To end", end)
    return table
