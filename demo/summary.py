"""The table that the demo prints: where to go, what was put in, what was measured."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.annotators import DEVIATIONS, expected_class_means
from demo.references import REFERENCES
from demo.run import DemoState

SHORTEST_WIDTH = 110


def print_summary(state: DemoState, *, stays_up: bool) -> None:
    """Prints the table on standard output."""
    print_table(summary_table(state, stays_up=stays_up))


def print_table(table: Table) -> None:
    """Prints a table on standard output, wide enough where nobody watches."""
    console = Console(highlight=False)
    if console.width < SHORTEST_WIDTH and not console.is_terminal:
        console = Console(highlight=False, width=SHORTEST_WIDTH)
    console.print(table)
    console.file.flush()  # a pipe would keep the table until the demo ends


def summary_table(state: DemoState, *, stays_up: bool) -> Table:
    """All of it in one table of two columns."""
    table = Table(title="segstudio demo", show_header=False, title_style="bold", pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for section in (_first_steps, _addresses, _log_ins, _outputs, _agreement):
        for name, text in section(state):
            table.add_row(name, text)
        table.add_section()
    end = (
        "Ctrl-C stops all of it; the next start reuses what is there."
        if stays_up
        else "With --exit all of it stops now; start it without --exit to click through it."
    )
    table.add_row("To end", end)
    return table


def _first_steps(state: DemoState) -> list[tuple[str, str]]:
    # One bright cell on a plain ground: what the small built-in model is good at.
    task_id = state.tasks["cell"]
    return [
        (
            "1. Assist",
            f"{_data_url(state)}?task={task_id} [dim]log in as annotator 1, turn Auto-Annotation "
            "on, take the purple key point tool and the label Cell, click on the cell, accept with "
            "the green tick, Submit[/]",
        ),
        ("2. Rework", f"{_tab_url(state)} [dim]tab “QA: needs rework”: the worst photo first[/]"),
        ("3. Report", _path(state.qa_files, ".html")),
    ]


def _addresses(state: DemoState) -> list[tuple[str, str]]:
    return [
        ("Label Studio", state.label_studio.url),
        ("Project", _data_url(state)),
        (
            "ML backend",
            f"{state.ml_backend.url} [dim]model {escape(state.ml_backend.model)}, connected as "
            "interactive[/]",
        ),
    ]


def _log_ins(state: DemoState) -> list[tuple[str, str]]:
    accounts = [("Administrator", state.admin)]
    accounts += [
        (f"Annotator {number}", account) for number, account in enumerate(state.annotators, 1)
    ]
    return [(name, escape(f"{each.email}  {each.password}")) for name, each in accounts]


def _outputs(state: DemoState) -> list[tuple[str, str]]:
    rows = [("Photos", escape(str(state.options.out_dir.absolute() / "photos")))]
    rows += [
        (f"Export {name}", f"{escape(str(folder))} [dim]annotator 1's annotations[/]")
        for name, folder in state.exports.items()
    ]
    rows.append(("Results", escape(", ".join(str(path) for path in state.qa_files))))
    return rows


def _agreement(state: DemoState) -> list[tuple[str, str]]:
    """For each simulated photo: what was put in, and the IoU expected from it and measured."""
    measured = {task["id"]: task["classes"] for task in state.qa_result["tasks"]}
    rows = []
    for photo, deviations in DEVIATIONS.items():
        put_in = "; ".join(
            f"{number}: {deviation.words}" for number, deviation in enumerate(deviations, 1)
        )
        expected = expected_class_means(state.overlaps, photo)
        found = measured.get(state.tasks[photo], {})
        figures = ", ".join(
            f"{label} {iou:.3f} / {_score(found.get(label))}" for label, iou in expected.items()
        )
        changed = found.keys() != expected.keys() or any(
            abs(found[label] - iou) > 1e-9 for label, iou in expected.items()
        )
        note = " [yellow](somebody has changed these annotations since)[/]" if changed else ""
        rows.append(
            (
                f"Simulated: {photo}",
                f"[dim]{escape(REFERENCES[photo].method)}; annotator {escape(put_in)}[/]\n"
                f"IoU expected / measured: {escape(figures)}{note}",
            )
        )
    batch = state.qa_result["batch"]
    rows.append(
        (
            "Agreement",
            f"mIoU {_score(batch['miou']['accumulated'])} accumulated, "
            f"{_score(batch['miou']['per_image'])} per image, over {batch['compared_tasks']} "
            f"photos and {batch['pairs']} pairs; {batch['rework']['tasks']} photos need rework. "
            f"Gate: {batch['verdict'].upper()} [dim]{escape(batch['verdict_reason'])}[/]",
        )
    )
    return rows


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _path(paths: tuple[object, ...], suffix: str) -> str:
    return escape(next(str(path) for path in paths if str(path).endswith(suffix)))


def _data_url(state: DemoState) -> str:
    return f"{state.label_studio.url}/projects/{state.project_id}/data"


def _tab_url(state: DemoState) -> str:
    return _data_url(state) if state.tab_id is None else f"{_data_url(state)}?tab={state.tab_id}"
