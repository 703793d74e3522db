"""The command line: lazy, fast, with exit codes that scripts can trust."""

import resource
import subprocess
import sys
from importlib.metadata import EntryPoint

import click
import pytest
from click.testing import CliRunner

from segstudio import cli
from segstudio.errors import SegstudioError, ServerError, UsageError

HEAVY = ("torch", "cv2", "numba", "label_studio_sdk", "PIL", "rich", "httpx", "numpy", "scipy")


class OwnValueError(ValueError):
    pass


OwnValueError.__module__ = "segstudio.label_config"

TROUBLES = {
    "fine": None,
    "usage": UsageError("The name is wrong."),
    "server": ServerError("The server is gone.", 502),
    "kernel": OwnValueError("The interface has no labels."),
    "bug": KeyError("some key"),
    "click": click.ClickException("A file is broken."),
    "gate": click.exceptions.Exit(1),
    "stop": KeyboardInterrupt(),
    "os": PermissionError(13, "Permission denied", "/root/x"),
}


@click.command()
@click.argument("what")
def fail(what):
    """Fail as asked."""
    if TROUBLES[what] is not None:
        raise TROUBLES[what]


NOT_A_COMMAND = 3
HERE = "tests.segstudio.test_cli"


@pytest.fixture
def run(monkeypatch):
    """Runs the command line with these entry points in place of the installed ones."""
    targets = {
        "fail": f"{HERE}:fail",
        "number": f"{HERE}:NOT_A_COMMAND",
        "serve": "no_such_package:serve",
    }
    entries = {name: EntryPoint(name, target, "g") for name, target in targets.items()}
    monkeypatch.setattr(cli, "installed_entry_points", lambda group: entries)
    return lambda *arguments: CliRunner().invoke(cli.main, arguments)


@pytest.mark.parametrize(
    ("what", "code", "sentence"),
    [
        ("fine", 0, ""),
        ("usage", 2, "Error: The name is wrong.\n"),
        ("server", 3, "Error: The server is gone.\n"),
        ("kernel", 3, "Error: The interface has no labels.\n"),
        (
            "bug",
            3,
            "Error: KeyError: 'some key'. Run with `segstudio --debug ...` for the traceback.\n",
        ),
        ("click", 3, "Error: A file is broken.\n"),
        ("gate", 1, ""),
        ("stop", 130, "\nStopped at your request.\n"),
        ("os", 3, "Error: /root/x: Permission denied.\n"),
    ],
)
def test_every_way_to_end_has_its_code_and_one_sentence(run, what, code, sentence):
    result = run("fail", what)
    assert (result.exit_code, result.stderr, result.stdout) == (code, sentence, "")


def test_debug_shows_the_traceback(run):
    result = run("--debug", "fail", "bug")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr


@pytest.mark.parametrize("arguments", [("nope",), ("--nope",), ("fail",)])
def test_wrong_usage_is_2(run, arguments):
    assert run(*arguments).exit_code == 2


def test_help_lists_commands_without_importing_them(run):
    result = run("--help")
    assert result.exit_code == 0
    assert "serve " in result.stdout
    assert "doctor " in result.stdout
    assert "from package unknown" in result.stdout


def test_a_command_that_cannot_be_loaded_says_why(run):
    result = run("serve")
    assert (result.exit_code, "No module named 'no_such_package'" in result.stderr) == (3, True)
    result = run("number")
    assert (result.exit_code, "is not a click command but a int" in result.stderr) == (3, True)


def test_an_error_of_our_own_is_still_an_exception_for_callers():
    assert issubclass(UsageError, SegstudioError)
    assert UsageError("x").exit_code == 2


def test_help_imports_nothing_heavy_and_is_fast():
    code = (
        "import sys, segstudio.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    costs_s = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.stderr.strip() == "[]"
        assert "export" in done.stdout
    # Processor time, not the clock: other work on the machine must not fail this test.
    assert min(costs_s) < 0.5


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m segstudio.cli doctor --ml-backend http://127.0.0.1:1 | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
