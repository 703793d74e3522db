"""Every command that README and docs show has the options that they give it."""

import re
import shlex

import click
import pytest

from segstudio.cli import main
from segstudio.cli_commands import CommandWithOthers
from tests.conftest import ROOT

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
_BLOCK = re.compile(r"^```\w*\n(.*?)^```|((?:^ {4}[^\n]*\n)+)", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"\b(segstudio [a-z](?:[^\n\\)]|\\\n)*)")
_INLINE = re.compile(r"`(segstudio [a-z][^`]*)`")


def commands_of(page):
    """The command lines of a page's blocks and sentences, comments and ellipses cut off."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [fenced or indented for fenced, indented in _BLOCK.findall(text)]
    found = [one for block in blocks for one in _COMMAND.findall(block)]
    for line in dict.fromkeys([*found, *_INLINE.findall(text)]):
        plain = re.sub(r"\\\n\s*|[\[\]]", " ", line)
        yield re.split(r" # | \.\.\.|;", re.sub(r"\s+", " ", plain))[0].strip()


def unknown_parts(line):
    """What of a command line segstudio does not know: a command, or options."""
    words = [word.partition("=")[0] for word in shlex.split(line)[1:]]
    command, context = main, click.Context(main)
    while words and isinstance(command, click.Group | CommandWithOthers):
        found = _beside(command, context, words[0].partition("|")[0])
        if found is None:
            break
        command, words = found, words[1:]
    if isinstance(command, click.Group):
        return words[:1]
    params = command.get_params(context)
    names = {name for one in params for name in (*one.opts, *one.secondary_opts)}
    return [word for word in words if word.startswith("--") and word not in names]


def _beside(command, context, name):
    if isinstance(command, CommandWithOthers):
        return command._others[name]() if name in command._others else None
    return command.get_command(context, name)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_has_its_options(page):
    wrong = {line: parts for line in commands_of(page) if (parts := unknown_parts(line))}
    assert wrong == {}


def test_the_pages_show_commands():
    assert sum(len(list(commands_of(page))) for page in PAGES) > 100
    assert unknown_parts("segstudio qa agreement project:1 --gate x") == ["--gate"]
    assert unknown_parts("segstudio exprot coco-panoptic") == ["exprot"]
