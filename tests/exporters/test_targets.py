"""Where an export can go; the earlier one stays as it is until the new one is whole."""

import errno
import json
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest

import exporters.upload
from exporters.coco_panoptic import CocoPanopticExporter
from exporters.targets import open_target
from segstudio.errors import SegstudioError, UsageError
from tests.exporters.projects import annotation, box, brush, run, source_of, task, tree


def project(folder: Path, width: int = 3) -> Any:
    return source_of(
        folder,
        [
            task(n, f"/{n}.jpg", annotation(n, 5, [brush("a", "car", box(0, 0, n, width))]))
            for n in (1, 2, 3)
        ],
    )


def visible(folder: Path) -> dict[str, bytes]:
    found = tree(folder)
    return {name: content for name, content in found.items() if not name.startswith(".segstudio/")}


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fsspec.filesystem("memory").store.clear()


def in_memory(root: str) -> dict[str, bytes]:
    memory = fsspec.filesystem("memory")
    return {
        name.removeprefix(f"/{root}/"): memory.cat_file(name)
        for name in memory.find(f"/{root}")
        if ".segstudio" not in name
    }


def test_a_zip_file_holds_the_folder_with_the_same_bytes_every_time(tmp_path: Path) -> None:
    run("coco-panoptic", project(tmp_path), tmp_path / "out")
    for name in ("a.zip", "b.zip"):
        run("coco-panoptic", project(tmp_path), tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == sorted(archive.namelist())
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {name: archive.read(name) for name in archive.namelist()} == visible(
            tmp_path / "out"
        )
    assert sorted(path.name for path in tmp_path.glob("*zip*")) == ["a.zip", "b.zip"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("url", ["memory://sets/cars", "local://{tmp}/far/cars"])
def test_a_url_gets_the_same_files_as_a_folder(tmp_path: Path, url: str) -> None:
    run("coco-panoptic", project(tmp_path), tmp_path / "out")
    run("coco-panoptic", project(tmp_path), url.format(tmp=tmp_path))
    found = in_memory("sets/cars") if "memory" in url else visible(tmp_path / "far" / "cars")
    assert found == visible(tmp_path / "out")
    assert not list((tmp_path / "cache").rglob("*.png"))


def test_a_file_url_is_a_folder_of_this_machine(tmp_path: Path) -> None:
    run("semantic-png", project(tmp_path), (tmp_path / "a b").as_uri())
    assert (tmp_path / "a b" / "masks" / "1.png").exists()


def test_a_zip_file_can_go_to_a_url(tmp_path: Path) -> None:
    run("semantic-png", project(tmp_path), tmp_path / "here.zip")
    run("semantic-png", project(tmp_path), "memory://sets/there.zip")
    sent = fsspec.filesystem("memory").cat_file("/sets/there.zip")
    assert sent == (tmp_path / "here.zip").read_bytes()


def test_only_what_changed_is_sent_and_what_is_gone_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "memory://sets/cars"
    run("coco-panoptic", project(tmp_path), url)
    before = in_memory("sets/cars")
    sent: list[str] = []
    original = exporters.upload._put_all

    def noting(folder: Path, remote: Any, names: list[str]) -> Any:
        sent.extend(names)
        return original(folder, remote, names)

    monkeypatch.setattr(exporters.upload, "_put_all", noting)
    run("coco-panoptic", project(tmp_path), url)
    assert sent == [] and in_memory("sets/cars") == before
    one = task(1, "/1.jpg", annotation(1, 5, [brush("a", "car", box(0, 0, 8, 9))]))
    two = task(2, "/2.jpg", annotation(2, 5, [brush("a", "car", box(0, 0, 2, 3))]))
    run("coco-panoptic", source_of(tmp_path / "new", [one, two]), url)
    assert "panoptic/1.png" in sent and "panoptic/2.png" not in sent
    assert "panoptic/3.png" not in in_memory("sets/cars")


def test_a_stopped_upload_says_so_has_no_card_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    original = type(memory).put_file
    put: list[str] = []
    failed: list[str] = []

    def failing(self: Any, local: str, remote: str, **more: Any) -> Any:
        put.append(remote)
        if remote.endswith("3.png") and not failed:
            failed.append(remote)
            raise ConnectionError("the bucket went away")
        return original(self, local, remote, **more)

    monkeypatch.setattr(type(memory), "put_file", failing)
    monkeypatch.setattr(exporters.upload, "_AT_ONCE", 1)
    with pytest.raises(SegstudioError, match=r"the bucket went away.*no dataset\.json yet") as told:
        run("coco-panoptic", project(tmp_path), "memory://user:secret@sets/cars")
    assert "secret" not in str(told.value)
    (root,) = {name.rpartition("/panoptic/")[0] for name in put if "/panoptic/" in name}
    assert not memory.exists(f"{root}/dataset.json")
    arrived = [name for name in put if memory.exists(name)]
    put.clear()
    summary = run("coco-panoptic", project(tmp_path), "memory://user:secret@sets/cars")
    assert summary.taken_over == 3
    assert not set(arrived) & set(put) and memory.exists(f"{root}/dataset.json")


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("nosuch://x/y", "Protocol not known: nosuch"),
        ("memory://other", "holds an export in the format coco-panoptic"),
        ("memory://foreign", "not of segstudio"),
        ("foreign.zip", "not of segstudio"),
    ],
)
def test_a_place_that_cannot_be_or_belongs_to_something_else_is_refused(
    tmp_path: Path, out: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    memory = fsspec.filesystem("memory")
    card = json.dumps({"segstudio_version": "0", "format": "coco-panoptic"})
    memory.pipe_file("/other/dataset.json", card.encode())
    memory.pipe_file("/foreign/dataset.json", b"{}")
    Path("foreign.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match=sentence):
        run("semantic-png", project(tmp_path), out)
    assert Path("foreign.zip").read_bytes() == b"PK"


def test_a_staging_folder_is_for_what_is_packed_or_sent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--staging is for zip files and URLs"):
        open_target(tmp_path / "out", tmp_path / "staging")
    run("semantic-png", project(tmp_path), "memory://kept", staging=tmp_path / "staging")
    summary = run("semantic-png", project(tmp_path), "memory://kept", staging=tmp_path / "staging")
    assert summary.taken_over == 3


@pytest.mark.parametrize("out", ["out", "out.zip"])
def test_a_full_disk_is_a_sentence_and_leaves_the_earlier_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    place = tmp_path / out
    run("coco-panoptic", project(tmp_path), place)
    before = visible(place) if place.is_dir() else place.read_bytes()
    original = CocoPanopticExporter.write_image

    def full(self: Any, image: Any, context: Any) -> dict[str, Any]:
        if image.task_id == 3:
            raise OSError(errno.ENOSPC, "No space left on device", "panoptic/3.png")
        return original(self, image, context)

    with monkeypatch.context() as patch:
        patch.setattr(CocoPanopticExporter, "write_image", full)
        with pytest.raises(SegstudioError, match=r"disk is full.*before is unchanged"):
            run("coco-panoptic", project(tmp_path / "wider", width=7), place)
    assert before == (visible(place) if place.is_dir() else place.read_bytes())
    summary = run("coco-panoptic", project(tmp_path / "wider", width=7), place)
    assert summary.taken_over == 2
    assert before != (visible(place) if place.is_dir() else place.read_bytes())
