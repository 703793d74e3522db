import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from label_configs import load_label_config
from segstudio.errors import MediaError, UsageError
from segstudio.frame_files import FrameChoice, find_sources, natural_key
from segstudio.frames_command import frames
from segstudio.images import annotated_images
from segstudio.key_frames import KeyFrameRule, histogram_change, motion_share
from segstudio.source import open_source
from segstudio.tasks import Annotation
from segstudio.taxonomy import load_taxonomy

HEIGHT_PX, WIDTH_PX = 48, 80


def picture(shift_px: int = 0, seed: int = 1) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT_PX, 400), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)[:, 200 - shift_px : 200 - shift_px + WIDTH_PX]
    return np.ascontiguousarray(np.repeat(smooth[..., None], 3, axis=2), np.uint8)


def video(path: Path, pictures: list[NDArray[np.uint8]], fps: float = 10) -> Path:
    code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, fps, (WIDTH_PX, HEIGHT_PX))
    assert writer.isOpened()
    for one in pictures:
        writer.write(one)
    writer.release()
    return path


def folder(path: Path, names: list[str]) -> Path:
    path.mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(np.full((HEIGHT_PX, WIDTH_PX, 3), number * 20, np.uint8)).save(path / name)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(frames, ["import", *map(str, arguments)])


def imported(*arguments: object, out: Path) -> list[dict[str, Any]]:
    result = run(*arguments, "--out", out)
    assert result.exit_code == 0, (result.output, result.exception)
    tasks: list[dict[str, Any]] = json.loads((out / "tasks.json").read_text(encoding="utf-8"))
    return tasks


@pytest.mark.parametrize("ending", [".mp4", ".avi"])
def test_a_video_becomes_tasks_in_its_order_with_times(tmp_path: Path, ending: str) -> None:
    path = video(tmp_path / f"my clip{ending}", [picture(at) for at in range(12)])
    tasks = imported(path, "--key-every", 5, out=tmp_path / "out")
    datas = [task["data"] for task in tasks]
    assert [one["frame"] for one in datas] == list(range(12))
    assert [one["time_s"] for one in datas] == pytest.approx([at / 10 for at in range(12)])
    assert {one["video"] for one in datas} == {"my_clip"}
    assert [one["frame"] for one in datas if one["key_frame"]] == [0, 5, 10, 11]
    assert datas[3]["image"] == "/data/local-files/?d=out/images/my_clip/000003.jpg"
    with Image.open(tmp_path / "out" / "images" / "my_clip" / "000003.jpg") as image:
        shown = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(shown - picture(3)).mean() < 12 < np.abs(shown - picture(9)).mean()


def test_what_is_written_is_read_as_a_source_with_interface_and_taxonomy(tmp_path: Path) -> None:
    out = tmp_path / "out"
    imported(folder(tmp_path / "clip", ["a1.png", "a2.png"]), out=out)
    source = open_source(str(out / "tasks.json"))
    assert source.label_config.xml == load_label_config("sequences")
    assert source.taxonomy_path is not None
    assert load_taxonomy(source.taxonomy_path).by_name["Person"].is_thing
    nothing = Annotation(1, (), 1, False, False, None, None, None, None, {}, None, ())
    for task in source.tasks():
        (image,), problems = annotated_images(task, nothing, source.label_config)
        assert (image.height_px, image.width_px, problems) == (HEIGHT_PX, WIDTH_PX, ())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (("--every", 4), [0, 4, 8]),
        (("--fps", 2), [0, 5]),
        (("--start", 0.25, "--stop", 0.65), [3, 4, 5, 6]),
        (("--key-every", 4, "--keys-only"), [0, 4, 8, 9]),
    ],
)
def test_frames_are_chosen_by_number_rate_and_time(
    tmp_path: Path, options: tuple[object, ...], expected: list[int]
) -> None:
    path = video(tmp_path / "clip.avi", [picture(at) for at in range(10)])
    tasks = imported(path, *options, out=tmp_path / "out")
    assert [task["data"]["frame"] for task in tasks] == expected


def test_folders_are_read_in_the_order_people_count(tmp_path: Path) -> None:
    clip = folder(tmp_path / "clip", ["frame10.png", "frame9.png", "frame1.png"])
    (clip / "notes.txt").write_text("no picture")
    (clip / "link.png").symlink_to(tmp_path)
    out = tmp_path / "out"
    tasks = imported(clip, "--source-fps", 4, out=out)
    gray = []
    for task in tasks:
        name = task["meta"]["segstudio"]["import"]["file_name"]
        with Image.open(out / name) as image:
            gray.append(image.getpixel((0, 0))[0])  # type: ignore[index]
    assert gray == [40, 20, 0]  # frame1, frame9, frame10
    assert [task["data"]["time_s"] for task in tasks] == [0, 0.25, 0.5]


def test_numbers_in_names_count_by_value() -> None:
    names = ["b2", "b10", "B1", "b02", "a", "b2x10", "b2x9", "²"]
    assert sorted(names, key=natural_key) == ["a", "B1", "b02", "b2", "b2x9", "b2x10", "b10", "²"]


@pytest.mark.parametrize(
    "name", ["..; rm -rf ~", "a/../b"[:1] + " 'x\" <b>&", "ünï 日本", "-x", "con\nsole", "%2e%2e"]
)
def test_hostile_names_stay_below_the_folder_and_work_as_addresses(
    tmp_path: Path, name: str
) -> None:
    clip = folder(tmp_path / name, ["&?#=../x".replace("/", "_") + ".png", "2.png"])
    out = tmp_path / "out"
    for task in imported(clip, out=out):
        file_name = task["meta"]["segstudio"]["import"]["file_name"]
        assert (out / file_name).resolve().is_relative_to((out / "images").resolve())
        assert ".." not in file_name and not set(file_name) & set("'\"<>&?#\n;")
        assert task["data"]["image"].startswith("/data/local-files/?d=out/images/")


def test_a_folder_of_clips_is_many_videos_and_names_never_collide(tmp_path: Path) -> None:
    for name in ("clip 1", "clip_1", "clip2"):
        folder(tmp_path / "clips" / name, ["1.png", "2.png"])
    video(tmp_path / "clips" / "clip2.avi", [picture()] * 2)
    names = [one.name for one in find_sources([tmp_path / "clips"])]
    assert len({name.lower() for name in names}) == 4
    tasks = imported(tmp_path / "clips", out=tmp_path / "out")
    assert len(tasks) == len({task["data"]["image"] for task in tasks}) == 8


def test_a_killed_import_goes_on_and_finished_pictures_are_not_made_again(tmp_path: Path) -> None:
    clips = [video(tmp_path / f"{n}.avi", [picture(at) for at in range(5)]) for n in "ab"]
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    expected = imported(*clips, out=fresh)
    imported(*clips, out=out)
    (out / "tasks.json").unlink()
    (out / ".segstudio" / "frames" / "b.done").unlink()
    lost = out / "images" / "b" / "000004.jpg"
    lost.unlink()
    kept = out / "images" / "b" / "000001.jpg"
    written_ns = kept.stat().st_mtime_ns
    result = run(*clips, "--out", out)
    assert "1 videos were there already" in result.output
    assert lost.exists() and kept.stat().st_mtime_ns == written_ns
    again = (out / "tasks.json").read_text().replace("?d=out/", "?d=fresh/")
    assert json.loads(again) == expected


def test_a_folder_of_other_options_or_of_somebody_else_is_refused(tmp_path: Path) -> None:
    clip = folder(tmp_path / "clip", ["1.png", "2.png"])
    imported(clip, out=tmp_path / "out")
    refused = run(clip, "--every", 2, "--out", tmp_path / "out")
    assert isinstance(refused.exception, UsageError) and "other sources" in str(refused.exception)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    refused = run(clip, "--out", mine)
    assert isinstance(refused.exception, UsageError) and "thesis.txt" in str(refused.exception)


def test_a_damaged_picture_is_named_and_left_out(tmp_path: Path) -> None:
    clip = folder(tmp_path / "clip", ["1.png", "2.png", "3.png"])
    (clip / "2.png").write_bytes((clip / "2.png").read_bytes()[:60])
    result = run(clip, "--out", tmp_path / "out")
    assert "1 frames could NOT be read" in result.output and "Frame 1 of clip" in result.output
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert [task["data"]["frame"] for task in tasks] == [0, 2]


@pytest.mark.parametrize(
    "content",
    [b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile x\n", b"", b"\0\0"],
)
def test_a_playlist_or_rubbish_is_no_video_and_opens_nothing(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    result = run(path, "--out", tmp_path / "out")
    assert isinstance(result.exception, MediaError) and "no video file" in str(result.exception)


def test_a_video_that_breaks_off_is_read_up_to_there_or_refused(tmp_path: Path) -> None:
    whole = video(tmp_path / "clip.avi", [picture(at) for at in range(20)])
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = run(cut, "--out", tmp_path / "out")
    if result.exit_code == 0:
        assert 2 <= len(json.loads((tmp_path / "out" / "tasks.json").read_text())) < 20
    else:
        assert isinstance(result.exception, MediaError)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--every", 2, "--fps", 1), "not both"),
        (("--fps", 1), "--source-fps"),
        (("--start", 3, "--stop", 2, "--source-fps", 1), "must come after"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, arguments: tuple[object, ...], says: str
) -> None:
    clip = folder(tmp_path / "clip", ["1.png"])
    result = run(clip, *arguments, "--out", tmp_path / "out")
    assert isinstance(result.exception, UsageError) and says in str(result.exception)


def test_tiff_frames_become_pictures_that_browsers_show(tmp_path: Path) -> None:
    tasks = imported(folder(tmp_path / "clip", ["1.tif", "2.tif"]), out=tmp_path / "out")
    assert [task["data"]["image"][-10:] for task in tasks] == ["000000.png", "000001.png"]
    shutil.rmtree(tmp_path / "clip")
    with Image.open(tmp_path / "out" / "images" / "clip" / "000001.png") as image:
        assert image.getpixel((3, 3)) == (20, 20, 20)


def keys(shots: list[list[int]], every: int = 50) -> list[int]:
    """Key frames by motion of shots that each shift by these pixels."""
    rule = KeyFrameRule(every, "motion")
    marked: list[int] = []
    number = 0
    for seed, shifts in enumerate(shots, start=1):
        for shift in shifts:
            gray = picture(shift, seed)[..., 0] // (1 if seed % 2 else 3)
            cut, is_key = rule.add(gray)
            if cut:
                marked.append(number - 1)
            if is_key:
                marked.append(number)
            number += 1
    return sorted(set(marked))


def test_key_frames_follow_motion_and_cuts() -> None:
    still, moving = [0] * 12, [3 * at for at in range(12)]
    assert keys([still]) == [0]
    assert keys([still], every=5) == [0, 5, 10]
    found = keys([moving])
    steps = np.diff(found)  # 6 % of 93 px is 5.6 px: two steps of 3 px
    assert len(found) >= 5 and steps.min() >= 2
    assert keys([still, still]) == [0, 11, 12]


def test_changes_are_known_by_hand() -> None:
    half = np.zeros((4, 4), np.uint8)
    half[:2] = 200
    assert histogram_change(np.zeros((4, 4), np.uint8), half) == pytest.approx(0.5)
    before, after = picture(0)[..., 0], picture(5)[..., 0]
    assert motion_share(before, after) == pytest.approx(5 / np.hypot(48, 80), abs=0.01)


def test_a_rate_above_the_video_s_takes_every_frame() -> None:
    choice = FrameChoice(fps=100)
    assert all(choice.takes(at / 25) for at in range(10))
