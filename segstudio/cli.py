"""The command line: `segstudio COMMAND ...`, each command a thin wrapper of a function.

The commands of the other packages are found through the entry-point group `segstudio.commands`
and imported only when they are invoked, so `--help` stays fast whatever is installed.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from importlib import import_module
from typing import Any

import click

from segstudio.errors import EXIT_INTERRUPTED, EXIT_TROUBLE, SegstudioError
from segstudio.plugins import installed_entry_points, package_of

COMMANDS_GROUP = "segstudio.commands"

_BUILT_IN = {"doctor": "segstudio.doctor:doctor"}

# Shown by `--help` without importing anything; a foreign package's command shows its package.
_SUMMARIES = {
    "demo": "Run the whole thing on this machine: Label Studio, SAM, agreement, exports.",
    "serve": "Serve Segment Anything to Label Studio as its ML backend.",
    "precompute": "Compute the embeddings of a project's images ahead of the annotators.",
    "models": "List the models and download Meta's checkpoints.",
    "prelabel": "Choose how a project's tasks get predictions, and in which order they come.",
    "export": "Write a data set in a training format.",
    "import": "Turn a data set in a known format into Label Studio tasks.",
    "qa": "Check a batch: agreement, gold, validation; gates and write-back.",
    "dicom": "Turn DICOM series into Label Studio tasks.",
    "frames": "Turn videos and folders of frames into ordered Label Studio tasks.",
    "propagate": "Propose masks for the frames between annotated key frames.",
    "plan": "Plan which tasks get a second or third annotator, for a stated goal.",
    "gold": "Mix gold tasks into a project unmarked, kept in a file of their own.",
    "rework": "Send tasks back for rework.",
    "labels": "Compare the labels in use with the interface; rename, merge, publish the rules.",
    "pilot": "Say on one page what a pilot tells about production.",
    "deliver": "Deliver a batch that passes its gates, with a manifest of every hash.",
    "doctor": "Say what is installed, reachable or misconfigured, and how to mend it.",
}

_EXTRA_OF_COMMAND = {
    "serve": "sam",
    "precompute": "sam",
    "models": "sam",
    "dicom": "dicom",
    "demo": "demo",
}


class LazyGroup(click.Group):
    """A click group that knows its commands by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({*installed_entry_points(COMMANDS_GROUP), *_BUILT_IN})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None when there is none of that name."""
        if cmd_name in _BUILT_IN:
            module, _, attribute = _BUILT_IN[cmd_name].partition(":")
            built_in: click.Command = getattr(import_module(module), attribute)
            return built_in
        entry = installed_entry_points(COMMANDS_GROUP).get(cmd_name)
        if entry is None:
            return None
        try:
            command = entry.load()
        except (ImportError, AttributeError) as error:
            if _debug_wanted(ctx):
                traceback.print_exc()
            extra = _EXTRA_OF_COMMAND.get(cmd_name)
            ours = package_of(entry) == "segstudio"
            advice = (
                f"Run: pip install 'segstudio[{extra}]'"
                if extra and ours
                else f"Install the package '{package_of(entry)}' again with what it needs"
            )
            raise SegstudioError(
                f"The command '{cmd_name}' cannot be loaded: {error}. {advice}."
            ) from error
        if not isinstance(command, click.Command):
            raise SegstudioError(
                f"The command '{cmd_name}' of the package '{package_of(entry)}' is not a click "
                f"command but a {type(command).__name__}. Correct its entry point."
            )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from names alone."""
        entries = installed_entry_points(COMMANDS_GROUP)
        rows: list[tuple[str, str]] = []
        for name in self.list_commands(ctx):
            entry = entries.get(name)
            if entry is None or package_of(entry) == "segstudio":
                rows.append((name, _SUMMARIES.get(name, "")))
            else:
                rows.append((name, f"from package {package_of(entry)}"))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn every way of failing into a sentence and an exit code."""
        try:
            super().invoke(ctx)
        except (click.UsageError, click.exceptions.Exit):
            raise
        except click.ClickException as error:
            # click's own code 1 would read as "a gate failed".
            error.show()
            ctx.exit(EXIT_TROUBLE)
        except (KeyboardInterrupt, click.Abort):
            click.echo("\nStopped at your request.", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except SegstudioError as error:
            if _debug_wanted(ctx):
                traceback.print_exc()
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno == errno.EPIPE:
                # The reader of our output has gone (`| head`): nothing is wrong. What is left
                # in the buffer must not raise again while Python shuts down.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                ctx.exit(0)
            if error.strerror and error.filename and not _debug_wanted(ctx):
                click.echo(f"Error: {error.filename}: {error.strerror}.", err=True)
                ctx.exit(EXIT_TROUBLE)
            _report_unexpected(ctx, error)
        except Exception as error:
            if _is_ours(error):
                if _debug_wanted(ctx):
                    traceback.print_exc()
                click.echo(f"Error: {error}", err=True)
                ctx.exit(EXIT_TROUBLE)
            _report_unexpected(ctx, error)


def _is_ours(error: Exception) -> bool:
    # The kernel's own ValueErrors (a malformed task, interface or taxonomy) are sentences too.
    return type(error).__module__.partition(".")[0] == "segstudio"


def _report_unexpected(ctx: click.Context, error: Exception) -> None:
    if _debug_wanted(ctx):
        traceback.print_exc()
    sentence = " ".join(str(error).split()) or "no message"
    hint = "" if _debug_wanted(ctx) else " Run with `segstudio --debug ...` for the traceback."
    click.echo(f"Error: {type(error).__name__}: {sentence.rstrip('.')}.{hint}", err=True)
    ctx.exit(EXIT_TROUBLE)


def _debug_wanted(ctx: click.Context) -> bool:
    return bool(ctx.find_root().params.get("debug"))


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    click.echo(f"segstudio {installed_version()}")
    ctx.exit()


def installed_version() -> str:
    """Return the version in the installed package's metadata."""
    from importlib.metadata import PackageNotFoundError

    from segstudio.versions import package_version

    try:
        return package_version("segstudio")
    except PackageNotFoundError:
        return "0 (not installed; run pip install -e .)"


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--debug", is_flag=True, envvar="SEGSTUDIO_DEBUG", help="Show tracebacks.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version.",
)
def main(debug: bool) -> None:
    """Segmentation for Label Studio: SAM assist, exact exports, agreement you can gate on.

    Exit codes: 0 fine, 1 a gate failed, 2 wrong usage, 3 input or server trouble.
    """


if __name__ == "__main__":
    main()
