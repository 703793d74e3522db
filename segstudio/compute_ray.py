"""The same map on a Ray cluster (extra `scale`).

Plain Ray tasks in a window, awaited in order. `ray.util.multiprocessing.Pool.imap*` would be
shorter, but it goes on pulling input while the first result is awaited, so its memory has no
bound, and it hands out `PoolTaskError` objects in place of exceptions.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from segstudio.compute import Result, call_safely, describe_failure, pickle_function
from segstudio.errors import MissingExtraError, SegstudioError
from segstudio.tasks import Problem

T = TypeVar("T")
V = TypeVar("V")


def run_on_ray(
    function: Callable[[T], V],
    stream: Iterator[T],
    cluster: str,
    workers: int | None,
    in_flight: int | None,
) -> Generator[Result[V], None, None]:
    """Yield the results of a stream in order, computed by the cluster's workers.

    Args:
        function: as for `segstudio.compute.map_tasks`; its module must be installed on the
            cluster's machines.
        stream: the items, pulled at most `in_flight` ahead.
        cluster: "local" starts Ray here, "auto" finds one, else HOST:PORT or ray://HOST:PORT.
        workers: CPUs that "local" may use; a cluster has its own number.
        in_flight: most items pulled and not yet handed out; default twice the CPUs plus 2.
    """
    pickle_function(function)
    ray = _import_ray()
    started_here = not ray.is_initialized()
    if started_here:
        _connect(ray, cluster, workers)
    try:
        cpus = int(ray.cluster_resources().get("CPU", 1))
        window = in_flight or 2 * cpus + 2
        remote_call = ray.remote(_call_from)
        here = Path.cwd()
        function_ref = ray.put(function)
        pending: deque[tuple[T, Any]] = deque()
        while True:
            for item in islice(stream, window - len(pending)):
                pending.append((item, remote_call.remote(here, function_ref, item)))
            if not pending:
                return
            item, reference = pending.popleft()
            try:
                result: Result[V] = ray.get(reference)
            except ray.exceptions.RayError as error:
                result = _lost(item, error)
            yield result
    finally:
        if started_here:
            ray.shutdown()


def _call_from(folder: Path, function: Callable[[T], V], item: T) -> Result[V]:
    """Call from the folder where the map was started, so that relative paths mean the same."""
    # A machine that lacks the folder can still do work without relative paths.
    if Path.cwd() != folder and folder.is_dir():
        os.chdir(folder)
    return call_safely(function, item)


def _lost(item: object, error: Exception) -> Result[Any]:
    described = describe_failure(item, error)
    message = f"The cluster lost this item: {described.message}"
    return Result(None, Problem("worker-died", message, task_id=described.task_id))


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingExtraError("Running on a cluster", "ray", "scale") from error
    return ray


def _connect(ray: Any, cluster: str, workers: int | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if cluster == "local":
        options |= {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address=cluster, **options)
    except Exception as error:  # a node that does not come up is a bare Exception of Ray's
        reason = " ".join(str(error).split())[:300]
        raise SegstudioError(
            f"The Ray cluster at '{cluster}' cannot be used: {type(error).__name__}: {reason}. "
            "Check the address and that the cluster runs the same Ray and Python versions; where "
            "it asks for a token, set RAY_AUTH_MODE=token and put the token where Ray looks for it."
        ) from error
    # Ray prints on stdout that a worker died, where a command's JSON may go; the item's Problem
    # says so already. Ray has no public way to be quiet about it.
    internals = sys.modules.get("ray._private.worker")
    if hasattr(internals, "_worker_logs_enabled"):
        vars(internals)["_worker_logs_enabled"] = False
