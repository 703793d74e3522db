"""Keeps the agreement on a project's tasks current while people annotate.

Tasks come from webhooks through the queue, and from polls for what was changed since the last
one: at the start (which catches up on everything), every minute, and whenever an event said less
than a task. A task that this program itself wrote comes back in the next poll once and finds
nothing to write.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from qa_plugins.gates import GateSet
from qa_plugins.runner import AGREEMENT, run_checks
from qa_plugins.watch_endpoint import TaskQueue
from qa_plugins.write_back import TAB_FILTERS, TAB_ORDERING, TAB_TITLE, tab_columns, task_records
from segstudio.client import Client
from segstudio.errors import ServerError
from segstudio.recorded_source import RecordedSource
from segstudio.source import Source, TaskFilter, open_source
from segstudio.taxonomy import Taxonomy
from segstudio.writeback import ensure_tab, task_rows, write_results

Say = Callable[[str], None]

_CHUNK_TASKS: Final = 50
_TICK_S: Final = 0.5
_LONGEST_WAIT_S: Final = 60.0
# Changes are dated before they are stored: a poll looks back a little further than the last one.
_OVERLAP: Final = timedelta(seconds=5)
_FAILURES: Final = frozenset({"task-failed", "worker-died", "bad-task"})
# The server says no to this user or project; trying again changes nothing.
_FINAL_STATUSES: Final = frozenset({401, 403, 404})


@dataclass(slots=True)
class Watch:
    """One project's watch; `catch_up` is one round, `run` goes on until told to stop.

    Attributes:
        client: the server.
        project_id: the project.
        taxonomy_of: the taxonomy of a source, asked for each time, so that a changed labelling
            interface counts from then on.
        gates: their rework rule decides on `qa_verdict`.
        label_config: a labelling interface in the place of the project's own.
        rater: a model that is compared as one rater more, as `--rater` of `segstudio qa` has it.
        queue: tasks that webhooks named.
        say: told in a sentence what was done or went wrong.
        poll_s: seconds between polls.
        settle_s: how long after an event the task is measured, so that an annotator who saves
            again and again is measured once.
        filters: which tasks are watched.
        history: where to keep what was read (`segstudio.snapshots`).
    """

    client: Client
    project_id: int
    taxonomy_of: Callable[[Source], Taxonomy]
    gates: GateSet
    say: Say
    label_config: Path | None = None
    rater: str | None = None
    queue: TaskQueue = field(default_factory=TaskQueue)
    poll_s: float = 60.0
    settle_s: float = 1.0
    filters: TaskFilter = field(default_factory=TaskFilter)
    history: Path | None = None
    _polled_to: datetime | None = field(default=None, init=False)
    _recent: dict[int, str] = field(default_factory=dict, init=False)
    _has_tab: bool = field(default=False, init=False)

    def catch_up(self, stop: threading.Event | None = None) -> int:
        """Measure and write back every task changed since the last poll; return how many."""
        changed = self._changed_tasks()
        for first in range(0, len(changed), _CHUNK_TASKS):
            if stop is not None and stop.is_set():
                self._hand_back(changed[first:])
                return first
            try:
                # What annotators do now comes before what they did before.
                self._refresh(self.queue.take(_CHUNK_TASKS))
                self._refresh(changed[first : first + _CHUNK_TASKS])
            except ServerError:
                self._hand_back(changed[first:])
                raise
        return len(changed)

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set; what has been begun is finished.

        Trouble with the server is said and waited out, longer each time.

        Raises:
            ServerError: the token, the rights or the project are gone.
        """
        next_poll_s, wait_s = 0.0, 1.0
        while not stop.is_set():
            try:
                if time.monotonic() >= next_poll_s:
                    next_poll_s = time.monotonic() + self.poll_s
                    self.catch_up(stop)
                if self.queue.wait(min(_TICK_S, self.poll_s)) and not stop.wait(self.settle_s):
                    if self.queue.take_poll_wish():
                        self.catch_up(stop)
                    self._refresh(self.queue.take(_CHUNK_TASKS))
                wait_s = 1.0
            except ServerError as error:
                if error.status in _FINAL_STATUSES:
                    raise
                self.queue.wish_poll()
                self.say(f"{error} Trying again in {wait_s:.0f} s.")
                stop.wait(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _changed_tasks(self) -> list[int]:
        after = None if self._polled_to is None else self._polled_to - _OVERLAP
        rows = task_rows(self.client, self.project_id, ("updated_at",), changed_after=after)
        stamps = {int(row["id"]): str(row["updated_at"]) for row in rows}
        if not stamps:
            return []
        newest = max(map(datetime.fromisoformat, stamps.values()))
        self._polled_to = newest if self._polled_to is None else max(newest, self._polled_to)
        fresh = [one for one, stamp in stamps.items() if self._recent.get(one) != stamp]
        horizon = self._polled_to - _OVERLAP
        self._recent = {
            one: stamp for one, stamp in stamps.items() if datetime.fromisoformat(stamp) >= horizon
        }
        return fresh

    def _refresh(self, task_ids: Sequence[int]) -> None:
        """Measure these tasks and write what came out; on trouble they are in the queue again."""
        if not task_ids:
            return
        try:
            self._measure_and_write(task_ids)
        except ServerError:
            self._hand_back(task_ids)
            raise

    def _measure_and_write(self, task_ids: Sequence[int]) -> None:
        wanted = frozenset(task_ids)
        if self.filters.task_ids is not None:
            wanted &= self.filters.task_ids
        source: Source = open_source(
            f"project:{self.project_id}",
            label_config=self.label_config,
            client=self.client,
            filters=replace(self.filters, task_ids=wanted),
        )
        if self.history is not None:
            source = RecordedSource(source, self.history)
        run = run_checks(
            [AGREEMENT], source, self.taxonomy_of(source),
            gates=self.gates, options={"rater": self.rater} if self.rater else {},
            workers=1, pictures=0, label="",
        )  # fmt: skip
        records = list(task_records(run.result, run.earlier_records, run.digests))
        summary = write_results(self.client, self.project_id, records)
        if records and not self._has_tab:
            columns = tab_columns(source.label_config)
            ensure_tab(self.client, self.project_id, TAB_TITLE, TAB_FILTERS, TAB_ORDERING, columns)
            self._has_tab = True
        # A task that was deleted meanwhile needs nothing.
        problems = [one for one in summary.problems if one.kind != "missing-task"]
        for problem in problems:
            self.say(problem.message)
        failed = [one for one in run.result["errors"] if one["kind"] in _FAILURES]
        if failed:
            first = failed[0]
            self.say(
                f"{len(failed)} tasks could not be measured. First: task {first['task_id']}: "
                f"{first['message']}"
            )
        if summary.written:
            self.say(f"{len(task_ids)} tasks measured, {summary.written} written.")

    def _hand_back(self, task_ids: Sequence[int]) -> None:
        for task_id in task_ids:
            if not self.queue.put(task_id):
                # No room: the next poll starts from the beginning and finds them again.
                self._polled_to, self._recent = None, {}
                return
