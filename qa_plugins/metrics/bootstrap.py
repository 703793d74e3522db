"""Bootstrap intervals that stream: the Poisson bootstrap, one weight a resampling unit.

Drawing n units with replacement gives each unit a binomial count that tends to Poisson(1), so each
unit can draw its own counts as it passes (Hanley and MacGibbon 2006; Chamandy et al. 2012). The
counts come from a generator seeded by (seed, unit): any order, any split and any number of workers
give the same interval, and units that share a name (the frames of a clip) are drawn together.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

REPLICATES = 1000
FloatArray = NDArray[np.float64]


def unit_weights(unit: str, *, seed: int, replicates: int = REPLICATES) -> FloatArray:
    """How often each replicate draws this unit, shape (replicates,)."""
    digest = hashlib.blake2b(f"{seed}\x00{unit}".encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
    return generator.poisson(1.0, replicates).astype(np.float64)


def interval_95(replicate_values: FloatArray) -> tuple[float, float] | None:
    """The 2.5% and 97.5% quantiles of the replicates that have a value; None when none has.

    >>> interval_95(np.arange(41.0))
    (1.0, 39.0)
    """
    known = replicate_values[~np.isnan(replicate_values)]
    if not known.size:
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
