"""How long it takes until the first line runs: importing segstudio, and `segstudio --help`.

Bar: both under 0.5 s warm (median of several runs, wall clock). The import of the SDK's brush
module stands beside them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import is_smoke

BAR_S = 0.5


def main() -> int:
    """Start every candidate in turn; 1 when one of ours misses the bar."""
    python = sys.executable
    candidates = {
        "import segstudio": ([python, "-c", "import segstudio"], BAR_S),
        "segstudio --help": ([str(Path(python).with_name("segstudio")), "--help"], BAR_S),
        "python alone": ([python, "-c", "pass"], None),
        "import the SDK's brush": (
            [python, "-c", "import label_studio_sdk.converter.brush"],
            None,
        ),
    }
    runs = 3 if is_smoke() else 11
    times_s: dict[str, list[float]] = {name: [] for name in candidates}
    for run in range(runs + 1):
        for name, (command, _) in candidates.items():
            started_s = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if run:  # the first one warms the disk's cache
                times_s[name].append(time.perf_counter() - started_s)
    missed = 0
    for name, (_, bar_s) in candidates.items():
        median_s = statistics.median(times_s[name])
        is_missed = bar_s is not None and median_s >= bar_s
        missed += is_missed
        verdict = "" if bar_s is None else f"  bar {bar_s:.1f} s: {'MISSED' if is_missed else 'ok'}"
        print(f"{name:28} {median_s:6.3f} s (fastest {min(times_s[name]):.3f}){verdict}")
    return 1 if missed and not is_smoke() else 0


if __name__ == "__main__":
    print(f"{Path(__file__).stem}: medians of interleaved runs")
    sys.exit(main())
