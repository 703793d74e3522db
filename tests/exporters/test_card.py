"""The card: what is inside, who drew it, what was lost; the picture beside it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exporters.card import LOSS_SENTENCES
from segstudio.errors import MediaError
from segstudio.scene import build_scene
from tests.exporters.projects import TAXONOMY, annotation, box, brush, run, source_of, task

QA = {
    "tasks": [{"id": 1}, {"id": 77}],
    "batch": {
        "verdict": "fail",
        "compared_tasks": 12,
        "miou": {"accumulated": 0.8125, "per_image": 0.8},
        "gates": [],
        "pairs": 3,
    },
}


def exported(tmp_path: Path, **options: Any) -> Path:
    tasks = [
        task(
            1,
            "/data/upload/a.jpg",
            annotation(1, 5, [brush("a", "car", box(0, 0, 2, 2)), brush("b", "glare", LINE)]),
        ),
        task(
            2,
            "/data/upload/b.jpg",
            annotation(2, 6, [brush("c", "car", box(0, 0, 4, 4)), brush("d", "car", LINE)],
                       updated_at="2026-05-01T00:00:00Z"),
        ),
        task(3, "/data/upload/c.jpg"),
    ]  # fmt: skip
    run("coco-panoptic", source_of(tmp_path, tasks), tmp_path / "out", **options)
    return tmp_path / "out"


LINE = box(7, 0, 8, 10)


def test_dataset_json_counts_what_is_inside(tmp_path: Path) -> None:
    card = json.loads((exported(tmp_path) / "dataset.json").read_text())
    assert card["format"] == "coco-panoptic" and card["source"] == "tasks.json"
    assert card["images"] == 2 and card["images_without_segments"] == 0
    assert card["annotators"] == [{"id": 5, "images": 1}, {"id": 6, "images": 1}]
    assert card["last_annotation_at"] == "2026-05-01T00:00:00Z"
    assert card["annotations"]["tasks_read"] == 3 and card["annotations"]["tasks_taken"] == 2
    car, road = card["classes"]
    assert (car["images"], car["segments"], car["pixels"]) == (2, 3, 4 + 16 + 10)
    assert (road["images"], road["segments"], road["pixels"]) == (0, 0, 0)
    assert card["pixels"] == {"total": 160, "void": 10, "unlabelled": 160 - 10 - 30}
    assert not any(card["losses"].values())
    assert card["qa"] is None


@pytest.mark.parametrize(
    "times, last",
    [
        (("2026-05-01T01:00:00+02:00", "2026-04-30T22:30:00Z"), "2026-04-30T23:00:00Z"),
        (("2026-05-01T09:00:00+09:00", "2026-05-01T00:30:00.25Z"), "2026-05-01T00:30:00.25Z"),
        (("2026-05-01T00:00:00.5Z", "2026-05-01T00:00:00Z"), "2026-05-01T00:00:00.5Z"),
        (("2026-05-01T00:00:00+00:00", "2026-04-01T00:00:00Z"), "2026-05-01T00:00:00+00:00"),
        (("last Monday", "2026-04-01T00:00:00Z"), "2026-04-01T00:00:00Z"),
        (("last Monday", "last Friday"), "last Monday"),
        (("0001-01-01T00:00:00+02:00", None), "0001-01-01T00:00:00+02:00"),
    ],
)
def test_the_last_change_is_said_in_utc(
    tmp_path: Path, times: tuple[str | None, ...], last: str
) -> None:
    tasks = [
        task(
            number,
            f"/data/upload/{number}.jpg",
            annotation(number, 5, [brush("a", "car", LINE)], updated_at=time, created_at=None),
        )
        for number, time in enumerate(times, 1)
    ]
    run("coco-panoptic", source_of(tmp_path, tasks), tmp_path / "out")
    card = json.loads((tmp_path / "out/dataset.json").read_text())
    assert card["last_annotation_at"] == last


def test_the_readme_says_the_same_in_words(tmp_path: Path) -> None:
    text = (exported(tmp_path) / "README.md").read_text()
    assert "# streets: 2 images as coco-panoptic" in text
    assert "2 of 3 tasks; 1 not annotated" in text
    assert "| 1 | car | thing | 2 | 3 | 30 | 100.00 % |" in text
    assert "Nothing: every region is in the export" in text
    assert str(tmp_path) not in text


def test_the_qa_verdict_is_on_the_card(tmp_path: Path) -> None:
    out = exported(tmp_path, qa=QA)
    card = json.loads((out / "dataset.json").read_text())
    assert card["qa"] == {
        "verdict": "fail", "compared_tasks": 12, "gates": [],
        "miou": {"accumulated": 0.8125, "per_image": 0.8}, "measured_tasks_of_this_export": 1,
    }  # fmt: skip
    assert (
        "verdict **fail**, mIoU 0.812 over the batch, 12 tasks" in (out / "README.md").read_text()
    )


def test_every_kind_of_loss_has_a_sentence() -> None:
    scene = build_scene((), TAXONOMY, 2, 2)
    ours = {"instances_merged", "segments_without_their_attributes", "objects_without_majority"}
    assert set(scene.losses) | ours <= set(LOSS_SENTENCES)


def sheet(out: Path) -> np.ndarray:
    with Image.open(out / "contact-sheet.jpg") as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_the_contact_sheet_shows_class_colours_on_grey_without_photos(tmp_path: Path) -> None:
    picture = sheet(exported(tmp_path))
    assert picture.shape == (338, 640, 3)
    assert np.abs(picture[20, 20] - (220, 20, 60)).max() < 12
    assert np.abs(picture[120, 200] - (128, 128, 128)).max() < 12


def test_the_contact_sheet_lays_the_segments_over_the_photo(tmp_path: Path) -> None:
    def picture_of(task_id: int, reference: str) -> np.ndarray:
        if task_id == 2:
            raise MediaError(f"{reference} is gone.")
        return np.full((8, 10, 3), (0, 200, 0), np.uint8)

    picture = sheet(exported(tmp_path, picture_of=picture_of))
    assert np.abs(picture[120, 200] - (0, 200, 0)).max() < 12
    assert np.abs(picture[20, 20] - (110, 110, 30)).max() < 12
    assert np.abs(picture[200, 320 + 300] - (128, 128, 128)).max() < 12
