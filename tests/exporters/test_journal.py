from pathlib import Path

import pytest

from exporters.journal import Journal
from segstudio.errors import UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def finished_run(root: Path, keys: list[str], digest: str = "d") -> int:
    with Journal(root) as journal:
        for key in keys:
            touch(journal.work_dir, f"{key}.png")
            journal.add(key, digest, [f"{key}.png"], {"stem": key})
        return journal.commit()


def killed_run(root: Path, keys: list[str]) -> None:
    """A run whose process ends before it commits."""
    with Journal(root) as journal:
        for number, key in enumerate(keys, start=1):
            touch(journal.work_dir, f"{key}.png")
            journal.add(key, "d", [f"{key}.png"], {"n": number})


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
    killed_run(tmp_path, ["a", "b"])
    part = tmp_path / ".segstudio" / "journal.part.jsonl"
    part.write_bytes(part.read_bytes()[:-5])
    with Journal(tmp_path) as second:
        assert second.find("a", "d") == {"n": 1}
        assert second.find("b", "d") is None


def test_half_written_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    killed_run(tmp_path, ["a"])
    work_dir = Journal(tmp_path).work_dir
    touch(work_dir, ".segstudio-abc.part", "written-but-not-noted.png")
    with Journal(tmp_path):
        pass
    assert [path.name for path in work_dir.iterdir()] == ["a.png"]


def test_two_kills_in_a_row_lose_nothing(tmp_path: Path) -> None:
    killed_run(tmp_path, ["a", "b"])
    killed_run(tmp_path, ["a"])
    with Journal(tmp_path) as third:
        assert third.find("b", "d") == {"n": 2}


def test_until_everything_is_there_the_earlier_files_stay_as_they_were(tmp_path: Path) -> None:
    finished_run(tmp_path, ["a", "gone"])
    with Journal(tmp_path) as journal:
        (journal.work_dir / "a.png").write_bytes(b"new")
        (journal.work_dir / "list.txt").write_bytes(b"1")
        journal.add("a", "e", ["a.png"], {})
        assert (tmp_path / "a.png").read_bytes() == b"x"
        journal.commit()
    assert (tmp_path / "a.png").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.glob("*")) == [".segstudio", "a.png", "list.txt"]


def test_files_of_the_data_set_that_are_no_longer_written_are_removed(tmp_path: Path) -> None:
    for name in ("train.txt", "val.txt"):
        with Journal(tmp_path) as journal:
            touch(journal.work_dir, name)
            journal.commit()
    assert [path.name for path in tmp_path.glob("*.txt")] == ["val.txt"]


def test_what_a_killed_run_made_and_this_one_does_not_is_swept_away(tmp_path: Path) -> None:
    killed_run(tmp_path, ["a", "b"])
    with Journal(tmp_path) as journal:
        journal.add("b", "d", ["b.png"], {})
        journal.sweep()
        journal.commit()
    assert [path.name for path in tmp_path.glob("*.png")] == ["b.png"]


def write_and_die(root: Path, key: str, digest: str, content: bytes, *, journalled: bool) -> None:
    """A run that overwrites an image's file and is killed before or after it notes so."""
    with Journal(root) as journal:
        assert journal.find(key, digest) is None
        touch(journal.work_dir, f"{key}.png")
        (journal.work_dir / f"{key}.png").write_bytes(content)
        if journalled:
            journal.add(key, digest, [f"{key}.png"], {})


def content_after(root: Path, key: str, digest: str) -> bytes:
    """What lies in place after a run that finds the image or makes it anew."""
    with Journal(root) as journal:
        record = journal.find(key, digest)
        if record is None:
            touch(journal.work_dir, f"{key}.png")
            (journal.work_dir / f"{key}.png").write_bytes(digest.encode())
        journal.add(key, digest, [f"{key}.png"], record or {})
        journal.sweep()
        journal.commit()
    return (root / f"{key}.png").read_bytes()


@pytest.mark.parametrize("journalled", [False, True])
def test_a_killed_run_of_other_options_leaves_no_file_of_its_own(
    tmp_path: Path, journalled: bool
) -> None:
    assert content_after(tmp_path, "a", "old") == b"old"
    write_and_die(tmp_path, "a", "new", b"new", journalled=journalled)
    assert content_after(tmp_path, "a", "old") == b"old"


@pytest.mark.parametrize("journalled", [False, True])
def test_kills_under_changing_options_never_mix_up_the_files(
    tmp_path: Path, journalled: bool
) -> None:
    content_after(tmp_path, "a", "old")
    write_and_die(tmp_path, "a", "new", b"new", journalled=True)
    write_and_die(tmp_path, "a", "old", b"old", journalled=journalled)
    assert content_after(tmp_path, "a", "new") == b"new"


def test_a_file_that_another_image_wrote_since_is_made_again(tmp_path: Path) -> None:
    content_after(tmp_path, "a", "old")
    with Journal(tmp_path) as journal:  # the same file under the image's longer name
        touch(journal.work_dir, "a.png")
        journal.add("a-task1", "new", ["a.png"], {})
    assert content_after(tmp_path, "a", "old") == b"old"


def test_two_exports_never_write_into_one_folder_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(UsageError, match="Another export is writing into"):
        Journal(tmp_path).__enter__()


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
