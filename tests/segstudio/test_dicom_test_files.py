"""The bars on pydicom's own test files: each imported or listed, no crash, no identity left.

The rule of the search: of every file the values of the attributes that the profile lists, of all
private ones and of the file meta information are taken, at any depth, and looked for in the raw
bytes of every output. Not looked for are
- values shorter than 4 characters, and values of one character repeated ("000000");
- numbers as such (DS, IS, binary ones): a "1.0" is everywhere; dates, times, ages and UIDs are;
- UIDs that the standard registers (a SOP class);
- values that rightly stand there: equal to, or part of, a value of the same file that the profile
  keeps (InstitutionName "GE MEDICAL SYSTEMS" where that is the Manufacturer), and words of our own
  that stand in the output of any file, such as "patient".
A value of digits counts where it stands alone, not inside longer numbers. Values of fewer than 8
bytes are not looked for among pixels (compressed in PNG, or PixelData), where chance writes them.
"""

from __future__ import annotations

import json
import random
import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from segstudio.dicom_deidentify import profile_actions
from segstudio.dicom_geometry import read_dicom
from segstudio.dicom_import import ImportOptions, ImportSummary, run_import
from segstudio.errors import SegstudioError
from tests.segstudio.dicom_cases import make_dataset, write_file

LABEL_CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="Liver"/></BrushLabels></View>'
)
TAXONOMY = "name: Test\nclasses:\n- {id: 1, name: Liver}\n"
FOLDER = Path(get_testdata_files("CT_small.dcm")[0]).parent
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
# 50 headers without pixels are alike; the import of the whole folder has them all.
EACH = [path for path in FILES if "TINY_ALPHA" not in path.parts or path.name < "IM000003"]
TEXT_VRS = {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR",
            "UT"}  # fmt: skip
IMAGES = 90
"""How many of the files in pydicom 3.0's wheel are images that can be decoded."""
NOT_DECODED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "Its pixels cannot be decoded",
    "MR_truncated.dcm": "Its pixels end too early",
    "badVR.dcm": "Its number of frames is no number",
}


def options_of(path: Path, out: Path, secret: Path) -> ImportOptions:
    return ImportOptions(
        paths=(path,), out=out, label_config=LABEL_CONFIG, taxonomy=TAXONOMY,
        uid_key_file=secret, workers=1, show_progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A fixed secret, so that what the search sees does not depend on chance.
    path = tmp_path_factory.mktemp("secret") / "secret"
    path.write_bytes(b"of the tests: 0123456789")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def own_words(tmp_path_factory: pytest.TempPathFactory, secret: Path) -> bytes:
    """What every output holds, whoever the patient is."""
    folder = tmp_path_factory.mktemp("own")
    nobody = dict.fromkeys(("PatientName", "PatientID", "InstitutionName"))
    write_file(folder / "in", "a.dcm", make_dataset(**nobody))
    run_import(options_of(folder / "in", folder / "out", secret))
    return b"\n".join(content for _, content, _ in contents(folder / "out")).lower()


@pytest.mark.parametrize("path", EACH, ids=[path.relative_to(FOLDER).as_posix() for path in EACH])
def test_each_file_is_imported_or_listed_and_leaves_no_identity(
    path: Path, tmp_path: Path, secret: Path, own_words: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    try:
        run_import(options_of(path, out, secret))
    except SegstudioError as error:
        text = str(error)
    else:
        text = ""
        tasks = json.loads((out / "tasks.json").read_bytes())
        assert tasks
        for task in tasks:
            assert read_dicom(task["data"]) is not None
    said = "".join(capfd.readouterr())
    values = identifying_values(path, own_words)
    assert list(search(values, "said", (text + said).encode(), 1)) == []
    leaks = [
        found
        for name, content, least in contents(out)
        for found in search(values, name, content, least)
    ]
    assert leaks == []


def test_the_whole_folder_in_one_import(tmp_path: Path, secret: Path) -> None:
    out = tmp_path / "out"
    summary = run_import(options_of(FOLDER, out, secret))
    report = json.loads((out / "report.json").read_bytes())
    assert summary.files == len(report["files"]) == len(FILES)
    reasons = {entry["file"]: entry.get("reason", "") for entry in report["files"]}
    names = [path.name for path in in_order(out, secret)]
    by_name = dict(zip(names, reasons.values(), strict=True))
    same = {name for name, reason in by_name.items() if "the same DICOM instance" in reason}
    # pydicom has files of one and of several frames under one UID: other images, named as that.
    doubled = {name for name, reason in by_name.items() if "has the SOP instance UID of" in reason}
    assert len(doubled) == 6
    same |= doubled
    for name, reason in NOT_DECODED.items():
        assert name in same or by_name[name].startswith(reason)
    decoded = sum(not reason for reason in reasons.values())
    assert decoded + len(same - NOT_DECODED.keys()) == IMAGES
    patients_values = {
        value for path in FILES for value in identifying_values(path, b"", only=("PN", "UI"))
    }
    leaks = [
        found
        for name, content, least in contents(out)
        for found in search(patients_values, name, content, least)
    ]
    assert leaks == []


def in_order(out: Path, secret: Path) -> list[Path]:
    from segstudio.dicom_files import find_files

    return [found.path for found in find_files([FOLDER])]


def identifying_values(
    path: Path, own_words: bytes, only: tuple[str, ...] = ()
) -> dict[bytes, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = dcmread(path, force=True, stop_before_pixels=True)
        except Exception:
            return {}
        listed: dict[str, str] = {}
        kept: set[str] = set()
        for part in (dataset, getattr(dataset, "file_meta", Dataset())):
            collect(part, part is not dataset, listed, kept)
    values = {}
    for text, keyword in listed.items():
        vr = keyword.partition(" ")[0]
        if len(text) < 4 or len(set(text)) == 1 or (only and vr not in only):
            continue
        if text in UID_dictionary or any(text.lower() in one.lower() for one in kept):
            continue
        if text.lower().encode() in own_words:
            continue
        values[text.encode("utf-8", "replace")] = keyword
    return values


def collect(dataset: Dataset, is_listed: bool, listed: dict[str, str], kept: set[str]) -> None:
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
            value = element.value
        except Exception:
            continue
        action = profile_actions().get((tag.group, tag.element), "")
        inside = is_listed or tag.is_private or bool(action)
        if element.VR == "SQ":
            for item in value or ():
                # Of references (X/Z/U*) the UIDs are replaced, the codes stay.
                collect(item, inside and action != "X/Z/U*", listed, kept)
            continue
        if element.VR == "UN" and isinstance(value, bytes) and value.isascii():
            value = value.decode().strip("\0 ")
        elif element.VR not in TEXT_VRS or value is None:
            continue
        for one in map(str, value if isinstance(value, MultiValue) else [value]):
            if inside:
                listed[one.strip()] = f"{element.VR} {element.keyword or tag}"
            else:
                kept.add(one.strip())


def contents(out: Path) -> Iterator[tuple[str, bytes, int]]:
    """Yield (name, bytes, least length of the values to look for) of all outputs."""
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        yield f"the name {name}", name.encode(), 1
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".png":
            kinds = [kind for kind, _ in png_chunks(content)]
            assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}
            yield name, b"".join(data for kind, data in png_chunks(content) if kind == b"IDAT"), 8
        elif path.suffix == ".dcm":
            pixels_at = max(content.rfind(b"\xe0\x7f" + tag) for tag in (b"\x10\0", b"\x08\0"))
            yield name, content[:pixels_at], 1
            yield name, content[pixels_at:], 8
        else:
            # Our own numbers of files look like times.
            yield name, re.sub(rb"file-\d{6}", b"", content), 1


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        kind, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + data) == int.from_bytes(content[at + 8 + length :][:4], "big")
        yield kind, data
        at += length + 12


def search(
    values: dict[bytes, str] | set[bytes], name: str, content: bytes, least: int
) -> Iterator[tuple[str, bytes]]:
    for value in values:
        if len(value) < least or value not in content:
            continue
        before = rb"(?<![\d.])" if value[:1].isdigit() else b""
        after = rb"(?![\d])" if value[-1:].isdigit() else b""
        if re.search(before + re.escape(value) + after, content):
            yield name, value


def test_the_search_finds_what_is_there(tmp_path: Path, secret: Path, own_words: bytes) -> None:
    path = write_file(tmp_path / "in", "a.dcm", make_dataset())
    values = identifying_values(path, own_words)
    found = {value for _, value in search(values, "a", path.read_bytes(), 1)}
    assert {b"Zyxwvut^Qwertha", b"IDNUMBER-77114", b"19470613", b"1.2.3.4.5.100"} <= found
    summary: ImportSummary = run_import(options_of(path, tmp_path / "out", secret))
    assert summary.tasks == 1
    assert not any(
        list(search(values, name, content, least))
        for name, content, least in contents(tmp_path / "out")
    )


@pytest.mark.parametrize("seed", range(12))
def test_damaged_copies_are_imported_or_refused_in_a_sentence(
    seed: int, tmp_path: Path, secret: Path
) -> None:
    chance = random.Random(seed)
    names = ("CT_small.dcm", "MR_small_RLE.dcm", "examples_palette.dcm", "MR_small_bigendian.dcm",
             "JPEG2000.dcm", "image_dfl.dcm")  # fmt: skip
    content = bytearray((FOLDER / names[seed % len(names)]).read_bytes())
    if seed % 4 == 3:
        del content[chance.randrange(132, len(content)) :]
    for _ in range(10):
        content[chance.randrange(132, min(len(content), 3000))] = chance.randrange(256)
    path = tmp_path / "damaged.dcm"
    path.write_bytes(content)
    try:
        assert run_import(options_of(path, tmp_path / "out", secret)).tasks >= 1
    except SegstudioError as error:
        assert str(error).startswith("None of the 1 files could be imported. The first reason: ")
