"""Map a function over a stream: this process, this machine's cores, or a Ray cluster.

The results and their order do not depend on the engine. At most `in_flight` items have been
pulled from the input and not yet handed out, so a stream of any length needs the memory of a
few items. An item that fails becomes a result with an error and stops nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import connection
from pathlib import Path
from threading import Thread
from typing import Any, Generic, TypeVar

from segstudio.errors import SegstudioError
from segstudio.progress import ProgressLine
from segstudio.tasks import Problem

T = TypeVar("T")
V = TypeVar("V")

# Starting a process pool costs about a second, more than this many ordinary tasks.
_FEW_ITEMS = 16

# In a worker process: the pickled function, and the function once it has been unpickled.
_worker_payload: bytes = b""
_worker_function: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class Result(Generic[V]):
    """What became of one item: a value, or the problem that kept it from having one."""

    value: V | None
    error: Problem | None = None


def map_tasks(
    function: Callable[[T], V],
    items: Iterable[T],
    *,
    workers: int | None = None,
    in_flight: int | None = None,
    label: str = "",
    cluster: str | None = None,
    total: int | None = None,
) -> Iterator[Result[V]]:
    """Yield `function(item)` for each item, in input order, computed in parallel.

    Args:
        function: picklable (a module's function, or a `functools.partial` of one), as are the
            items and values; with `workers=1` anything goes.
        items: pulled lazily; an exception it raises comes out after the results before it.
        workers: processes; None takes one per available core and stays in this process when
            there are only a few items. On a cluster None takes all its CPUs.
        in_flight: most items pulled and not yet handed out; default twice the workers plus 2.
        label: shown with a progress bar or summary on stderr; empty shows nothing.
        cluster: address of a Ray cluster, or "local" to start one here (extra `scale`).
        total: how many items there will be, for the progress bar.

    Raises:
        SegstudioError: the function cannot be sent to another process, or no cluster answers.

    >>> [result.value for result in map_tasks(len, ["a", "bcd"], workers=1)]
    [1, 3]
    """
    if workers is not None and workers < 1:
        raise SegstudioError(f"The number of workers is {workers}; it must be at least 1.")
    if in_flight is not None and in_flight < 1:
        raise SegstudioError(f"The number of items in flight is {in_flight}; at least 1 is needed.")
    stream = _Guarded(items)
    with ProgressLine(label, total) as progress:
        engine = _start_engine(function, stream, workers, in_flight, cluster)
        try:
            for result in engine:
                progress.advance(failed=result.error is not None)
                yield result
        finally:
            engine.close()
        if stream.failure is not None:
            raise stream.failure


def available_workers() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_engine(
    function: Callable[[T], V],
    stream: Iterator[T],
    workers: int | None,
    in_flight: int | None,
    cluster: str | None,
) -> Generator[Result[V], None, None]:
    if cluster is not None:
        from segstudio.compute_ray import run_on_ray

        return run_on_ray(function, stream, cluster, workers, in_flight)
    if workers is None:
        workers = available_workers()
        if workers > 1:
            first = list(islice(stream, _FEW_ITEMS))
            if len(first) < _FEW_ITEMS:
                return _run_inline(function, iter(first))
            stream = chain(first, stream)
    if workers == 1:
        return _run_inline(function, stream)
    return _run_in_processes(function, stream, workers, in_flight or 2 * workers + 2)


def call_safely(function: Callable[[T], V], item: T) -> Result[V]:
    """Return the function's value for one item, or the problem that its exception describes."""
    try:
        return Result(function(item))
    except Exception as error:
        return Result(None, describe_failure(item, error))


def describe_failure(item: object, error: Exception) -> Problem:
    """Return the problem that an exception on one item amounts to, with the task's id."""
    sentence = " ".join(str(error).split())
    if not isinstance(error, SegstudioError):
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        sentence = f"{type(error).__name__}: {sentence or 'no message'}{place}"
    return Problem("task-failed", sentence, task_id=_task_id_of(item))


def pickle_function(function: Callable[..., Any]) -> bytes:
    """Return the pickled function.

    Raises:
        SegstudioError: it cannot be pickled, e.g. because it is a lambda.
    """
    try:
        return pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SegstudioError(
            f"{getattr(function, '__qualname__', function)!r} cannot be sent to another process: "
            f"{error}. Pass a function of a module with picklable arguments, or use workers=1."
        ) from error


class _Guarded(Iterator[T]):
    """An input that ends where it fails and keeps the failure for later."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self.failure: Exception | None = None

    def __next__(self) -> T:
        if self.failure is not None:
            raise StopIteration
        try:
            return next(self._items)
        except StopIteration:
            raise
        except Exception as error:
            self.failure = error
            raise StopIteration from None


def _run_inline(
    function: Callable[[T], V], stream: Iterator[T]
) -> Generator[Result[V], None, None]:
    for item in stream:
        yield call_safely(function, item)


def _run_in_processes(
    function: Callable[[T], V], stream: Iterator[T], workers: int, in_flight: int
) -> Generator[Result[V], None, None]:
    payload = pickle_function(function)
    pending: deque[tuple[T, Future[Result[V]]]] = deque()
    pool = _new_pool(payload, workers)
    finished = False
    try:
        while True:
            for item in islice(stream, in_flight - len(pending)):
                pending.append((item, _submit(pool, item)))
            if not pending:
                break
            item, future = pending.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                # A worker died, and with it every item in flight. Each of them runs again
                # alone, so that only the item that kills its worker is lost.
                waiting = [item, *(later for later, _ in pending)]
                pending.clear()
                pool.shutdown(wait=False)
                for suspect in waiting:
                    yield _run_alone(payload, suspect)
                pool = _new_pool(payload, workers)
                continue
            except Exception as error:  # e.g. a value that cannot be pickled
                result = Result(None, describe_failure(item, error))
            yield result
        finished = True
    finally:
        if not finished:
            _terminate(pool)
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, item: T) -> Future[Result[Any]]:
    try:
        return pool.submit(_run_in_worker, item)
    except BrokenProcessPool as error:
        broken: Future[Result[Any]] = Future()
        broken.set_exception(error)
        return broken


def _run_alone(payload: bytes, item: T) -> Result[Any]:
    with _new_pool(payload, 1) as pool:
        try:
            return pool.submit(_run_in_worker, item).result()
        except BrokenProcessPool:
            return Result(
                None,
                Problem(
                    "worker-died",
                    "The worker process died on this item, most likely because memory ran out; "
                    "use fewer workers or a smaller image.",
                    task_id=_task_id_of(item),
                ),
            )
        except Exception as error:
            return Result(None, describe_failure(item, error))


def _new_pool(payload: bytes, workers: int) -> ProcessPoolExecutor:
    # Not "fork": numba's and OpenCV's threads do not survive it.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(payload,)
    )


def _terminate(pool: ProcessPoolExecutor) -> None:
    # Python has no public way before 3.14 (terminate_workers).
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.terminate()


def _start_worker(payload: bytes) -> None:
    global _worker_payload, _worker_function
    # Ctrl-C reaches the whole process group; the parent decides what stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    _worker_payload, _worker_function = payload, None


def _end_with_parent() -> None:
    """End this process when its parent has gone: a killed parent can tell nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _run_in_worker(item: Any) -> Result[Any]:
    global _worker_function
    if _worker_function is None:
        try:
            _worker_function = pickle.loads(_worker_payload)  # noqa: S301 - from our own parent
        except Exception as error:
            return Result(None, describe_failure(item, error))
    return call_safely(_worker_function, item)


def _task_id_of(item: object) -> int | None:
    if isinstance(item, tuple) and item:
        item = item[0]
    for name in ("task_id", "id"):
        found = getattr(item, name, None)
        if isinstance(found, int):
            return found
    return None
