"""Runs checks over a source in one pass and puts the result together as ``qa.json`` has it."""

from __future__ import annotations

import functools
import json
import pickle
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qa_plugins.clips import clip_place
from qa_plugins.freshness import annotations_digest, recorded_digest
from qa_plugins.gate_verdicts import evaluate, overall_verdict
from qa_plugins.gates import GateSet
from qa_plugins.measurement import TaskMeasurement
from qa_plugins.rework_rule import rework_rule
from qa_plugins.subsets import SUBSETS_OPTION
from qa_plugins.worst import Kept, TasksByKey, WorstTasks
from segstudio.compute import Result, describe_failure, map_tasks
from segstudio.photos import PhotoSource
from segstudio.plugins import Check, CheckContext, find_check
from segstudio.report_sections import NameOf, ReportsSection, Section
from segstudio.source import Source, describe_selection
from segstudio.source_description import source_name
from segstudio.tasks import Problem, Task
from segstudio.taxonomy import Taxonomy

AGREEMENT = "agreement"
SCHEMA_VERSION = 1
_TASKS_A_CLASS = 6
_TASKS_A_PERSON = 3


@dataclass(slots=True)
class QaRun:
    """What a run leaves: the result, and the tasks worth a picture.

    ``result`` is DESIGN's ``qa.json``; checks other than agreement are under its ``checks``.
    ``checks`` are those that ran, in the order asked for. ``earlier_records`` are the tasks that
    carry an agreement record of an earlier run, with the digest of the annotations that it was
    measured on; ``digests`` are those of the annotations as they are now, of a project on a server;
    ``project_of`` is the project of each task where the source has several.
    """

    result: dict[str, Any]
    kept: Kept
    context: CheckContext
    checks: Mapping[str, Check] = field(default_factory=dict)
    earlier_records: dict[int, str] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    project_of: dict[int, int] = field(default_factory=dict)

    def sections(self, names: NameOf) -> list[Section]:
        """What each check shows on the page."""
        summaries = {AGREEMENT: self.result, **self.result["checks"]}
        found = [
            check.report(summaries[name], names)
            for name, check in self.checks.items()
            if name in summaries and isinstance(check, ReportsSection)
        ]
        return [section for section in found if section is not None]


def run_checks(
    names: Sequence[str],
    source: Source,
    taxonomy: Taxonomy,
    *,
    gates: GateSet | None = None,
    options: Mapping[str, str] | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    pictures: int = 6,
    crops: int = 0,
    feedback: bool = False,
    out_dir: Path | None = None,
    photos: PhotoSource | None = None,
    label: str = "Checking",
) -> QaRun:
    """Measure every task with every check, summarize, judge the gates.

    Args:
        names: checks, as installed under the entry points `segstudio.checks`.
        source: tasks; read once, in a stream.
        taxonomy: the classes.
        gates: what to judge; none gives the verdict "n/a".
        options: of the checks, see each check's class.
        workers: processes; None uses one a core.
        cluster: address of a Ray cluster.
        pictures: how many of the worst tasks to keep for pictures.
        crops: how many disputed places a class will be shown; 0 keeps no task for them.
        feedback: keep each annotator's tasks of the lowest agreement.
        out_dir: where checks may put files of their own.
        photos: where checks that look at photos get them.
        label: of the progress shown; "" shows none.

    Raises:
        UsageError: no check of that name.
    """
    gates = gates or GateSet()
    checks = {name: find_check(name) for name in dict.fromkeys(names)}
    context = CheckContext(
        taxonomy,
        source.label_config,
        {**(options or {}), SUBSETS_OPTION: json.dumps(gates.subsets)},
        out_dir,
        photos or PhotoSource(),
    )
    kept = Kept(
        WorstTasks(pictures),
        disputed=TasksByKey(per_key=min(crops, _TASKS_A_CLASS)),
        of_person=TasksByKey(per_key=_TASKS_A_PERSON if feedback else 0, limit=90),
    )
    run = QaRun({}, kept, context, checks)
    failures: list[Problem] = []
    seen = _Seen(
        run.earlier_records,
        run.digests if source.project_ids else None,
        run.project_of if len(source.project_ids) > 1 else None,
    )
    results = map_tasks(
        functools.partial(_measure, checks=checks, context=context),
        seen.watch(source.tasks()),
        workers=workers,
        cluster=cluster,
        label=label,
        total=source.count(),
    )
    measured = _collect(results, seen, run, failures)
    summaries = _summarize(measured, checks, context)
    run.result = _assemble(summaries, failures, source, gates, seen.count)
    return run


@dataclass(slots=True)
class _Seen:
    """The tasks that are with a worker now, in order, so that the worst can be kept.

    Notes on the way what the tasks say of earlier runs.
    """

    earlier_records: dict[int, str]
    digests: dict[int, str] | None
    project_of: dict[int, int] | None
    waiting: deque[Task] = field(default_factory=deque)
    count: int = 0

    def watch(self, tasks: Iterable[Task]) -> Iterator[Task]:
        for task in tasks:
            self.waiting.append(task)
            self.count += 1
            earlier = recorded_digest(task)
            if earlier is not None:
                self.earlier_records[task.id] = earlier
            if self.project_of is not None and task.project_id is not None:
                self.project_of[task.id] = task.project_id
            if self.digests is not None:
                self.digests[task.id] = annotations_digest(task)
            yield task


def _measure(
    task: Task, *, checks: Mapping[str, Check], context: CheckContext
) -> dict[str, Result[Any]]:
    """One task through every check, in a worker; a check that fails does not stop the others."""
    measured: dict[str, Result[Any]] = {}
    for name, check in checks.items():
        try:
            measured[name] = Result(check.measure(task, context))
        except Exception as error:
            measured[name] = Result(None, describe_failure(task, error))
    return measured


def _collect(
    results: Iterable[Result[dict[str, Result[Any]]]],
    seen: _Seen,
    run: QaRun,
    failures: list[Problem],
) -> Iterator[dict[str, Any]]:
    for result in results:
        task = seen.waiting.popleft()
        run.kept.notes.offer(task, run.context)
        if result.value is None:
            failures.extend([result.error] if result.error else [])
            continue
        failures.extend(one.error for one in result.value.values() if one.error is not None)
        values = {name: one.value for name, one in result.value.items() if one.error is None}
        agreement = values.get(AGREEMENT)
        if isinstance(agreement, TaskMeasurement):
            run.kept.offer(task, agreement, clip_place(task, run.context.options))
        yield values


def _summarize(
    measured: Iterator[dict[str, Any]], checks: Mapping[str, Check], context: CheckContext
) -> dict[str, dict[str, Any]]:
    """Let each check see the stream: the first as it comes, the others from a file of its own."""
    first, *others = checks
    summaries: dict[str, dict[str, Any]] = {}
    with _Spools(others) as spools:

        def stream() -> Iterator[Any]:
            for values in measured:
                spools.keep(values)
                if first in values:
                    yield values[first]

        values_of_first = stream()
        summaries[first] = checks[first].summarize(values_of_first, context)
        for _ in values_of_first:  # a check may stop early; the others must see every task
            pass
        for name in others:
            summaries[name] = checks[name].summarize(spools.read(name), context)
    return summaries


class _Spools:
    """Measurements of several checks, waiting on disk so that a long stream needs no memory."""

    def __init__(self, names: Sequence[str]) -> None:
        self._files = {
            name: tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
            for name in names
        }

    def __enter__(self) -> _Spools:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def keep(self, values: Mapping[str, Any]) -> None:
        for name, file in self._files.items():
            if name in values:
                pickle.dump(values[name], file)

    def read(self, name: str) -> Iterator[Any]:
        file = self._files[name]
        end = file.tell()
        file.seek(0)
        while file.tell() < end:
            yield pickle.load(file)  # noqa: S301 - written a moment ago by this process


def _assemble(
    summaries: Mapping[str, Mapping[str, Any]],
    failures: Sequence[Problem],
    source: Source,
    gates: GateSet,
    task_count: int,
) -> dict[str, Any]:
    agreement = dict(summaries.get(AGREEMENT) or _no_agreement())
    batch = {**agreement["batch"], "tasks": task_count}
    outcomes = evaluate(gates, summaries)
    verdict, reason = overall_verdict(outcomes)
    rule = rework_rule(gates)
    tasks = [{**task, "verdict": rule.verdict(task)} for task in agreement["tasks"]]
    batch["verdict"], batch["verdict_reason"] = verdict, reason
    batch["gates"] = [outcome.as_json() for outcome in outcomes]
    batch["rework"] = {
        **rule.as_json(),
        "tasks": sum(task["verdict"] == "rework" for task in tasks),
    }
    outside = [asdict(problem) for problem in [*source.problems, *failures]]
    return {
        "schema_version": SCHEMA_VERSION,
        "source": source_name(source.description),
        "selection": describe_selection(source).as_json(),
        **agreement,
        "batch": batch,
        "tasks": tasks,
        "errors": [*outside, *agreement["errors"]],
        "checks": {name: summary for name, summary in summaries.items() if name != AGREEMENT},
    }


def _no_agreement() -> dict[str, Any]:
    """The agreement of a run that did not ask for it."""
    from qa_plugins.agreement_sums import AgreementSums

    return {**AgreementSums().as_json(), "tasks": [], "errors": [], "subsets": []}
