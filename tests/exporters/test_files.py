import json
import stat
from pathlib import Path

import pytest

from exporters.files import atomic_writer, write_bytes, write_json_lists
from tests.exporters.projects import names


def test_a_file_appears_whole_with_the_usual_rights(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b.bin", b"content")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"content"
    assert names(tmp_path / "a") == ["b.bin"]
    ours, usual = ((tmp_path / name).stat().st_mode for name in ("a/b.bin", "plain"))
    assert stat.S_IMODE(ours) == stat.S_IMODE(usual)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_writer(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_streamed_lists_are_ordinary_json(tmp_path: Path, count: int) -> None:
    entries = [{"n": n, "name": "ü\n"} for n in range(count)]
    write_json_lists(tmp_path / "x.json", {"info": {"a": 1}}, {"one": iter(entries), "two": []})
    found = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert found == {"info": {"a": 1}, "one": entries, "two": []}
    assert list(found) == ["info", "one", "two"]
