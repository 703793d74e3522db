"""docs/architecture.md names what is there: no module that is gone, and every large one."""

import re
from fnmatch import fnmatch

import pytest

from tests.conftest import ROOT

ROOMS = ("segstudio", "ml_backend", "exporters", "qa_plugins", "batch", "demo")
LARGE_LINES = 200
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
# A capital X stands for any name, as in `X_command.py`.
NAMED = {one.replace("X", "*") for one in re.findall(r"`(?:\w+/)*([\w*]+\.py)`", PAGE)}
MODULES = sorted(
    path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")
)


def test_every_module_that_the_page_names_is_there():
    there = {module.rpartition("/")[2] for module in MODULES}
    assert {"merge_kernels.py", "*_command.py"} <= NAMED
    assert [name for name in sorted(NAMED) if not any(fnmatch(one, name) for one in there)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_large_module_is_named_in_some_room(room):
    large = [
        module
        for module in MODULES
        if module.startswith(f"{room}/")
        and len((ROOT / module).read_text(encoding="utf-8").splitlines()) > LARGE_LINES
    ]
    missing = [
        module
        for module in large
        if not any(fnmatch(module.rpartition("/")[2], name) for name in NAMED - {"*.py"})
    ]
    assert missing == [], "Name these in docs/architecture.md, in a room where they belong."
