import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from ml_backend.engines import Embedding, MaskProposal, Prompt
from ml_backend.engines.registry import load_engine
from ml_backend.propagate_command import propagate
from ml_backend.propagation_refine import inner_points, mask_prompt, refine
from segstudio.errors import UsageError
from segstudio.masks import Mask, iou
from segstudio.region_values import mask_to_value
from segstudio.selection import SelectionError
from segstudio.shapes import region_mask
from segstudio.source import open_source
from segstudio.tasks import Task

HEIGHT_PX, WIDTH_PX = 96, 160
CONFIG = """<View><Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image"><Label value="Car"/><Label value="Dog"/></BrushLabels>
  <PolygonLabels name="polygon" toName="image"><Label value="Car"/></PolygonLabels>
  <Number name="track_id" toName="image" perRegion="true"/></View>"""


def car(frame: int) -> Mask:
    dense = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    dense[30:66, 20 + 4 * frame : 60 + 4 * frame] = True
    return Mask.from_dense(dense)


def photo(frame: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 90, (HEIGHT_PX, WIDTH_PX), np.uint8)
    paint = rng.integers(140, 255, (36, 40), np.uint8)
    noise[30:66, 20 + 4 * frame : 60 + 4 * frame] = paint
    gray = cv2.GaussianBlur(noise, (0, 0), 1.2)
    return np.ascontiguousarray(np.repeat(gray[..., None], 3, axis=2), np.uint8)


def items(
    mask: Mask, region_id: str, *, kind: str = "brush", label: str = "Car", track: int | None = None
) -> list[dict[str, Any]]:
    head = {"id": region_id, "to_name": "image", "original_width": WIDTH_PX,
            "original_height": HEIGHT_PX}  # fmt: skip
    value = mask_to_value(mask, kind, [label])  # type: ignore[arg-type]
    result = [{**head, "from_name": kind, "type": f"{kind}labels", "value": value}]
    if track is not None:
        answer = {"number": track}
        result.append({**head, "from_name": "track_id", "type": "number", "value": answer})
    return result


def sequence(
    folder: Path,
    keys: dict[int, list[dict[str, Any]]],
    count: int = 9,
    **data: Any,
) -> Path:
    """An export whose tasks come in another order than their frames."""
    tasks = []
    for frame in range(count):
        Image.fromarray(photo(frame)).save(folder / f"{frame}.png")
        annotations = []
        if frame in keys:
            annotations = [{"id": 100 + frame, "completed_by": 1, "result": keys[frame]}]
        fields = {"image": f"{frame}.png", "video": "clip", "frame": frame, **data}
        tasks.append({"id": frame + 1, "data": fields, "annotations": annotations})
    path = folder / "batch.json"
    path.write_text(json.dumps(tasks[::-1]))
    path.with_suffix(".label-config.xml").write_text(CONFIG)
    return path


def run(path: Path, *arguments: object) -> Result:
    return CliRunner().invoke(propagate, [str(path), *map(str, arguments)])


def predicted(path: Path, *arguments: object) -> tuple[dict[int, Task], str]:
    """The tasks with predictions by frame, read back as any source, and what was said."""
    out = path.with_name("predictions.json")
    result = run(path, "--out", out, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    tasks = {int(task.data["frame"]): task for task in open_source(str(out)).tasks()}
    return tasks, result.output


@pytest.mark.parametrize("photos", [True, False])
def test_frames_between_key_frames_get_the_object_where_it_is(tmp_path: Path, photos: bool) -> None:
    path = sequence(tmp_path, {0: items(car(0), "a"), 8: items(car(8), "a")})
    arguments = ["--local-root", tmp_path, "--no-refine"] if photos else ["--no-photos"]
    tasks, said = predicted(path, *arguments)
    assert sorted(tasks) == [1, 2, 3, 4, 5, 6, 7]
    for frame, task in tasks.items():
        (prediction,) = task.predictions
        (region,) = prediction.regions
        assert prediction.model_version == "segstudio-propagation"
        assert (iou(region_mask(region), car(frame)) or 0) > (0.93 if photos else 0.9)
        assert (region.id, region.origin, region.labels) == ("a", "prediction", ("Car",))
        assert region.source["track_id"] == "a" and 0 < (region.score or 0) <= 1
    by_flow, by_shapes = (7, 0) if photos else (0, 7)
    assert f"optical flow: {by_flow} frames; by their shapes alone: {by_shapes}" in said


def test_kind_of_region_and_given_tracks_are_kept(tmp_path: Path) -> None:
    first = items(car(0), "a", kind="polygon", track=7)
    path = sequence(tmp_path, {0: first, 4: items(car(4), "other", track=7)}, 5)
    tasks, _ = predicted(path, "--no-photos")
    regions = {frame: task.predictions[0].regions[0] for frame, task in tasks.items()}
    assert [regions[frame].kind for frame in (1, 2, 3)] == ["polygon", "polygon", "brush"]
    assert {one.id for one in regions.values()} == {"a"}
    assert all(one.attributes["track_id"] == 7 for one in regions.values())


def test_what_only_one_key_frame_has_ends_at_the_middle(tmp_path: Path) -> None:
    both = [*items(car(0), "a"), *items(car(0), "b", label="Dog")]
    path = sequence(tmp_path, {0: both, 8: items(car(8), "a")})
    tasks, said = predicted(path, "--no-photos")
    dogs = [f for f, task in tasks.items() if len(task.predictions[0].regions) == 2]
    assert sorted(dogs) == [1, 2, 3, 4]
    assert "4 masks come from one key frame only" in said


def test_an_empty_key_frame_says_that_there_is_nothing(tmp_path: Path) -> None:
    path = sequence(tmp_path, {0: [], 8: items(car(8), "a")})
    tasks, said = predicted(path, "--no-photos")
    assert sorted(tasks) == [4, 5, 6, 7]
    assert "3 frames hold nothing" in said


def test_masks_reach_so_far_and_no_further(tmp_path: Path) -> None:
    path = sequence(tmp_path, {4: items(car(4), "a")}, 12)
    tasks, said = predicted(path, "--no-photos", "--beyond", 2)
    assert sorted(tasks) == [2, 3, 5, 6]
    assert "7 frames are too far from a key frame" in said
    path = sequence(tmp_path, {0: items(car(0), "a"), 8: items(car(8), "a")})
    tasks, _ = predicted(path, "--no-photos", "--reach", 2)
    assert sorted(tasks) == [1, 2, 6, 7]


def test_key_frames_are_those_asked_for(tmp_path: Path) -> None:
    keys = {frame: items(car(frame), "a") for frame in range(9)}
    path = sequence(tmp_path, keys)
    tasks, _ = predicted(path, "--no-photos", "--every", 4)
    assert sorted(tasks) == [1, 2, 3, 5, 6, 7]
    tasks, _ = predicted(path, "--no-photos", "--every", 8, "--with-keys")
    assert sorted(tasks) == list(range(9))
    assert region_mask(tasks[8].predictions[0].regions[0]) == car(8)
    path = sequence(tmp_path, keys, key_frame=True)
    tasks, said = predicted(path, "--no-photos", "--keys", "marked")
    assert tasks == {} and "9 key frames" in said


def test_a_missing_photo_leaves_its_stretch_to_the_shapes(tmp_path: Path) -> None:
    keys = {frame: items(car(frame), "a") for frame in (0, 4, 8)}
    path = sequence(tmp_path, keys)
    (tmp_path / "2.png").unlink()
    tasks, said = predicted(path, "--no-refine", "--local-root", tmp_path)
    assert sorted(tasks) == [1, 2, 3, 5, 6, 7]
    assert "optical flow: 3 frames; by their shapes alone: 3" in said
    assert "1 photos could not be opened" in said


def test_the_same_input_gives_the_same_bytes_and_nothing_is_changed(tmp_path: Path) -> None:
    path = sequence(tmp_path, {0: items(car(0), "a"), 4: items(car(4), "a")}, 5)
    before = path.read_bytes()
    out = tmp_path / "predictions.json"
    predicted(path, "--no-photos")
    first = out.read_bytes()
    predicted(path, "--no-photos")
    assert out.read_bytes() == first and path.read_bytes() == before
    out.unlink()
    said = run(path, "--no-photos", "--dry-run", "--out", out).output
    assert "Nothing was written" in said and not out.exists()


def test_tasks_without_a_frame_and_doubled_frames_are_counted(tmp_path: Path) -> None:
    path = sequence(tmp_path, {0: items(car(0), "a"), 4: items(car(4), "a")}, 5)
    tasks = json.loads(path.read_text())
    tasks.append({"id": 90, "data": {"image": "x.png"}})
    tasks.append({"id": 91, "data": {"image": "x.png", "video": "clip", "frame": 2}})
    path.write_text(json.dumps(tasks))
    found, said = predicted(path, "--no-photos")
    assert sorted(found) == [1, 2, 3]
    assert "1 tasks name no video or frame" in said and "1 tasks are a second one" in said


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        ((), UsageError, "--out FILE.json"),
        (("--write-back",), UsageError, "project:ID"),
        (("--undo",), UsageError, "project:ID"),
        (("--out", "x.csv"), UsageError, ".json"),
        (("--dry-run", "--annotations", "all"), UsageError, "several together"),
    ],
)
def test_calls_that_make_no_sense_are_refused(
    tmp_path: Path, arguments: tuple[object, ...], kind: type[Exception], says: str
) -> None:
    path = sequence(tmp_path, {0: items(car(0), "a")}, 2)
    result = run(path, *arguments)
    assert isinstance(result.exception, kind) and says in str(result.exception)


def test_two_annotators_are_never_mixed_and_no_key_frame_is_said(tmp_path: Path) -> None:
    path = sequence(tmp_path, {0: items(car(0), "a")}, 2)
    tasks = json.loads(path.read_text())
    tasks[1]["annotations"].append({**tasks[1]["annotations"][0], "id": 9, "completed_by": 2})
    path.write_text(json.dumps(tasks))
    result = run(path, "--dry-run", "--no-photos")
    assert isinstance(result.exception, SelectionError) and "user:1" in str(result.exception)
    result = run(sequence(tmp_path, {}, 2), "--dry-run", "--no-photos")
    assert isinstance(result.exception, SelectionError)


class FixedEngine:
    """Outlines the same mask whatever it is asked, and remembers the prompt."""

    def __init__(self, mask: Mask) -> None:
        self.name = self.model_version = self.cache_key = "fixed"
        self.notice = None
        self.mask = mask
        self.prompts: list[Prompt] = []

    def encode(self, image_rgb: NDArray[np.uint8]) -> Embedding:
        return Embedding({}, *image_rgb.shape[:2])

    def predict(self, embedding: Embedding, prompt: Prompt) -> MaskProposal:
        self.prompts.append(prompt)
        return MaskProposal(self.mask.to_dense(), 1.0)


def test_a_refined_mask_is_taken_only_where_it_agrees() -> None:
    embedding = Embedding({}, HEIGHT_PX, WIDTH_PX)
    near, far = car(0).dilate(1), car(9)
    assert refine(FixedEngine(near), embedding, car(0)) == near
    assert refine(FixedEngine(far), embedding, car(0)) is None
    assert refine(FixedEngine(near), Embedding({}, 9, 9), car(0)) is None
    speck = Mask.from_dense(np.eye(3))
    assert refine(FixedEngine(speck), Embedding({}, 3, 3), speck) is None


def test_the_prompt_is_the_box_and_points_deep_inside() -> None:
    prompt = mask_prompt(car(0))
    assert prompt.box_px is not None and prompt.box_px[0] < 20 and prompt.box_px[2] > 59
    assert len(prompt.points_px) == 3
    dense = car(0).to_dense()
    assert all(dense[int(y), int(x)] for x, y in prompt.points_px)
    first, second, _ = prompt.points_px
    assert np.hypot(first[0] - second[0], first[1] - second[1]) > 8
    assert inner_points(np.zeros((4, 4), bool)) == []


def test_the_built_in_model_takes_the_mask_as_a_prompt_and_sharpens_it() -> None:
    engine: Any = load_engine("tiny", "cpu")
    pixels = np.full((HEIGHT_PX, WIDTH_PX, 3), 60, np.uint8)
    pixels[car(0).to_dense()] = 220
    embedding = engine.encode(pixels)
    rough = car(0).shift(1, 1)
    logits = engine.mask_logits(rough.to_dense())
    assert logits.shape == engine.predict(embedding, mask_prompt(rough)).low_res.shape
    # Whole pixels of the image only: below and beside it is padding.
    assert (logits[0, -1] < 0).all() and logits.max() > 0
    found = refine(engine, embedding, rough)
    assert found is not None
    assert (iou(found, car(0)) or 0) > (iou(rough, car(0)) or 0)


class BrightThings:
    """A memory that sees what is bright, whatever it was given."""

    def follow(
        self, frames: Iterable[NDArray[np.uint8]], masks: Sequence[Mask]
    ) -> Iterator[tuple[Mask, ...]]:
        for number, pixels in enumerate(frames):
            if number:
                yield (Mask.from_dense(pixels[..., 0] > 115),) * len(masks)


def test_a_model_s_memory_has_its_say_from_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key frames are drawn too small; the memory sees the whole object."""
    small = {frame: items(car(frame).erode(7), "a") for frame in (0, 4)}
    path = sequence(tmp_path, small, 5)
    arguments = ["--local-root", tmp_path]
    monkeypatch.setattr("ml_backend.propagate_command._embeddings", lambda *_: None)
    monkeypatch.setattr("ml_backend.propagate_command._memory", lambda *_: BrightThings())
    tasks, said = predicted(path, *arguments)
    assert "own memory of the video: 3 frames" in said
    for frame, task in tasks.items():
        (region,) = task.predictions[0].regions
        drawn = iou(car(frame).erode(7), car(frame)) or 0
        assert (iou(region_mask(region), car(frame)) or 0) > 0.75 > 0.5 > drawn
    (tmp_path / "2.png").unlink()
    assert "own memory" not in predicted(path, *arguments)[1]


def test_masks_are_refined_on_the_way_and_embeddings_are_kept(tmp_path: Path) -> None:
    path = sequence(tmp_path, {0: items(car(0), "a"), 3: items(car(3), "a")}, 4)
    folder = tmp_path / "embeddings"
    arguments = ["--local-root", tmp_path, "--embeddings-dir", folder, "--device", "cpu"]
    tasks, said = predicted(path, *arguments)
    assert sorted(tasks) == [1, 2] and "refined by the model" in said
    assert len([one for one in folder.rglob("*") if one.is_file()]) == 2
