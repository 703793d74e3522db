"""A killed delivery (kill -9): the old one or the new one is there, whole, and it can be gone on.

The process kills itself at the n-th time it opens, links, renames or removes something beside the
place, n being drawn at random: the moments at which a half delivery could come about, and no
waiting for them.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch.delivery_files import DeliveryFiles, verify
from tests.batch.delivery_projects import batch_of, make, settings_of
from tests.exporters.projects import tree

EVENTS = frozenset({"open", "os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir",
                    "shutil.rmtree", "os.listdir", "os.scandir", "os.chmod"})  # fmt: skip
MOMENTS = 20
_FORK = multiprocessing.get_context("fork")


def _counted(action: Callable[[], Any], folder: str, kill_at: int, result: Any) -> None:
    """Run the action in this process and kill it at an event; report how many there were."""
    seen = 0

    def hook(event: str, arguments: Any) -> None:
        nonlocal seen
        if event in EVENTS and folder in str(arguments):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    action()
    result.value = seen


def run_killed(action: Callable[[], Any], folder: Path, kill_at: int = 0) -> tuple[int, int | None]:
    """Return how many events a forked run saw (0 when it was killed) and its exit code."""
    seen = _FORK.Value("i", 0)
    child = _FORK.Process(target=_counted, args=(action, str(folder), kill_at, seen))
    child.start()
    child.join(120)
    return seen.value, child.exitcode


def content(place: Path) -> Any:
    if not place.exists():
        return None
    return tree(place) if place.is_dir() else place.read_bytes()


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_whatever_the_moment_the_old_or_the_new_delivery_is_there_and_the_next_run_finishes(
    tmp_path: Path, name: str
) -> None:
    settings = settings_of(tmp_path, formats=("semantic-png",), pictures=0, replace=True)
    old = tmp_path / "old" / name
    make(batch_of(tmp_path / "in-old"), old, settings)
    source = batch_of(tmp_path / "in", shift_px=1, extra=1)
    new = tmp_path / "new" / name
    make(source, new, settings)
    wanted = {"old": content(old), "new": content(new)}

    def restore_old(place: Path) -> Path:
        if place.is_dir():
            shutil.rmtree(place)
        place.parent.mkdir(exist_ok=True)
        (shutil.copytree if old.is_dir() else shutil.copy)(old, place)
        return place

    counted = restore_old(tmp_path / "counted" / name)
    events, code = run_killed(lambda: make(source, counted, settings), counted.parent)
    assert code == 0 and events > 2 * MOMENTS
    assert content(counted) == wanted["new"]
    # Some of the last as well, which lie around the step that puts it in place.
    moments = {*random.Random(8).sample(range(1, events), MOMENTS), *range(events - 3, events)}
    place = tmp_path / "killed" / name
    states = []
    for number, moment in enumerate(sorted(moments)):
        restore_old(place)
        _, code = run_killed(lambda: make(source, place, settings), place.parent, moment)
        assert code == -signal.SIGKILL
        found = content(place)
        states.append(next(state for state, one in wanted.items() if one == found))
        with DeliveryFiles(place) as files:
            assert verify(files).problems == ()
        if number % 4:
            for left in place.parent.glob(".*"):
                shutil.rmtree(left)
        else:  # the run after a kill finishes what was begun
            make(source, place, settings)
            assert content(place) == wanted["new"]
            assert list(place.parent.glob(".*")) == []
    assert set(states) == {"old", "new"}, "some moments lie before the step, some after it"
