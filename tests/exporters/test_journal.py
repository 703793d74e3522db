from pathlib import Path

import pytest

from exporters.journal import Journal


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def finished_run(root: Path, keys: list[str], digest: str = "d") -> int:
    with Journal(root) as journal:
        for key in keys:
            touch(root, f"{key}.png")
            journal.add(key, digest, [f"{key}.png"], {"stem": key})
        return journal.commit()


def test_a_finished_image_is_found_again_with_its_record(tmp_path: Path) -> None:
    finished_run(tmp_path, ["a", "b"])
    with Journal(tmp_path) as journal:
        assert journal.find("b", "d") == {"stem": "b"}


@pytest.mark.parametrize(("key", "digest"), [("b", "other"), ("c", "d")])
def test_a_changed_or_unknown_image_is_not_found(tmp_path: Path, key: str, digest: str) -> None:
    finished_run(tmp_path, ["a", "b"])
    with Journal(tmp_path) as journal:
        assert journal.find(key, digest) is None


def test_an_image_whose_file_is_gone_is_done_again(tmp_path: Path) -> None:
    finished_run(tmp_path, ["a", "b"])
    (tmp_path / "b.png").unlink()
    with Journal(tmp_path) as journal:
        assert journal.find("a", "d") is not None
        assert journal.find("b", "d") is None


def test_a_killed_run_is_taken_over_even_with_a_torn_last_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.__enter__()
    touch(tmp_path, "a.png", "b.png")
    journal.add("a", "d", ["a.png"], {"n": 1})
    journal.add("b", "d", ["b.png"], {"n": 2})
    part = tmp_path / ".segstudio" / "journal.part.jsonl"
    part.write_bytes(part.read_bytes()[:-5])
    with Journal(tmp_path) as second:
        assert second.find("a", "d") == {"n": 1}
        assert second.find("b", "d") is None


def test_half_written_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.__enter__()
    touch(tmp_path, "masks/.segstudio-abc.part", "masks/.mine.part")
    with Journal(tmp_path):
        pass
    assert [path.name for path in (tmp_path / "masks").iterdir()] == [".mine.part"]


def test_two_kills_in_a_row_lose_nothing(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.__enter__()
    touch(tmp_path, "a.png", "b.png")
    first.add("a", "d", ["a.png"], {"n": 1})
    first.add("b", "d", ["b.png"], {"n": 2})
    second = Journal(tmp_path)
    second.__enter__()
    second.add("a", "d", ["a.png"], {"n": 1})
    with Journal(tmp_path) as third:
        assert third.find("b", "d") == {"n": 2}


def test_files_of_images_that_are_gone_are_removed_and_others_are_not(tmp_path: Path) -> None:
    finished_run(tmp_path, ["a", "b"])
    touch(tmp_path, "mine.txt")
    assert finished_run(tmp_path, ["b", "c"]) == 1
    assert sorted(path.name for path in tmp_path.glob("?*.png")) == ["b.png", "c.png"]
    assert (tmp_path / "mine.txt").exists()


def test_a_journal_never_removes_a_file_outside_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    touch(tmp_path, "precious.png")
    with Journal(out) as journal:
        journal.add("a", "d", ["../precious.png"], {})
        journal.commit()
    assert finished_run(out, ["b"]) == 0
    assert (tmp_path / "precious.png").exists()


def test_records_of_one_folder_come_in_order_and_can_be_read_twice(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for key in ("annotator-1/a", "annotator-2/a", "annotator-1/b"):
            journal.add(key, "d", [], {"key": key})
        records = journal.records("annotator-1")
        for _ in range(2):
            assert [r["key"] for r in records] == ["annotator-1/a", "annotator-1/b"]
        assert len(list(journal.records(""))) == 3
