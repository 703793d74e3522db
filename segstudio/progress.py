"""Progress on stderr: a bar where a person watches, one summary line where nobody does."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressLine:
    """Counts items done and failed under one label; an empty label shows nothing.

    Args:
        label: what is being done, e.g. "export".
        total: how many items there will be, if known.
        stream: where to write; stderr as it is at the time of the call when None.
    """

    def __init__(self, label: str, total: int | None = None, stream: TextIO | None = None) -> None:
        self._label = label
        self._total = total
        self._stream = stream if stream is not None else sys.stderr
        self._bar: Progress | None = None
        self._bar_task: TaskID | None = None
        self._started_s = time.monotonic()
        self.done = 0
        self.failed = 0

    def __enter__(self) -> ProgressLine:
        self._started_s = time.monotonic()
        if self._label and self._stream.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(file=self._stream),
                transient=True,
            )
            self._bar.start()
            self._bar_task = self._bar.add_task(self._label, total=self._total)
        return self

    def advance(self, *, failed: bool = False) -> None:
        """Count one more item."""
        self.done += 1
        self.failed += failed
        if self._bar is not None and self._bar_task is not None:
            note = f" ({self.failed} failed)" if self.failed else ""
            self._bar.update(self._bar_task, advance=1, description=self._label + note)

    def summary(self) -> str:
        """Return e.g. "export: 500 of 500 in 12.3 s, 2 failed"."""
        elapsed_s = time.monotonic() - self._started_s
        of_total = f" of {self._total}" if self._total is not None else ""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self._label}: {self.done}{of_total} in {elapsed_s:.1f} s{failed}"

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._label:
            stopped = "" if error is None or isinstance(error, GeneratorExit) else ", then stopped"
            print(self.summary() + stopped, file=self._stream)
