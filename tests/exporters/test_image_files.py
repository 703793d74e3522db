"""Images beside their annotations: copied, linked, named, and never from anywhere else."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import exporters.image_files
from segstudio.errors import SegstudioError, UsageError
from tests.exporters.projects import annotation, box, brush, panoptic, run, source_of, task, tree

CAR = brush("a", "car", box(0, 0, 2, 2))


def picture(path: Path, width: int = 10, height: int = 8, **options: Any) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", "": "PNG"}.get(path.suffix, "PNG")
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path, kind, **options)
    return path.read_bytes()


def project(tmp_path: Path, *references: str) -> Any:
    return source_of(
        tmp_path / "tasks",
        [task(n, one, annotation(n, 5, [CAR])) for n, one in enumerate(references, start=1)],
    )


def index(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]


def test_copies_have_the_bytes_of_the_originals_and_names_that_match(tmp_path: Path) -> None:
    a = picture(tmp_path / "photos" / "a.jpg")
    b = picture(tmp_path / "photos" / "deep" / "b")
    source = project(tmp_path, "a.jpg", "/data/local-files/?d=deep/b")
    out = tmp_path / "out"
    run("coco-panoptic", source, out, images="copy", roots=(tmp_path / "photos",))
    assert tree(out / "images") == {"a.jpg": a, "b.png": b}
    assert [one["file_name"] for one in panoptic(out)["images"]] == ["a.jpg", "b.png"]
    assert [one["image_file"] for one in index(out)] == ["images/a.jpg", "images/b.png"]


def test_links_take_no_space_and_fall_back_to_symbolic_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = picture(tmp_path / "photos" / "a.jpg")
    for name in ("hard", "soft", "neither"):
        if name == "soft":
            monkeypatch.setattr(exporters.image_files.os, "link", _refuse)
        if name == "neither":
            monkeypatch.setattr(exporters.image_files.os, "symlink", _refuse)
        for _ in range(2):  # the second time everything is there already
            run("semantic-png", project(tmp_path, "a.jpg"), tmp_path / name,
                images="link", roots=(tmp_path / "photos",))  # fmt: skip
        assert (tmp_path / name / "images" / "a.jpg").read_bytes() == a
    hard, soft, copy = (
        tmp_path / name / "images" / "a.jpg" for name in ("hard", "soft", "neither")
    )
    assert hard.samefile(tmp_path / "photos" / "a.jpg") and not hard.is_symlink()
    assert soft.is_symlink() and soft.resolve() == tmp_path / "photos" / "a.jpg"
    assert not copy.is_symlink() and copy.stat().st_nlink == 1


def _refuse(*_arguments: Any) -> None:
    raise OSError(18, "Invalid cross-device link")


def test_links_of_images_that_are_gone_go_and_the_images_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters.image_files.os, "link", _refuse)
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / "photos" / name)
    options = {"images": "link", "roots": (tmp_path / "photos",)}
    run("semantic-png", project(tmp_path, "a.jpg", "b.jpg"), tmp_path / "out", **options)
    run("semantic-png", project(tmp_path, "a.jpg"), tmp_path / "out", **options)
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["a.jpg"]
    assert (tmp_path / "photos" / "b.jpg").exists()


@pytest.mark.parametrize(("mode", "reference"), [("reference", "a.jpg"), ("none", None)])
def test_images_are_only_named_or_not_even_that(
    tmp_path: Path, mode: str, reference: str | None
) -> None:
    run("coco-panoptic", project(tmp_path, "a.jpg"), tmp_path / "out", images=mode)
    assert not (tmp_path / "out" / "images").exists()
    assert index(tmp_path / "out")[0].get("reference") == reference
    assert panoptic(tmp_path / "out")["images"][0].get("coco_url") == reference


@pytest.mark.parametrize(
    "reference",
    [
        "../secret.png",
        "/data/local-files/?d=../secret.png",
        "file:///etc/passwd",
        "http://127.0.0.1:1/x.png",
        "http://[bad/x.png",
        "s3://bucket/x.png",
    ],
)
def test_what_may_not_be_opened_is_counted_and_its_annotation_exported(
    tmp_path: Path, reference: str
) -> None:
    picture(tmp_path / "secret.png")
    picture(tmp_path / "photos" / "a.png")
    source = project(tmp_path, "a.png", reference)
    options = {"images": "copy", "roots": (tmp_path / "photos",)}
    summary = run("semantic-png", source, tmp_path / "out", **options)
    assert summary.images == 2
    assert summary.dataset["losses"]["images_not_copied"] == 1
    assert summary.dataset["problems"]["counts"] == {"image-not-copied": 1}
    assert list(tree(tmp_path / "out" / "images")) == ["a.png"]
    with pytest.raises(SegstudioError, match="is not in the export"):
        run("semantic-png", source, tmp_path / "strict", strict=True, **options)


def test_an_image_that_was_missing_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    source = project(tmp_path, "a.png")
    options = {"images": "copy", "roots": (tmp_path / "photos",)}
    run("semantic-png", source, tmp_path / "out", **options)
    picture(tmp_path / "photos" / "a.png")
    summary = run("semantic-png", source, tmp_path / "out", **options)
    assert summary.dataset["losses"].get("images_not_copied", 0) == 0
    assert (tmp_path / "out" / "images" / "a.png").exists()


@pytest.mark.parametrize("mode", ["copy", "link"])
@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff and then nothing"])
def test_an_image_that_no_loader_can_open_is_told(
    tmp_path: Path, mode: str, content: bytes
) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    card = run(
        "semantic-png", project(tmp_path, "a.jpg"), tmp_path / "out", images=mode, roots=(tmp_path,)
    ).dataset
    assert card["problems"]["counts"] == {"image-damaged": 1}
    assert (tmp_path / "out" / "images" / "a.jpg").read_bytes() == content


def test_turned_and_exchanged_images_are_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "photos" / "turned.jpg", width=8, height=10, exif=exif)
    picture(tmp_path / "photos" / "scaled.jpg", width=20, height=16)
    summary = run(
        "semantic-png", project(tmp_path, "turned.jpg", "scaled.jpg"), tmp_path / "out",
        images="copy", roots=(tmp_path / "photos",),
    )  # fmt: skip
    assert summary.dataset["problems"]["counts"] == {
        "image-of-other-size": 1, "image-turned-by-exif": 1,
    }  # fmt: skip


def test_a_data_uri_is_written_as_a_file(tmp_path: Path) -> None:
    import base64

    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    run("coco-panoptic", project(tmp_path, uri), tmp_path / "out", images="copy")
    assert tree(tmp_path / "out" / "images") == {"task1.png": buffer.getvalue()}
    assert "base64" not in (tmp_path / "out" / "panoptic.json").read_text()


def test_a_format_says_where_images_belong_and_cannot_leave_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Layout:
        name = "layout"
        summary = "Images in a place of their own"

        def write_image(self, image: Any, context: Any) -> dict[str, Any]:
            place = "../../out.png" if image.task_id == 2 else f"left/{image.file_stem}.png"
            return {"image_file": place}

        def finish(self, records: Any, context: Any) -> None:
            list(records)

    monkeypatch.setattr("exporters.runner.find_exporter", lambda name: Layout())
    picture(tmp_path / "photos" / "a.png")
    picture(tmp_path / "photos" / "b.png")
    summary = run(
        "layout", project(tmp_path, "a.png", "b.png"), tmp_path / "deep" / "out",
        images="copy", roots=(tmp_path / "photos",),
    )  # fmt: skip
    assert (tmp_path / "deep" / "out" / "left" / "a.png").exists()
    assert summary.dataset["losses"]["images_not_copied"] == 1
    assert not list(tmp_path.rglob("out.png"))


def test_an_unknown_mode_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--images takes copy, link, reference, none"):
        run("semantic-png", project(tmp_path, "a.png"), tmp_path / "out", images="move")
    assert not os.path.lexists(tmp_path / "out")
