"""How much wider a model's 10-90 % band must be to hold the truth as often as it says.

The spread of a model's draws is what it learned to be uncertain about on its training episodes; on new ones it errs
by more. Conformalized quantile regression (Romano, Patterson and Candes, 2019) adds to both ends of the band the margin
that would have been right on held-out episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from worldvalue.benchmark.evaluate import Case, measured
from worldvalue.benchmark.metrics import coverage
from worldvalue.types import DataError, EpisodeSource, ValueCurve

BAND_SHARE = 0.8
"""Share of frames that a band from the 10 % to the 90 % quantile promises to hold."""


@dataclass(frozen=True)
class Calibration:
    """What held-out episodes say about a band.

    Attributes:
        margin: to be added to both ends, in units of value; negative when the band is too wide.
        covered: share of frames that hold the truth in the band as it is, mean over the episodes.
        episodes: how many were measured.
    """

    margin: float
    covered: float
    episodes: int


def calibrate(source: EpisodeSource, curves: Iterable[ValueCurve | DataError]) -> Calibration:
    """The margin for the episodes of a labelled dataset that have a ground truth.

    Args:
        source: held-out episodes: trained on, they would call the band right as it is.
        curves: one for each of them, in order.

    Raises:
        DataError: none of them has a ground truth.
    """
    left_out: list[dict[str, str]] = []
    cases = [one.case for one in measured(source, curves, left_out) if one.case is not None]
    if not cases:
        why = f" ({left_out[0]['reason']})" if left_out else ""
        raise DataError(
            f"{source.path} has no episode with a ground truth{why}; give labels.jsonl with modes, m and n."
        )
    covered = float(np.mean([coverage(case.truth, case.low, case.high) for case in cases]))
    return Calibration(band_margin(cases), covered, len(cases))


def band_margin(cases: Sequence[Case], share: float = BAND_SHARE) -> float:
    """The least margin at which the widened bands hold ``share * (1 + 1 / N)`` of the frames of the N cases.

    Every case weighs the same, however many frames it has; the term with N pays for the margin's being read off
    these very cases.
    """
    beyond = np.concatenate([np.maximum(case.low - case.truth, case.truth - case.high) for case in cases])
    weight = np.concatenate([np.full(len(case.truth), 1.0 / len(case.truth)) for case in cases])
    order = np.argsort(beyond)
    held = np.cumsum(weight[order]) / len(cases)
    enough = np.searchsorted(held, min(share * (1 + 1 / len(cases)), 1.0) - 1e-9)
    return float(beyond[order][min(int(enough), len(beyond) - 1)])
