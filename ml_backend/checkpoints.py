"""Meta's Segment Anything checkpoints: where they are, how they are fetched and checked.

A download goes to `NAME.part`, is resumed where it stopped, and becomes `NAME` only when its size
and its SHA-256 are right.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ml_backend.engines import EngineError

if TYPE_CHECKING:
    import httpx

__all__ = [
    "CHECKPOINTS",
    "Checkpoint",
    "CheckpointError",
    "download",
    "find_checkpoint",
    "models_dir",
]

_ATTEMPTS = 5
_BASE_URL = "https://dl.fbaipublicfiles.com/segment_anything"


class CheckpointError(EngineError):
    """A checkpoint that is absent, cannot be had, or is damaged; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published file of weights."""

    name: str
    file_name: str
    size_bytes: int
    sha256: str
    url: str


def _of_meta(name: str, file_name: str, size_bytes: int, sha256: str) -> Checkpoint:
    return Checkpoint(name, file_name, size_bytes, sha256, f"{_BASE_URL}/{file_name}")


# The digits in each file name are the first of its MD5, not of its SHA-256. Licence: Apache-2.0.
CHECKPOINTS: dict[str, Checkpoint] = {
    checkpoint.name: checkpoint
    for checkpoint in (
        _of_meta(
            "vit_b",
            "sam_vit_b_01ec64.pth",
            375_042_383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        _of_meta(
            "vit_l",
            "sam_vit_l_0b3195.pth",
            1_249_524_607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        _of_meta(
            "vit_h",
            "sam_vit_h_4b8939.pth",
            2_564_550_879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
    )
}


def models_dir() -> Path:
    """Folder of downloaded checkpoints: `SEGSTUDIO_MODELS`, else `models` in the cache folder."""
    if chosen := os.environ.get("SEGSTUDIO_MODELS"):
        return Path(chosen)
    from ml_backend.settings import default_cache_dir

    return default_cache_dir() / "models"


def find_checkpoint(name: str, folder: Path | None = None) -> Path:
    """Return the file of a named checkpoint. Raises CheckpointError where it is not there."""
    checkpoint = CHECKPOINTS[name]
    path = (folder or models_dir()) / checkpoint.file_name
    if not path.is_file():
        raise CheckpointError(
            f"The model {name} is not here yet: run `segstudio models download {name}`, or put "
            f"{checkpoint.file_name} (from {checkpoint.url}) into {path.parent}."
        )
    size_bytes = path.stat().st_size
    if size_bytes != checkpoint.size_bytes:
        raise CheckpointError(
            f"{path} has {size_bytes} bytes instead of {checkpoint.size_bytes}; delete it and run "
            f"`segstudio models download {name}` again."
        )
    return path


def download(
    checkpoint: Checkpoint,
    folder: Path | None = None,
    *,
    progress: Callable[[int], None] = lambda done_bytes: None,
    client: httpx.Client | None = None,
) -> Path:
    """Fetch a checkpoint into `folder` and return its path; what is there already is checked.

    `progress` is called with the bytes that are there so far. An interrupted download goes on where
    it stopped. Raises CheckpointError with a sentence: no connection (which file to put where), a
    wrong size or a wrong SHA-256 (the file is deleted), another download under way.
    """
    target = (folder or models_dir()) / checkpoint.file_name
    if target.is_file() and _is_right(target, checkpoint):
        progress(checkpoint.size_bytes)
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(target.name + ".part")) as part:
            _ensure_space(part, checkpoint, target)
            _fetch(checkpoint, part, progress, client, target)
            part.flush()
            os.fsync(part.fileno())
            _check(part, checkpoint)
            Path(part.name).replace(target)
    except OSError as error:
        raise CheckpointError(
            f"{target} cannot be written: {error}. SEGSTUDIO_MODELS names another folder."
        ) from error
    return target


def _ensure_space(part: IO[bytes], checkpoint: Checkpoint, target: Path) -> None:
    """Raise CheckpointError before the download where the disk cannot hold what is missing."""
    missing = checkpoint.size_bytes - part.seek(0, os.SEEK_END)
    free = shutil.disk_usage(target.parent).free
    if missing > free:
        raise CheckpointError(
            f"{checkpoint.file_name} needs {missing / 1e6:.0f} MB more, but {target.parent} has "
            f"only {free / 1e6:.0f} MB free. Make room, or name another folder in SEGSTUDIO_MODELS."
        )


def _fetch(
    checkpoint: Checkpoint,
    part: IO[bytes],
    progress: Callable[[int], None],
    client: httpx.Client | None,
    target: Path,
) -> None:
    """Append what is missing to the open partial file, with a few attempts."""
    import httpx

    own = client or httpx.Client(timeout=httpx.Timeout(30.0), follow_redirects=True)
    reason = "no attempt was made"
    try:
        for _ in range(_ATTEMPTS):
            done = part.seek(0, os.SEEK_END)
            if done >= checkpoint.size_bytes:
                return
            try:
                _fetch_once(checkpoint, part, done, progress, own)
                reason = "the connection ended early"
            except httpx.HTTPError as error:
                reason = str(error) or type(error).__name__
                if part.seek(0, os.SEEK_END) == done:
                    break  # not a byte came: trying again at once will not help
        if part.seek(0, os.SEEK_END) >= checkpoint.size_bytes:
            return
    finally:
        if client is None:
            own.close()
    raise CheckpointError(
        f"{checkpoint.file_name} could not be downloaded from {checkpoint.url} ({reason}). "
        f"What came is kept and the next try goes on from there. Without a connection, put the "
        f"file there by hand: {target}"
    )


def _fetch_once(
    checkpoint: Checkpoint,
    part: IO[bytes],
    done: int,
    progress: Callable[[int], None],
    client: httpx.Client,
) -> None:
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with client.stream("GET", checkpoint.url, headers=headers) as response:
        response.raise_for_status()
        resumed = response.status_code == 206 and response.headers.get(
            "content-range", ""
        ).startswith(f"bytes {done}-")
        if done and not resumed:  # the server sends all of it again
            part.seek(0)
            part.truncate()
            done = 0
        for chunk in response.iter_raw():
            done += len(chunk)
            if done > checkpoint.size_bytes:
                part.seek(0)
                part.truncate()
                raise CheckpointError(
                    f"{checkpoint.url} sends more than the {checkpoint.size_bytes} bytes that the "
                    f"model has; something else answers in its place."
                )
            part.write(chunk)
            progress(done)


def _is_right(path: Path, checkpoint: Checkpoint) -> bool:
    if path.stat().st_size != checkpoint.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == checkpoint.sha256


def _check(part: IO[bytes], checkpoint: Checkpoint) -> None:
    """Delete the partial file and raise where it is not the published one."""
    part.seek(0)
    digest = hashlib.file_digest(part, "sha256").hexdigest()  # type: ignore[arg-type]
    if digest != checkpoint.sha256:
        Path(part.name).unlink(missing_ok=True)
        raise CheckpointError(
            f"The downloaded {checkpoint.file_name} has the SHA-256 {digest}, not "
            f"{checkpoint.sha256}; it was deleted. Try again, from another network if need be."
        )


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Open a partial file that no other process downloads into."""
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                f"Another process downloads {path.name} already; wait for it to end."
            ) from error
        yield file
