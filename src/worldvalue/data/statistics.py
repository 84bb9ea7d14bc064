"""The ten statistics that LeRobot keeps for every feature, computed an episode at a time.

As in LeRobot, a dataset's quantiles are the means of its episodes' quantiles, weighted by their counts; the
other statistics are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistics = dict[str, NDArray[np.float64]]
"""``min max mean std q01 q10 q50 q90 q99`` of shape ``(D,)`` and ``count`` of shape ``(1,)``."""

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


def statistics_of(values: NDArray[Any], count: int | None = None) -> Statistics:
    """Statistics over the first axis of ``(n, D)``; ``count`` when rows are not what is counted (pixels)."""
    values = np.asarray(values, dtype=np.float64)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.array([len(values) if count is None else count]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def merge_statistics(parts: Sequence[Statistics]) -> Statistics:
    """Statistics of the union of the parts."""
    counts = np.array([part["count"][0] for part in parts])
    weights = counts[:, None] / counts.sum()
    means = np.stack([part["mean"] for part in parts])
    mean = (weights * means).sum(axis=0)
    variances = np.stack([part["std"] ** 2 for part in parts]) + (means - mean) ** 2
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt((weights * variances).sum(axis=0)),
        "count": np.array([counts.sum()]),
        **{name: (weights * np.stack([part[name] for part in parts])).sum(axis=0) for name in QUANTILES},
    }
