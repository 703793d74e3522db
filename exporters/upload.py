"""An export's files to any place that fsspec reaches: only what changed, going on after a stop.

The place keeps `.segstudio/files.json`, the digest of each file. The card (`dataset.json`) is
taken away first and put back last: a place without it is not finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from exporters.files import WORK_FOLDER, compact_json, export_files
from segstudio.errors import SegstudioError, UsageError
from segstudio.progress import ProgressLine

_CARD: Final = "dataset.json"
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Remote:
    """A file or folder at an fsspec URL; `shown` is the URL without any password."""

    file_system: Any
    root: str
    shown: str

    def read(self, name: str) -> bytes | None:
        """Return a file below the root (or the root itself for ""), None where it is not there."""
        path = f"{self.root}/{name}" if name else self.root
        with _told(f"{self.shown} cannot be read"):
            try:
                content: bytes = self.file_system.cat_file(path)
            except FileNotFoundError:
                return None
        return content


def open_remote(url: str) -> Remote:
    """Return the place that a URL names.

    Raises:
        UsageError: fsspec does not know the protocol, or its package is not installed.
    """
    import fsspec

    shown = _without_password(url)
    try:
        file_system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{shown} cannot be written to: {error}.") from error
    return Remote(file_system, str(root).rstrip("/"), shown)


def upload_folder(folder: Path, remote: Remote, *, show_progress: bool) -> int:
    """Make the place hold the export in `folder`; return how many files were sent.

    Raises:
        SegstudioError: sending stopped; a later call goes on where it did.
    """
    log = folder / WORK_FOLDER / "uploaded.jsonl"
    earlier = _manifest(remote)
    there = {**earlier, **_read_log(log)}
    digests = {name: _digest(folder / name) for name in export_files(folder)}
    changed = [name for name, digest in digests.items() if there.get(name) != digest]
    gone = sorted(set(there) - set(digests))
    if not changed and not gone and remote.read(_CARD) is not None:
        return 0
    sent = sorted({*changed, _CARD} - {_CARD})
    done = 0
    try:
        with _told("Uploading stopped"):
            _remove(remote, [_CARD])
            log.parent.mkdir(parents=True, exist_ok=True)
            label = "upload" if show_progress else ""
            with log.open("a", encoding="utf-8") as noted, ProgressLine(label, len(sent)) as line:
                for name in _put_all(folder, remote, sent):
                    noted.write(compact_json({"name": name, "digest": digests[name]}) + "\n")
                    noted.flush()
                    line.advance()
                    done += 1
            _remove(remote, gone)
            manifest = compact_json(digests).encode("utf-8")
            remote.file_system.makedirs(f"{remote.root}/{WORK_FOLDER}", exist_ok=True)
            remote.file_system.pipe_file(f"{remote.root}/{WORK_FOLDER}/files.json", manifest)
            remote.file_system.put_file(str(folder / _CARD), f"{remote.root}/{_CARD}")
    except SegstudioError as error:
        raise SegstudioError(
            f"{error} {remote.shown} has {done} of {len(sent)} new files and no {_CARD} yet; the "
            "export itself is kept here. Run the same command again and it goes on from there."
        ) from error
    log.unlink(missing_ok=True)
    return len(sent) + 1


def upload_file(path: Path, remote: Remote) -> None:
    """Send one file, whole.

    Raises:
        SegstudioError: sending stopped.
    """
    with _told(f"Uploading {remote.shown} stopped"):
        parent = remote.root.rpartition("/")[0]
        if parent:
            remote.file_system.makedirs(parent, exist_ok=True)
        remote.file_system.put_file(str(path), remote.root)


def _put_all(folder: Path, remote: Remote, names: list[str]) -> Iterator[str]:
    """Send the files, a few at once; yield the names of those that arrived."""
    made: set[str] = set()

    def put(name: str) -> str:
        remote.file_system.put_file(str(folder / name), f"{remote.root}/{name}")
        return name

    waiting: list[Future[str]] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            for name in (*names, None):
                if name is not None:
                    parent = f"{remote.root}/{name}".rpartition("/")[0]
                    if parent not in made:
                        remote.file_system.makedirs(parent, exist_ok=True)
                        made.add(parent)
                    waiting.append(pool.submit(put, name))
                while waiting and (name is None or len(waiting) >= 2 * _AT_ONCE):
                    yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def _remove(remote: Remote, names: list[str]) -> None:
    for name in names:
        try:
            remote.file_system.rm_file(f"{remote.root}/{name}")
        except FileNotFoundError:
            continue


def _manifest(remote: Remote) -> dict[str, str]:
    content = remote.read(f"{WORK_FOLDER}/files.json")
    try:
        found = json.loads(content) if content is not None else {}
    except ValueError:
        return {}
    # Names come from outside: nothing above the root is ever removed.
    return {
        name: digest
        for name, digest in (found.items() if isinstance(found, dict) else ())
        if isinstance(digest, str) and not name.startswith("/") and ".." not in name.split("/")
    }


def _read_log(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # the last line, torn by a kill
            continue
        found[entry["name"]] = entry["digest"]
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn whatever a storage library raises into a sentence."""
    try:
        yield
    except SegstudioError:
        raise
    except Exception as error:  # each library (botocore, gcsfs, ...) has exceptions of its own
        reason = " ".join(str(error).split())[:300] or "no message"
        raise SegstudioError(f"{what}: {type(error).__name__}: {reason}.") from error


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
