"""Side-by-side timing: candidates take turns, medians are compared, ratios are printed.

Taking turns (A B A B ...) spreads whatever else the machine does over all candidates, which two
separate loops would not. Only ratios between candidates of one run mean anything elsewhere.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Comparison:
    """Median times of one piece of work, ours against a peer's."""

    work: str
    peer: str
    peer_ms: float
    ours_ms: float
    runs: int
    bar: float | None = None

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.peer_ms / self.ours_ms if self.ours_ms else float("inf")

    @property
    def holds(self) -> bool:
        """Whether the ratio reaches the bar, if there is one."""
        return self.bar is None or self.ratio >= self.bar


def medians_ms(
    candidates: Mapping[str, Callable[[], object]], *, runs: int = 7, least_s: float = 0.02
) -> dict[str, float]:
    """The median time of one call of each candidate, in milliseconds.

    Every candidate is called once to warm up, then `runs` times in turn; calls too short to time
    are repeated until `least_s` has passed and averaged.
    """
    repeats: dict[str, int] = {}
    for name, call in candidates.items():
        call()
        started = time.perf_counter()
        call()
        took_s = time.perf_counter() - started
        repeats[name] = max(1, int(least_s / max(took_s, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    gc.collect()
    gc.disable()
    try:
        for _ in range(runs):
            for name, call in candidates.items():
                started = time.perf_counter()
                for _ in range(repeats[name]):
                    call()
                times[name].append((time.perf_counter() - started) / repeats[name] * 1e3)
    finally:
        gc.enable()
    return {name: statistics.median(values) for name, values in times.items()}


def compare(
    work: str,
    peer: str,
    theirs: Callable[[], object],
    ours: Callable[[], object],
    *,
    bar: float | None = None,
    runs: int = 7,
) -> Comparison:
    """Time a peer's way and ours in turns and print the line."""
    times = medians_ms({"peer": theirs, "ours": ours}, runs=runs)
    result = Comparison(work, peer, times["peer"], times["ours"], runs, bar)
    print(line(result), flush=True)
    return result


def line(result: Comparison) -> str:
    """One printed line of a comparison."""
    bar = (
        "" if result.bar is None else f"  bar {result.bar:g}x {'ok' if result.holds else 'MISSED'}"
    )
    return (
        f"{result.work:<46} {result.peer:<34} {result.peer_ms:10.3f} ms"
        f" {result.ours_ms:10.4f} ms {result.ratio:8.1f}x{bar}"
    )


def finish(results: list[Comparison], arguments: list[str] | None = None) -> int:
    """Exit status of a benchmark: 1 when a bar is missed, except with `--smoke`.

    With `--json FILE` the results are written there as well.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--json" in arguments:
        target = Path(arguments[arguments.index("--json") + 1])
        records = [{**asdict(result), "ratio": result.ratio} for result in results]
        target.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return 0 if is_smoke(arguments) or all(result.holds for result in results) else 1


def is_smoke(arguments: list[str] | None = None) -> bool:
    """Whether this is a quick run on small inputs that only shows that everything works."""
    return "--smoke" in (sys.argv[1:] if arguments is None else arguments)
