"""What checking a delivery notices: every change, addition, loss, and other people's signatures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from batch.delivery import SCHEMA
from batch.delivery_files import DeliveryFiles, Verification, verify
from batch.signature import load_private_key, load_public_key, make_key
from segstudio.errors import SourceError, UsageError
from tests.batch.delivery_projects import batch_of, make, settings_of
from tests.batch.walk_through import page_script

SIGNATURE = "manifest.json.sig"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed delivery in `out` and in `out.zip`, with `key.pem` and `key.pub.pem`."""
    folder = tmp_path_factory.mktemp("signed")
    make_key(folder / "key.pem")
    settings = settings_of(
        folder, key=load_private_key(folder / "key.pem"), formats=("semantic-png",)
    )
    for name in ("out", "out.zip"):
        make(batch_of(folder / "in"), folder / name, settings)
    return folder


@pytest.fixture
def place(signed: Path, tmp_path: Path) -> Path:
    """A copy of the delivered folder, to be changed."""
    return Path(shutil.copytree(signed / "out", tmp_path / "out"))


def checked(place: Path, key: Path | None = None) -> Verification:
    with DeliveryFiles(place) as files:
        return verify(files, load_public_key(key) if key else None)


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_an_untouched_delivery_is_whole_and_signed(signed: Path, name: str) -> None:
    found = checked(signed / name, signed / "key.pub.pem")
    assert found.problems == () and found.is_trusted and found.files > 5


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap_for_link(path: Path) -> None:
    target = path.rename(path.parent.parent.parent.parent.parent / "elsewhere.png")
    path.symlink_to(target)


MASK = "data/semantic-png/masks/1.png"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda place: flip(place / MASK), "1.png is not as it was delivered"),
        (lambda place: (place / MASK).write_bytes(b""), "1.png is not as it was delivered"),
        (lambda place: (place / MASK).unlink(), "1.png is missing"),
        (lambda place: swap_for_link(place / MASK), "no ordinary file"),
        (lambda place: (place / "virus.exe").touch(), "virus.exe is there and not in the manifest"),
        (lambda place: (place / SIGNATURE).unlink(), "cannot be read|is no ordinary file"),
        (lambda place: flip(place / SIGNATURE), "The signature does not fit"),
        (lambda place: edit(place, '"verdict": "pass"', '"verdict": "PASS"'), "does not fit"),
        (lambda place: edit(place, '"bytes":', '"bytes": 1'), "is not as it was delivered"),
    ],
)
def test_damage_is_named(place: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(place)
    assert re.search(words, " ".join(checked(place).problems))


def edit(place: Path, old: str, new: str) -> None:
    path = place / "manifest.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_signature_of_another_key_or_none_does_not_pass_for_the_one_asked_for(
    signed: Path, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other.pem")
    assert "another key" in checked(signed / "out", other).problems[0]
    unsigned = tmp_path / "unsigned"
    make(batch_of(signed / "in"), unsigned, settings_of(tmp_path, formats=("semantic-png",)))
    assert checked(unsigned).problems == ()
    assert "not signed" in checked(unsigned, other).problems[0]


def test_a_file_that_a_zip_unpacks_as_a_link_is_named(signed: Path, tmp_path: Path) -> None:
    with ZipFile(signed / "out.zip") as old, ZipFile(tmp_path / "out.zip", "w") as new:
        for info in old.infolist():
            if info.filename == MASK:
                info.external_attr = 0o120777 << 16
            new.writestr(info, old.read(info.filename))
    (problem,) = checked(tmp_path / "out.zip").problems
    assert problem == f"{MASK} of {tmp_path / 'out.zip'} is no ordinary file."


def test_any_changed_byte_of_a_zips_list_is_a_sentence_or_harmless(
    signed: Path, tmp_path: Path
) -> None:
    content = (signed / "out.zip").read_bytes()
    with ZipFile(signed / "out.zip") as whole:
        start = whole.start_dir
    for at in range(start, start + 46):  # the fixed part of the list's first entry
        changed = bytearray(content)
        changed[at] ^= 0xFF
        (tmp_path / "out.zip").write_bytes(changed)
        try:
            checked(tmp_path / "out.zip")
        except (SourceError, UsageError) as error:
            assert str(tmp_path / "out.zip") in str(error)


def test_a_file_that_is_twice_in_a_zip_is_named(signed: Path, tmp_path: Path) -> None:
    place = Path(shutil.copy(signed / "out.zip", tmp_path))
    with ZipFile(place, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(MASK, b"another one")
    assert f"{MASK} is there twice." in checked(place).problems


NEGATIVE = {"path": "x", "bytes": -5, "sha256": "0" * 64}
DAMAGED = [
    b"",
    b"[]",
    b'{"schema": "other/9"}',
    b"\xff\xfe{",
    b"[" * 99999,
    json.dumps({"schema": SCHEMA, "files": [NEGATIVE]}).encode(),
    json.dumps({"schema": SCHEMA, "files": [], "formats": [], "tasks": 1}).encode(),
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_what_is_no_manifest_is_an_error_in_a_sentence(place: Path, content: bytes) -> None:
    (place / "manifest.json").write_bytes(content)
    with pytest.raises(SourceError, match=r"manifest\.json of"):
        checked(place)


def test_a_key_that_others_can_read_is_not_used_and_none_is_written_over(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    make_key(key)
    before = key.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        make_key(key)
    assert key.read_bytes() == before
    key.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        load_private_key(key)
    with pytest.raises(UsageError, match="no private key"):
        load_private_key(_private(tmp_path / "text.pem", b"no key"))


def _private(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("damage", "exit_code"),
    [
        (lambda _: None, 0),
        (lambda place: flip(place / MASK), 1),
        (lambda place: (place / MASK).unlink(), 1),
        (lambda place: (place / "more").touch(), 1),
        (lambda place: flip(place / "manifest.json"), 1),
    ],
    ids=["untouched", "changed", "missing", "added", "manifest changed"],
)
def test_the_script_of_the_page_checks_a_delivery_without_any_of_our_code(
    signed: Path, place: Path, tmp_path: Path, damage: Callable[[Path], None], exit_code: int
) -> None:
    script = page_script()
    assert len(script.splitlines()) <= 30
    assert not re.search(r"\b(segstudio|batch|exporters|qa_plugins)\b", script)
    (tmp_path / "check.py").write_text(script)
    damage(place)
    # Isolated (-I): nothing of this checkout is on the path but what the environment installs.
    done = subprocess.run(
        [sys.executable, "-I", str(tmp_path / "check.py"), str(place), str(signed / "key.pub.pem")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == exit_code, done.stdout + done.stderr
