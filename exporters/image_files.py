"""The images themselves beside their annotations: copied, linked, or only named.

The bytes come through `segstudio.media`, which decides what may be opened at all. Everything runs
in the command's own process, in a few threads: workers get no token and open no connection.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from exporters.files import write_bytes
from segstudio.errors import MediaError, UsageError
from segstudio.tasks import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segstudio.client import Client

ImagesMode = Literal["copy", "link", "reference", "none"]
MODES: Final[tuple[ImagesMode, ...]] = get_args(ImagesMode)

_HEADER_BYTES: Final = 1 << 20
_MAGIC: Final = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)


def parse_mode(text: str) -> ImagesMode:
    """Return what `--images` names.

    Raises:
        UsageError: none of the modes.
    """
    for mode in MODES:
        if text == mode:
            return mode
    raise UsageError(f"--images takes {', '.join(MODES)}, not '{text}'.")


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an image went, relative to its file set ("" where it could not), and what was odd."""

    file: str
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Opens the images of one source.

    `client` is the server that tasks came from, `roots` the folders that may be read, as for
    `segstudio.media.image_bytes`.
    """

    client: Client | None = None
    roots: tuple[Path, ...] = ()

    def size_px(self, task_id: int, reference: str) -> tuple[int, int]:
        """Return (height_px, width_px) of an image on which nobody drew.

        Raises:
            ValueError: it cannot be opened; says why.
        """
        from segstudio.media import image_bytes
        from segstudio.pixels import image_size_px

        try:
            return image_size_px(image_bytes(reference, self.client, self.roots, task_id=task_id))
        except MediaError as error:
            raise ValueError(str(error)) from error

    def picture(self, task_id: int, reference: str) -> NDArray[np.uint8]:
        """Return an image's pixels, (height, width, 3).

        Raises:
            MediaError: it cannot be opened or decoded.
        """
        from segstudio.media import image_bytes
        from segstudio.pixels import load_image

        return load_image(image_bytes(reference, self.client, self.roots, task_id=task_id))

    def place(
        self, mode: ImagesMode, task_id: int, reference: str, folder: Path, name: str,
        size_px: tuple[int, int], as_png: str = "",
    ) -> Placed:  # fmt: skip
        """Copy or link one image into a file set.

        A link is a hard link, where that cannot be (another disk) a symbolic one; an image that
        does not lie on this machine is copied.

        Args:
            mode: "copy" or "link"; else nothing happens.
            task_id: whose image.
            reference: as the task's data has it.
            folder: the file set.
            name: the file, relative to the folder; one without an ending gets that of its kind.
            size_px: (height, width) that was annotated.
            as_png: "rgb" or "grey": the image is written anew as such a PNG, as browsers show it.
        """
        if mode not in ("copy", "link"):
            return Placed("")
        try:
            _refuse_outside(name)
            if as_png:
                return self._convert(as_png, task_id, reference, folder / name, name, size_px)
            return self._place(mode, task_id, reference, folder, name, size_px)
        except MediaError as error:
            message = f"The image of task {task_id} is not in the export: {error}"
            return Placed("", (Problem("image-not-copied", message, task_id),))

    def _convert(
        self, as_png: str, task_id: int, reference: str, path: Path, name: str,
        size_px: tuple[int, int],
    ) -> Placed:  # fmt: skip
        from exporters.png import grey8_png, rgb_png

        pixels = self.picture(task_id, reference)
        if as_png == "grey":
            from PIL import Image

            write_bytes(path, grey8_png(np.asarray(Image.fromarray(pixels).convert("L"))))
        else:
            write_bytes(path, rgb_png(pixels))
        return Placed(name, tuple(_size_doubt(pixels.shape[:2], task_id, size_px)))

    def _place(
        self, mode: ImagesMode, task_id: int, reference: str, folder: Path, name: str,
        size_px: tuple[int, int],
    ) -> Placed:  # fmt: skip
        from segstudio.media import image_bytes, local_file

        source = local_file(reference, self.client, self.roots) if mode == "link" else None
        if source is not None:
            with source.open("rb") as file:
                content = file.read(_HEADER_BYTES)
        else:
            content = image_bytes(reference, self.client, self.roots, task_id=task_id)
        if not PurePosixPath(name).suffix:
            name += _ending_of(content)
        if source is None or not _link(source, folder / name):
            write_bytes(folder / name, content if source is None else source.read_bytes())
        return Placed(name, tuple(_doubts(content, task_id, size_px)))


def _link(source: Path, target: Path) -> bool:
    """Make `target` a hard link or else a symbolic link to `source`; False where neither can be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".segstudio-") as private:
        link = Path(private) / "link"
        for make in (os.link, os.symlink):
            try:
                make(source, link)
            except OSError:
                continue
            link.replace(target)
            return True
    return False


def _ending_of(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    return next((ending for magic, ending in _MAGIC if content.startswith(magic)), "")


def _doubts(content: bytes, task_id: int, size_px: tuple[int, int]) -> Sequence[Problem]:
    """Say where a training loader would see another picture than the annotator did."""
    from segstudio.pixels import exif_orientation, image_size_px

    try:
        found_px, orientation = image_size_px(content), exif_orientation(content)
    except MediaError as error:
        if len(content) == _HEADER_BYTES or content[128:132] == b"DICM":
            return ()  # only its beginning was read, or other programs know what it is
        message = f"The image of task {task_id} is in the export, but cannot be opened: {error}"
        return [Problem("image-damaged", message, task_id)]
    problems = _size_doubt(found_px, task_id, size_px)
    if orientation != 1:
        message = (
            f"The image of task {task_id} is stored turned (EXIF orientation {orientation}). The "
            "masks fit it as browsers show it; a loader that ignores EXIF sees it otherwise."
        )
        problems.append(Problem("image-turned-by-exif", message, task_id))
    return problems


def _refuse_outside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise MediaError(f"the format names the file {name!r}, which is outside its folder.")


def _size_doubt(found_px: tuple[int, ...], task_id: int, size_px: tuple[int, int]) -> list[Problem]:
    if found_px == size_px:
        return []
    message = (
        f"The image of task {task_id} has {found_px[1]} x {found_px[0]} pixels, but was "
        f"annotated at {size_px[1]} x {size_px[0]}: it was exchanged or scaled since."
    )
    return [Problem("image-of-other-size", message, task_id)]
