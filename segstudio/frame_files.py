"""Where frames come from: a folder of pictures in natural order, or a video file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segstudio.errors import MediaError, UsageError
from segstudio.images import base_name

PICTURE_ENDINGS: Final = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}
)
MAX_PICTURE_BYTES: Final = 512 * 1024 * 1024
MAX_FRAMES: Final = 10_000_000

# What a video file begins with. A playlist, which could name other files and addresses, is none.
_MAGIC: Final[tuple[tuple[int, bytes], ...]] = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (0, b"\x1aE\xdf\xa3"),
    (0, b"RIFF"), (0, b"\x00\x00\x01\xba"), (0, b"\x00\x00\x01\xb3"), (0, b"OggS"), (0, b"FLV\x01"),
    (0, b"0&\xb2u\x8ef\xcf\x11"), (0, b"G@"), (4, b"G@"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One frame as it is read: its number from 0, its time, and where its pixels are.

    `time_s` is None where a folder's rate was not given. `pixels` (RGB, uint8) for a frame of a
    video, `path` for a picture of a folder.
    """

    number: int
    time_s: float | None
    pixels: NDArray[np.uint8] | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class FrameSource:
    """A video file or a folder of frames: its name in tasks, and where it is."""

    name: str
    path: Path

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of pictures."""
        return self.path.is_dir()

    def fingerprint(self) -> list[Any]:
        """What changes when the frames do: name, sizes and times of the files."""
        files = picture_files(self.path) if self.is_folder else [self.path]
        stats = [file.stat() for file in files]
        newest = max((one.st_mtime_ns for one in stats), default=0)
        return [self.name, len(files), sum(one.st_size for one in stats), newest]

    def count(self, source_fps: float | None = None) -> int | None:
        """How many frames there are, as far as that can be told without reading them."""
        if self.is_folder:
            return len(picture_files(self.path))
        with _opened(self.path) as capture:
            import cv2

            found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        return found if 0 < found < MAX_FRAMES else None

    def frames(self, source_fps: float | None, wanted: FrameChoice) -> Iterator[SourceFrame]:
        """Yield the frames that are wanted, in their order.

        Args:
            source_fps: a folder's frames a second; None where nobody knows.
            wanted: which frames.

        Raises:
            MediaError: no video that can be read, or it ends in the middle of a frame.
        """
        if self.is_folder:
            yield from _of_folder(self.path, source_fps, wanted)
        else:
            yield from _of_video(self.path, wanted)


@dataclass(slots=True)
class FrameChoice:
    """Which frames are taken: every so many, or so many a second, within a stretch of time.

    With `fps` a frame is taken when its time has reached the next due one; a video of fewer frames
    a second is taken whole.
    """

    every: int = 1
    fps: float | None = None
    start_s: float = 0.0
    stop_s: float = math.inf
    _due_s: float | None = None
    _seen: int = 0

    def takes(self, time_s: float | None) -> bool:
        """Say whether the next frame is taken.

        >>> choice = FrameChoice(fps=10)
        >>> [choice.takes(at / 25) for at in range(6)]
        [True, False, False, True, False, True]
        """
        at_s = time_s if time_s is not None else 0.0
        if not self.start_s <= at_s < self.stop_s:
            return False
        if self.fps is None:
            self._seen += 1
            return (self._seen - 1) % self.every == 0
        if self._due_s is None:
            self._due_s = at_s
        if at_s + 1e-6 < self._due_s:
            return False
        while self._due_s <= at_s + 1e-6:
            self._due_s += 1 / self.fps
        return True

    def is_over(self, time_s: float | None) -> bool:
        """Say whether no later frame can be taken."""
        return time_s is not None and time_s >= self.stop_s


def find_sources(paths: Sequence[Path]) -> list[FrameSource]:
    """Return the videos and folders of frames that were named, each under a name of its own.

    A folder without pictures stands for the videos and the folders of frames directly in it.

    Raises:
        UsageError: something that does not exist, or holds no frames.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist; give a video file or a folder of frames.")
        if not path.is_dir() or picture_files(path):
            found.append(path)
        else:
            inside = [
                one
                for one in sorted(path.iterdir(), key=lambda one: natural_key(one.name))
                if (one.is_dir() and picture_files(one)) or (one.is_file() and is_video(one))
            ]
            if not inside:
                raise UsageError(
                    f"{path} holds no frames ({', '.join(sorted(PICTURE_ENDINGS))}) and no videos."
                )
            found += inside
    names: dict[str, int] = {}
    sources = []
    for path in found:
        name = base_name(path.resolve().name) or "video"
        names[name] = names.get(name, 0) + 1
        sources.append(FrameSource(name if names[name] == 1 else f"{name}-{names[name]}", path))
    if len({one.name.lower() for one in sources}) < len(sources):
        sources = [FrameSource(f"{at:03}-{one.name}", one.path) for at, one in enumerate(sources)]
    return sources


def picture_files(folder: Path) -> list[Path]:
    """Return the pictures directly in a folder, in natural order; no links, nothing hidden."""
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURE_ENDINGS
        and not path.name.startswith(".")
        and path.is_file()
        and not path.is_symlink()
    ]
    return sorted(files, key=lambda path: natural_key(path.name))


def natural_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Order names as people count: numbers in them by value, the rest by letters.

    >>> sorted(["frame10.png", "frame9.png", "Frame1.png"], key=natural_key)
    ['Frame1.png', 'frame9.png', 'frame10.png']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    key = tuple((0, int(part), "") if part[0].isdecimal() else (1, 0, part) for part in parts)
    return key, name


def is_video(path: Path) -> bool:
    """Say whether a file begins as a video does."""
    with path.open("rb") as file:
        head = file.read(16)
    return any(head[at : at + len(magic)] == magic for at, magic in _MAGIC)


def _of_folder(
    folder: Path, source_fps: float | None, wanted: FrameChoice
) -> Iterator[SourceFrame]:
    for number, path in enumerate(picture_files(folder)):
        time_s = None if source_fps is None else number / source_fps
        if wanted.is_over(time_s):
            return
        if wanted.takes(time_s):
            yield SourceFrame(number, time_s, path=path)


def _of_video(path: Path, wanted: FrameChoice) -> Iterator[SourceFrame]:
    import cv2

    with _opened(path) as capture:
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        rate = rate if 0 < rate < 10_000 else 25.0
        number, last_s = 0, -1.0
        while capture.grab():
            time_s = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
            # Files without time stamps, or with damaged ones, go by their rate.
            if not (math.isfinite(time_s) and time_s > last_s):
                time_s = number / rate if number / rate > last_s else last_s + 1 / rate
            last_s = time_s
            if wanted.is_over(time_s):
                return
            if wanted.takes(time_s):
                read, frame = capture.retrieve()
                if not read or frame is None or frame.ndim != 3:
                    raise MediaError(
                        f"Frame {number} of {path} cannot be decoded; what is before it can be "
                        "imported with --stop."
                    )
                rgb = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
                yield SourceFrame(number, round(time_s, 6), pixels=rgb)
            number += 1
        if number == 0:
            raise MediaError(f"{path} holds no frame that can be decoded.")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import cv2

    if not is_video(path):
        raise MediaError(
            f"{path} is no video file of a known kind (MP4, MOV, MKV, WebM, AVI, MPEG, OGG, FLV, "
            "WMV); give a video, or a folder of frames."
        )
    capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise MediaError(
                f"{path} cannot be opened as a video: damaged, or of an unknown codec."
            )
        yield capture
    finally:
        capture.release()
