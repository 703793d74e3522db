"""A source as it was at one moment: read once, then handed out as often as asked.

A delivery checks, exports and reports; on a server somebody may draw between two of these. All of
them read the same tasks here, kept in a temporary file and not in memory.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from segstudio.label_config import LabelConfig
from segstudio.progress import ProgressLine
from segstudio.source import Source, TaskFilter
from segstudio.tasks import Problem, Task


class FrozenSource:
    """The tasks of a source, read at once; a context manager that forgets them at its end.

    Args:
        source: read in full, once.
        on_task: called with each task as it is read.
        label: of the progress shown; "" shows none.
    """

    def __init__(
        self, source: Source, on_task: Callable[[Task], None], *, label: str = "reading"
    ) -> None:
        self.description: str = source.description
        self.label_config: LabelConfig = source.label_config
        self.taxonomy_path: Path | None = source.taxonomy_path
        self.project_id: int | None = source.project_id
        self.project_ids: tuple[int, ...] = source.project_ids
        self.filters: TaskFilter = source.filters
        self.client: Any = getattr(source, "client", None)
        self._count = 0
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        try:
            with ProgressLine(label, source.count()) as progress:
                for task in source.tasks():
                    on_task(task)
                    pickle.dump(task, self._file, protocol=5)
                    self._count += 1
                    progress.advance()
        except BaseException:
            self._file.close()
            raise
        self.problems: list[Problem] = list(source.problems)

    def tasks(self) -> Iterator[Task]:
        """Yield the tasks in the order in which they were read."""
        place = 0
        for _ in range(self._count):
            # Another pass may have moved the file's position meanwhile.
            self._file.seek(place)
            task: Task = pickle.load(self._file)  # noqa: S301 - written by this process
            place = self._file.tell()
            yield task

    def count(self) -> int:
        """Return how many tasks there are."""
        return self._count

    def __enter__(self) -> FrozenSource:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()
