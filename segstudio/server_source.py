"""Tasks from a project on a Label Studio server, page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import httpx

from segstudio.client import Client
from segstudio.errors import ServerError, SourceError
from segstudio.label_config import LabelConfig, parse_label_config
from segstudio.source import TaskFilter, parse_and_filter
from segstudio.tasks import Problem, Task

PAGE_TASKS: Final = 100
_SHRINK: Final = 5  # 100, 20, 4: a tab's pages of each size end where larger ones end
_ID_FILTERS_A_PAGE: Final = 50
# A page is to stay below what parses to some 200 MB: brush strokes make long lists.
_LARGE_PAGE_BYTES: Final = 32 * 1024 * 1024
_SMALL_PAGE_BYTES: Final = 8 * 1024 * 1024


class ServerSource:
    """A project as a source of tasks.

    Tasks come in the order of their ids, each page asking for those after the last id seen, so
    that tasks created or deleted meanwhile shift nothing; a tab's tasks come in the tab's order.
    A page that the server fails on is asked for again, then in smaller pieces (five tasks, then
    one, where it was a hundred); a server that restarts meanwhile is waited for.
    """

    taxonomy_path: Path | None = None

    def __init__(
        self,
        client: Client,
        project_id: int,
        filters: TaskFilter,
        label_config_path: Path | None = None,
    ) -> None:
        self.client = client
        self.project_id: int | None = project_id
        self.project_ids: tuple[int, ...] = (project_id,)
        self.filters = filters
        self.description = f"project {project_id} at {client.url}"
        self.problems: list[Problem] = []
        self._id = project_id
        self._filters = filters
        self._label_config_path = label_config_path

    @cached_property
    def label_config(self) -> LabelConfig:
        """The project's labelling interface, or the file given in its place."""
        if self._label_config_path is not None:
            try:
                return parse_label_config(self._label_config_path.read_text(encoding="utf-8-sig"))
            except (OSError, UnicodeDecodeError) as error:
                raise SourceError(
                    f"The labelling interface {self._label_config_path} cannot be read: {error}."
                ) from error
        return parse_label_config(self.client.project(self._id)["label_config"])

    def tasks(self, start_after: int = 0) -> Iterator[Task]:
        """Yield the tasks that pass the filters.

        Args:
            start_after: continue after this task id, for a pass that was cut short; a tab, which
                has an order of its own, starts from its beginning.

        Raises:
            ServerError: after several tries; names the last task that was read.
        """
        self.problems.clear()
        return parse_and_filter(
            self._raw_tasks(start_after), self._filters, self.problems, self.description
        )

    def count(self) -> int | None:
        """Return the number of tasks, or None where filters that run here decide."""
        decided_here = self._filters.batch is not None or self._filters.only_complete
        if decided_here or self._filters.selects_annotations:
            return None
        if self._filters.task_ids is not None:
            return None if self._filters.tab is not None else len(self._filters.task_ids)
        params: dict[str, Any] = {"page_size": 1, "include": "id"}
        if self._filters.tab is not None:
            if self._filters.min_annotations:
                return None
            params["view"] = self._filters.tab
        else:
            params["query"] = self._query("and", self._floor_items(0))
        total = self._page(params)[0].get("total")
        return total if isinstance(total, int) else None

    def _raw_tasks(self, start_after: int) -> Iterator[Any]:
        if self._filters.tab is not None:
            yield from self._tab_tasks(self._filters.tab)
        elif self._filters.task_ids is not None:
            yield from self._named_tasks(
                sorted(one for one in self._filters.task_ids if one > start_after)
            )
        else:
            yield from self._tasks_by_id(start_after)

    def _named_tasks(self, wanted: list[int]) -> Iterator[Any]:
        page_tasks, first = _ID_FILTERS_A_PAGE, 0
        while first < len(wanted):
            ids = wanted[first : first + page_tasks]
            query = self._query("or", [_number_filter("id", "equal", one) for one in ids])
            try:
                page, _ = self._page({"page_size": len(ids), "fields": "all", "query": query})
            except ServerError as error:
                page_tasks = self._smaller_page(len(ids), error, f"{first} of {len(wanted)} tasks")
                continue
            found = page["tasks"]
            self._report_missing(ids, found)
            yield from found
            first += len(ids)

    def _tasks_by_id(self, last_id: int) -> Iterator[Any]:
        page_tasks = PAGE_TASKS
        while True:
            query = self._query("and", self._floor_items(last_id))
            params = {"page_size": page_tasks, "fields": "all", "query": query}
            try:
                page, size_bytes = self._page(params)
            except ServerError as error:
                page_tasks = self._smaller_page(page_tasks, error, f"The tasks up to id {last_id}")
                continue
            tasks = page["tasks"]
            yield from tasks
            ids = [one["id"] for one in tasks if isinstance(one, dict) and "id" in one]
            if not ids or len(tasks) < page_tasks:
                return
            last_id = max(ids)
            if size_bytes > _LARGE_PAGE_BYTES:
                page_tasks = max(1, page_tasks // 2)
            elif size_bytes < _SMALL_PAGE_BYTES:
                page_tasks = min(PAGE_TASKS, page_tasks * 2)

    def _tab_tasks(self, tab: int) -> Iterator[Any]:
        page_tasks, seen, total = PAGE_TASKS, 0, 1
        while seen < total:
            number = seen // page_tasks + 1
            params = {"page_size": page_tasks, "page": number, "fields": "all", "view": tab}
            try:
                page, _ = self._page(params)
            except ServerError as error:
                smaller = self._smaller_page(page_tasks, error, f"{seen} tasks")
                # Pages are counted in their own size: it must divide what has been seen.
                page_tasks = smaller if seen % smaller == 0 else 1
                continue
            total, tasks = page["total"], page["tasks"]
            if not tasks:
                return
            yield from tasks
            seen += len(tasks)

    def _smaller_page(self, page_tasks: int, error: ServerError, have_been_read: str) -> int:
        """Return a page size that the server may manage after this error, or raise it."""
        is_away = isinstance(error.__cause__, httpx.ConnectError)
        too_heavy = error.status is None or error.status >= 500
        if too_heavy and not is_away and page_tasks > 1:
            return max(1, page_tasks // _SHRINK)
        raise ServerError(
            f"{error} {have_been_read} of {self.description} have been read.", error.status
        ) from error

    def _page(self, params: dict[str, Any]) -> tuple[dict[str, Any], int]:
        tab = self._filters.tab
        what = f"project {self._id}" + (f", tab {tab}" if tab is not None else "")
        asked = {"project": self._id, "resolve_uri": "false", **params}
        response = self.client.request("GET", "/api/tasks/", what=what, params=asked)
        page = self.client.json_of(response)
        if not isinstance(page, dict) or not isinstance(page.get("tasks"), list):
            raise ServerError(
                f"{self.client.url} answered without a list of tasks; "
                "segstudio needs Label Studio 1.17 or newer."
            )
        return page, len(response.content)

    def _floor_items(self, last_id: int) -> list[dict[str, Any]]:
        items = [_number_filter("id", "greater", last_id)]
        if self._filters.min_annotations > 0:
            least = self._filters.min_annotations
            items.append(_number_filter("total_annotations", "greater_or_equal", least))
        return items

    def _query(self, conjunction: str, items: list[dict[str, Any]]) -> str:
        filters = {"conjunction": conjunction, "items": items}
        return json.dumps({"filters": filters, "ordering": ["tasks:id"]})

    def _report_missing(self, wanted: list[int], found: list[Any]) -> None:
        there = {one.get("id") for one in found if isinstance(one, dict)}
        for one in wanted:
            if one not in there:
                self.problems.append(
                    Problem("missing-task", f"{self.description} has no task {one}.", task_id=one)
                )


def _number_filter(column: str, operator: str, value: int) -> dict[str, Any]:
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": "Number",
        "value": value,
    }
