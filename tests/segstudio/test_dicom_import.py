"""The import from end to end: what is written, resumed, overwritten, refused, masked."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from pydicom import dcmread

from segstudio import dicom_convert, dicom_import
from segstudio.cli import main
from segstudio.dicom_geometry import read_dicom
from segstudio.dicom_import import ImportOptions, run_import
from segstudio.dicom_pixels import parse_window
from segstudio.dicom_volumes import group_volumes
from segstudio.errors import SegstudioError, UsageError
from tests.segstudio.dicom_cases import IDENTITY, add_hidden_identity, make_dataset, write_file
from tests.segstudio.dicom_cases import write_series as write_slices

LABEL_CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="Liver"/></BrushLabels></View>'
)
TAXONOMY = "name: Test\nclasses:\n- {id: 1, name: Liver}\n"

Options = Callable[..., ImportOptions]


@pytest.fixture
def options(tmp_path: Path) -> Options:
    def make(**changes: Any) -> ImportOptions:
        default = ImportOptions(
            paths=(tmp_path / "in",), out=tmp_path / "out", label_config=LABEL_CONFIG,
            taxonomy=TAXONOMY, uid_key_file=tmp_path / "secret", workers=1, show_progress=False,
        )  # fmt: skip
        return replace(default, **changes)

    return make


def tasks_of(out: Path) -> list[dict[str, Any]]:
    return json.loads((out / "tasks.json").read_bytes())


def all_files(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_a_series_becomes_ordered_tasks_with_geometry(tmp_path: Path, options: Options) -> None:
    write_slices(tmp_path / "in")
    summary = run_import(options())
    assert (summary.tasks, summary.images, summary.imported) == (4, 4, 4)
    tasks = tasks_of(tmp_path / "out")
    slices = [read_dicom(task["data"]) for task in tasks]
    assert all(slices)
    assert [one.image_position_mm[2] for one in slices] == [-30.0, -27.5, -25.0, -22.5]
    assert [task["data"]["frame"] for task in tasks] == [0, 1, 2, 3]
    first = tasks[0]["data"]
    assert first["image"] == "/data/local-files/?d=images/series-0001/0000.png"
    assert first["video"] == "series-0001"
    assert first["dicom"]["pixel_spacing_mm"] == [0.5, 0.75]
    assert first["dicom"]["slice_spacing_mm"] == 2.5
    assert first["dicom"]["rescale"] == {"slope": 1.0, "intercept": -1024.0}
    assert first["dicom"]["window"] == {"name": "file", "center": 40.0, "width": 400.0}
    assert tasks[0]["meta"]["segstudio"]["import"]["width_px"] == 8
    (volume,) = group_volumes(slices)
    grid = volume.grid()
    assert grid is not None
    assert grid.spacing_mm == (0.75, 0.5, 2.5)
    # -24 HU and the others through 40/400: (-24 - 39.5) / 399 + 0.5 of 255.
    pictures = [
        cv2.imread(str(tmp_path / f"out/images/series-0001/000{at}.png"), cv2.IMREAD_UNCHANGED)
        for at in range(4)
    ]
    assert [int(picture[0, 0]) for picture in pictures] == [87, 93, 100, 106]
    assert pictures[0].shape == (8, 8)


def test_the_dicom_files_are_readable_and_agree_with_the_tasks(
    tmp_path: Path, options: Options
) -> None:
    write_slices(tmp_path / "in")
    run_import(options())
    for task in tasks_of(tmp_path / "out"):
        told = task["data"]["dicom"]
        written = dcmread(tmp_path / "out" / told["file"])
        assert written.SOPInstanceUID == told["sop_instance_uid"]
        assert written.SeriesInstanceUID == told["series_uid"]
        assert written.FrameOfReferenceUID == told["frame_of_reference_uid"]
        assert list(written.ImagePositionPatient) == told["image_position_mm"]
        assert written.PatientID == task["data"]["patient"]
        assert (written.pixel_array == 1000 + 10 * told["slice"]).all()
    assert (tmp_path / "out/dicom/series-0001/0000.dcm").read_bytes()[:128] == b"\0" * 128


def test_nothing_of_the_patient_is_in_any_output_or_on_the_screen(
    tmp_path: Path, options: Options, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = make_dataset()
    add_hidden_identity(dataset)
    write_file(tmp_path / "in" / "Zyxwvut Qwertha", "IDNUMBER-77114.dcm", dataset)
    write_file(tmp_path / "in", "Qwertha-broken.dcm", make_dataset(uid="1.9", PixelData=b"\0\0"))
    summary = run_import(options(show_progress=True))
    assert summary.imported == 1
    said = "".join(capfd.readouterr())
    everything = b"\n".join(
        name.encode() + b"\n" + content for name, content in all_files(tmp_path / "out").items()
    )
    for value in {*IDENTITY.values(), "Zyxwvut", "Qwertha", "Nowherestadt", "1.2.3.4.5."}:
        assert value.lower().encode() not in (everything + said.encode()).lower()
    report = json.loads((tmp_path / "out/report.json").read_bytes())
    reasons = [entry.get("reason") for entry in report["files"]]
    assert sorted(reasons, key=str)[0] == "Its pixels end too early: it is truncated or damaged."
    page = (tmp_path / "out/report.html").read_text()
    assert "List 1: " in page and "<td>list 1</td>" in page and "ist 0" not in page
    removed = {row["keyword"] for row in report["removals"][0]}
    assert {"PatientBirthDate", "SeriesDescription", "InstitutionName"} <= removed


def test_several_windows_are_several_images_of_one_task(tmp_path: Path, options: Options) -> None:
    from segstudio.label_config import parse_label_config

    write_slices(tmp_path / "in", 2)
    windows = tuple(parse_window(text) for text in ("abdomen", "lung", "-500,100"))
    summary = run_import(options(windows=windows))
    assert (summary.tasks, summary.images) == (2, 6)
    data = tasks_of(tmp_path / "out")[0]["data"]
    keys = ["image_abdomen", "image_lung", "image_cm500w100"]
    assert [key for key in data if key.startswith("image")] == keys
    assert data["dicom"]["window"]["name"] == "abdomen"
    for key in keys:
        assert (tmp_path / "out" / data[key].partition("?d=")[2]).is_file()
    config = parse_label_config((tmp_path / "out/tasks.label-config.xml").read_text())
    assert [image.value_key for image in config.images] == keys


def test_a_zip_archive_gives_what_its_folder_gives(tmp_path: Path, options: Options) -> None:
    paths = write_slices(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    run_import(options())
    run_import(options(paths=(tmp_path / "in.zip",), out=tmp_path / "out2"))
    assert all_files(tmp_path / "out") == all_files(tmp_path / "out2")


def test_workers_change_nothing_and_secrets_change_uids_only(
    tmp_path: Path, options: Options
) -> None:
    write_slices(tmp_path / "in", 20)
    run_import(options())
    run_import(options(out=tmp_path / "out2", workers=2))
    assert all_files(tmp_path / "out") == all_files(tmp_path / "out2")
    run_import(options(out=tmp_path / "out3", uid_key_file=None))
    before, after = tasks_of(tmp_path / "out")[0], tasks_of(tmp_path / "out3")[0]
    assert before["data"]["dicom"]["series_uid"] != after["data"]["dicom"]["series_uid"]
    assert before["data"]["image"] == after["data"]["image"]


def test_the_key_is_apart_private_and_leads_back(tmp_path: Path, options: Options) -> None:
    paths = write_slices(tmp_path / "in", 2)
    run_import(options())
    assert not list(tmp_path.glob("*key*"))
    key = tmp_path / "apart" / "key.jsonl"
    run_import(options(key=key))
    assert key.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in key.read_text().splitlines()]
    assert sorted(line["source"] for line in lines) == sorted(map(str, paths))
    task = tasks_of(tmp_path / "out")[0]["data"]
    (line,) = [one for one in lines if task["dicom"]["sop_instance_uid"] in one["uids"].values()]
    assert line["original"]["PatientID"] == IDENTITY["PatientID"]
    assert line["patient"] == task["patient"]
    assert sorted(path.name for path in key.parent.iterdir()) == ["key.jsonl"]
    with pytest.raises(UsageError, match="given away"):
        run_import(options(key=tmp_path / "out" / "key.jsonl"))


def test_a_killed_run_leaves_the_old_output_and_the_next_one_goes_on(
    tmp_path: Path, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_slices(tmp_path / "in", 2)
    run_import(options(uid_key_file=None))
    old = all_files(tmp_path / "out")
    write_slices(tmp_path / "in", 6)
    asked: list[int] = []
    convert = dicom_convert.convert_file

    def interrupted(settings: Any, planned: Any) -> Any:
        asked.append(planned.slices[0])
        if len(asked) == 4:
            raise KeyboardInterrupt
        return convert(settings, planned)

    key = tmp_path / "key"
    monkeypatch.setattr(dicom_import, "convert_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_import(options(uid_key_file=None, key=key))
    assert all_files(tmp_path / "out") == old
    assert not key.exists()
    half = tmp_path / ".out.segstudio-part"
    assert (half / ".state.json").stat().st_mode & 0o777 == 0o600
    with (half / ".journal.jsonl").open("ab") as journal:
        journal.write(b'{"number": 4, "cut off')
    summary = run_import(options(uid_key_file=None, key=key))
    assert summary.resumed == 3
    assert asked == [0, 1, 2, 3, 3, 4, 5]
    tasks = tasks_of(tmp_path / "out")
    assert [task["data"]["frame"] for task in tasks] == list(range(6))
    assert len({task["data"]["dicom"]["series_uid"] for task in tasks}) == 1
    assert len(key.read_text().splitlines()) == 6
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"in", "out", "key"}


def test_other_options_start_anew_over_an_older_import(tmp_path: Path, options: Options) -> None:
    write_slices(tmp_path / "in", 3)
    run_import(options())
    run_import(options(with_dicom=False, image_root_url="s3://bucket/ct"))
    assert not (tmp_path / "out" / "dicom").exists()
    data = tasks_of(tmp_path / "out")[0]["data"]
    assert data["image"] == "s3://bucket/ct/images/series-0001/0000.png"
    assert data["dicom"]["file"] is None


def test_places_that_must_not_be_written_are_refused(tmp_path: Path, options: Options) -> None:
    write_slices(tmp_path / "in", 1)
    with pytest.raises(UsageError, match="where the originals are"):
        run_import(options(out=tmp_path / "in" / "out"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("years of work")
    with pytest.raises(UsageError, match=r"no import wrote, such as 'thesis.doc'"):
        run_import(options())
    (tmp_path / "out" / "thesis.doc").rename(tmp_path / "out" / "tasks.json")
    with pytest.raises(UsageError, match="was not written by"):
        run_import(options())
    assert (tmp_path / "out" / "tasks.json").read_text() == "years of work"


def test_nothing_readable_is_an_error_that_gives_the_first_reason(
    tmp_path: Path, options: Options
) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SegstudioError, match="no file in what was given"):
        run_import(options())
    (tmp_path / "in" / "a.txt").write_text("text")
    with pytest.raises(SegstudioError, match=r"None of the 1 files .* It is no DICOM file"):
        run_import(options())
    assert not (tmp_path / "out").exists()


def test_copies_of_an_instance_are_imported_once_and_listed(
    tmp_path: Path, options: Options
) -> None:
    write_file(tmp_path / "in", "a.dcm", make_dataset())
    write_file(tmp_path / "in", "b.dcm", make_dataset())
    run_import(options())
    report = json.loads((tmp_path / "out/report.json").read_bytes())
    assert report["files"][1]["reason"] == (
        "It is the same DICOM instance as file-000001, which stands for both."
    )


def test_another_image_under_a_uid_that_is_taken_is_not_called_a_copy(
    tmp_path: Path, options: Options
) -> None:
    write_file(tmp_path / "in", "a.dcm", make_dataset(z_mm=0))
    write_file(tmp_path / "in", "b.dcm", make_dataset(z_mm=5, number=2))
    run_import(options())
    report = json.loads((tmp_path / "out/report.json").read_bytes())
    assert report["files"][1]["reason"] == (
        "It has the SOP instance UID of file-000001 and is another image (its place, number or"
        " frames differ). Give each file a UID of its own, or import them apart."
    )


def text_picture() -> np.ndarray:
    picture = np.full((64, 160), 40, np.uint8)
    cv2.putText(picture, "QWERTHA ZYX", (8, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    return picture


@pytest.mark.parametrize("policy", ["warn", "mask", "drop"])
def test_text_in_the_pixels_is_warned_about_masked_or_dropped(
    tmp_path: Path, options: Options, policy: str
) -> None:
    plain = {"WindowCenter": None, "WindowWidth": None, "RescaleIntercept": 0}
    text = make_dataset(text_picture(), modality="US", uid="1.7", SeriesInstanceUID="1.8", **plain)
    write_file(tmp_path / "in", "text.dcm", text)
    write_file(tmp_path / "in", "z.dcm", make_dataset())
    summary = run_import(options(burned_in=policy))
    row = summary.series[0]
    assert row.text_verdict == "suspected"
    assert len(row.text_boxes) >= 1
    page = (tmp_path / "out/report.html").read_text()
    if policy == "drop":
        assert (summary.tasks, row.slices, row.needs_a_look) == (1, 0, False)
        return
    assert row.needs_a_look and "before you give them away" in page
    shown = cv2.imread(str(tmp_path / "out/images/series-0001/0000.png"), cv2.IMREAD_UNCHANGED)
    written = dcmread(tmp_path / "out/dicom/series-0001/0000.dcm")
    for pixels in (shown, written.pixel_array):
        assert (pixels.max() == 255) == (policy == "warn")
    codes = [item.CodeValue for item in written.DeidentificationMethodCodeSequence]
    assert ("113101" in codes) == (policy == "mask")


def test_a_box_that_is_asked_for_is_blacked_out_everywhere(
    tmp_path: Path, options: Options
) -> None:
    write_slices(tmp_path / "in", 1, PhotometricInterpretation="MONOCHROME1")
    run_import(options(mask_regions=((0, 0, 4, 2),), windows=(parse_window("-1000,100"),)))
    written = dcmread(tmp_path / "out/dicom/series-0001/0000.dcm").pixel_array
    assert (written == 1000).all()  # one value only, which is the darkest
    dataset = make_dataset()
    write_file(tmp_path / "in2", "a.dcm", dataset)
    run_import(
        options(paths=(tmp_path / "in2",), out=tmp_path / "o2", mask_regions=((0, 0, 4, 2),))
    )
    written = dcmread(tmp_path / "o2/dicom/series-0001/0000.dcm").pixel_array
    expected = dataset.pixel_array.copy()
    expected[:2, :4] = 0
    assert np.array_equal(written, expected)


def test_memory_does_not_grow_with_the_frames_of_a_file(tmp_path: Path, options: Options) -> None:
    frame = np.arange(512 * 512, dtype=np.int64).reshape(512, 512) % 3000
    pixels = np.repeat(frame[None].astype(np.int16), 80, axis=0)
    write_file(tmp_path / "in", "a.dcm", make_dataset(pixels, ImagePositionPatient=None))
    total_bytes = pixels.nbytes
    del pixels
    run_import(options(out=tmp_path / "warm", paths=(tmp_path / "in",), with_dicom=False))
    tracemalloc.start()
    try:
        run_import(options())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total_bytes > 40e6
    assert peak_bytes < 0.4 * total_bytes


def test_the_command_says_what_happened_where_and_what_next(tmp_path: Path) -> None:
    write_slices(tmp_path / "in", 2)
    (tmp_path / "in" / "notes.txt").write_text("text")
    arguments = ["dicom", "import", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*arguments, "--window", "liver", "--workers", "1"])
    assert done.exit_code == 0, done.output
    for part in ("2 tasks with 2 images of 1 series from 2 of 3 files", "1 x It is no DICOM file",
                 "report.html", "Next: make a project with"):  # fmt: skip
        assert part in done.output
    listed = CliRunner().invoke(main, ["dicom", "files", str(tmp_path / "in")])
    assert listed.output.splitlines()[2].startswith("file-000003  ")
    wrong = CliRunner().invoke(main, [*arguments, "--window", "kidney"])
    assert wrong.exit_code == 2
