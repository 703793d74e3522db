"""Finding and reading: order, links, archives that lie, files without a proper head."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from pydicom.data import get_testdata_files

from segstudio import dicom_files
from segstudio.dicom_files import DicomFileError, find_files, read_header
from segstudio.errors import MissingExtraError, UsageError
from tests.segstudio.dicom_cases import make_dataset, write_file


def test_files_of_folders_and_archives_come_in_natural_order_and_are_numbered(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "in"
    for name in ("i10.dcm", "i9.dcm", "sub/a.dcm"):
        write_file(folder, name, make_dataset())
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        for name in ("10", "9"):
            archive.write(folder / "i9.dcm", name)
    found = list(find_files([folder]))
    assert [(file.name, file.path.name, file.member) for file in found] == [
        ("file-000001", "i9.dcm", ""),
        ("file-000002", "i10.dcm", ""),
        ("file-000003", "z.zip", "9"),
        ("file-000004", "z.zip", "10"),
        ("file-000005", "a.dcm", ""),
    ]
    with found[2].local() as path:
        assert read_header(path).PatientID == "IDNUMBER-77114"
        unpacked = path
    assert not unpacked.exists()


def test_a_path_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        list(find_files([tmp_path / "none"]))


def test_members_that_climb_out_are_unpacked_into_a_folder_of_our_own(tmp_path: Path) -> None:
    file = write_file(tmp_path, "a.dcm", make_dataset())
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.write(file, "../../../climbed.dcm")
        archive.write(file, "/absolute.dcm")
    for found in find_files([tmp_path / "evil.zip"]):
        with found.local() as path:
            assert path.name == "member"
            assert read_header(path).Modality == "CT"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dcm", "evil.zip"]
    assert not (tmp_path.parent / "climbed.dcm").exists()


def test_a_zip_bomb_is_refused_without_unpacking_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * (65 << 20))
    (found,) = find_files([tmp_path / "bomb.zip"])
    assert "zip bomb" in found.refused
    with pytest.raises(DicomFileError, match="zip bomb"), found.local():
        pass


def test_the_sum_of_an_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_files, "MAX_ARCHIVE_BYTES", 1500)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1", b"x" * 1000)
        archive.writestr("2", b"x" * 1000)
    assert [bool(file.refused) for file in find_files([tmp_path / "a.zip"])] == [False, True]


def test_archives_in_archives_and_links_out_of_the_folder_are_listed_not_opened(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    inner = tmp_path / "inner.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a", b"x")
    with zipfile.ZipFile(folder / "outer.zip", "w") as archive:
        archive.write(inner, "inner.zip")
    (folder / "zlink").symlink_to(inner)
    nested, link = find_files([folder])
    with nested.local() as path, pytest.raises(DicomFileError, match="archive in an archive"):
        read_header(path)
    assert "link that leads out" in link.refused


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"no DICOM at all, only text", "no DICOM file"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 40, "pydicom cannot read|holds no"),
        (b"\x08\0\x05\0CS\xff\xff" + b"x" * 10, ""),
    ],
)
def test_what_is_no_dicom_file_says_so_without_quoting_it(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "Zyxwvut.dcm"
    path.write_bytes(content)
    if not reason:
        assert len(read_header(path)) <= 1
        return
    with pytest.raises(DicomFileError, match=reason) as caught:
        read_header(path)
    assert "Zyxwvut" not in str(caught.value)


def test_a_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(get_testdata_files("image_dfl.dcm")[0])
    assert read_header(path).Rows == 512
    monkeypatch.setattr(dicom_files, "MAX_INFLATED_BYTES", 100_000)
    with pytest.raises(DicomFileError, match="deflated"):
        read_header(path)


def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'segstudio\[dicom\]'"):
        dicom_files.require_dicom_packages()
