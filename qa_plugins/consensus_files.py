"""The files of the check ``consensus``: label maps, heat maps, and tasks with agreed regions.

Below ``<out>/consensus``: ``labels/<image>.png`` (class ids, 16 bits), ``heat/<image>.png`` (how
split the votes are) and, where asked for, ``tasks.json`` for import, one task a line.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

FOLDER: Final = "consensus"
TASKS_FILE: Final = "tasks.json"
MAX_HEAT_SIDE_PX: Final = 1024
PAGE_SIDE_PX: Final = 360


def label_png(labels: NDArray[np.uint16]) -> bytes:
    """Return a label map, uint16 (height, width), as 16-bit grey PNG."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(labels).save(content, "PNG")
    return content.getvalue()


def heat_png(entropy: NDArray[np.float32], max_side_px: int = MAX_HEAT_SIDE_PX) -> bytes:
    """Return a heat map of values 0..1 (height, width) as PNG: black is agreement, yellow is none.

    Larger pictures are scaled down to `max_side_px`, each pixel the mean of those it stands for.
    """
    import cv2
    from PIL import Image

    height_px, width_px = entropy.shape
    scale = min(1.0, max_side_px / max(height_px, width_px))
    if scale < 1:
        size = max(1, round(width_px * scale)), max(1, round(height_px * scale))
        entropy = np.asarray(cv2.resize(entropy, size, interpolation=cv2.INTER_AREA), np.float32)
    colored = cv2.applyColorMap(np.round(entropy * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    content = io.BytesIO()
    rgb = np.ascontiguousarray(colored[..., ::-1], dtype=np.uint8)
    Image.fromarray(rgb).save(content, "PNG", optimize=True)
    return content.getvalue()


def png_uri(content: bytes) -> str:
    """Return a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


class ConsensusFiles:
    """Writes the files as the tasks come; without a folder it writes nothing.

    `tasks.json` takes its place when it is whole.
    """

    def __init__(self, out_dir: Path | None, *, with_tasks: bool) -> None:
        self._folder = None if out_dir is None else out_dir / FOLDER
        self._partial = (out_dir or Path()) / FOLDER / f"{TASKS_FILE}.partial"
        self._with_tasks = with_tasks
        self._tasks: IO[str] | None = None
        self._count = 0

    def __enter__(self) -> ConsensusFiles:
        if self._folder is not None:
            for name in ("labels", "heat"):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
            if self._with_tasks:
                self._tasks = self._partial.open("w", encoding="utf-8")
                self._tasks.write("[")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tasks is None or self._folder is None:
            return
        if kind is None:
            self._tasks.write("\n]\n")
        self._tasks.close()
        if kind is None:
            self._partial.replace(self._folder / TASKS_FILE)
        else:
            self._partial.unlink(missing_ok=True)

    def add_image(self, stem: str, labels: bytes, heat: bytes) -> None:
        """Write the label map and the heat map of one image."""
        if self._folder is not None:
            (self._folder / "labels" / f"{stem}.png").write_bytes(labels)
            (self._folder / "heat" / f"{stem}.png").write_bytes(heat)

    def add_task(self, task: Mapping[str, Any]) -> None:
        """Append one task to `tasks.json`."""
        if self._tasks is not None:
            self._tasks.write(",\n" if self._count else "\n")
            self._tasks.write(json.dumps(task, ensure_ascii=False))
            self._count += 1
