"""The command `segstudio demo`."""

from __future__ import annotations

import time
from pathlib import Path

import click


@click.command()
@click.option("--exit", "exit_when_done", is_flag=True, help="Stop when all of it has been done.")
@click.option(
    "--dir",
    "out_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Where the demo keeps its server's data and writes its results.",
)
@click.option("--port", type=int, help="Port of Label Studio.  [default: a free one]")
@click.option(
    "--label-studio-venv",
    type=click.Path(file_okay=False, path_type=Path),
    help="Environment of the Label Studio server, made when missing.  "
    "[default: SEGSTUDIO_LABEL_STUDIO_VENV or .venv-label-studio]",
)
@click.option(
    "--medical",
    is_flag=True,
    help="CT slices imported from DICOM, with organ labels and SAM assist, instead of photos.",
)
def demo(
    exit_when_done: bool,
    out_dir: Path,
    port: int | None,
    label_studio_venv: Path | None,
    medical: bool,
) -> None:
    """Run the whole thing on this machine: Label Studio, SAM, agreement, exports.

    Runs until Ctrl-C and then stops all that it started.
    """
    from demo.environments import say
    from demo.processes import terminate_like_interrupt
    from demo.run import DemoOptions, default_label_studio_venv, running_demo
    from demo.summary import print_summary, print_table

    started = time.monotonic()
    options = DemoOptions(out_dir, label_studio_venv or default_label_studio_venv(), port)
    if medical:
        from demo.medical import medical_table, running_medical_demo

        with terminate_like_interrupt(), running_medical_demo(options) as medical_state:
            try:
                say(f"All done in {time.monotonic() - started:.0f} s.")
                print_table(medical_table(medical_state, stays_up=not exit_when_done))
                while not exit_when_done:
                    medical_state.require_running()
                    time.sleep(1.0)
            except KeyboardInterrupt:
                say("")
        return
    with terminate_like_interrupt(), running_demo(options) as state:
        try:
            say(f"All done in {time.monotonic() - started:.0f} s.")
            print_summary(state, stays_up=not exit_when_done)
            while not exit_when_done:
                state.require_running()
                time.sleep(1.0)
        except KeyboardInterrupt:
            say("")
