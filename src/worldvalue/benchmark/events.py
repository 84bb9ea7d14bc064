"""How a value answers to annotated events: the metrics of section 4.2 of the ViVa paper, as pure NumPy functions.

A milestone should lift the value, an execution error should lower it. The equations divide by the value before
the event and so presuppose values above 0, as ViVa's rescaled predictions are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from worldvalue.types import Event, EventKind

DIRECTIONS: Mapping[EventKind, int] = {"milestone": 1, "error": -1}
"""Which way the value should move at an event of each kind: ``d_k``."""
EPSILON = 1e-6
"""Keeps equation 3 from dividing by zero; the paper calls it small and gives no number."""


@dataclass(frozen=True)
class EventSummary:
    """All events of one kind, of one episode or of many.

    Attributes:
        sensitivity: mean Event Response Score (MS of milestones, ES of errors); ``nan`` without events.
        detection_rate: share of events that are detected, in [0, 1] (MDR of milestones, ErrDR of errors); ``nan``
            without events.
        events: how many events of this kind there are.
        ill_defined: how many of them had no score and counted as 0, not detected.
    """

    sensitivity: float
    detection_rate: float
    events: int
    ill_defined: int


def event_response_score(values: ArrayLike, event: Event, window: int) -> float:
    """Relative change of the value at an event, positive in the expected direction (ViVa equation 3).

    ``d (after - before) / (before + EPSILON)`` with ``before`` and ``after`` the mean value of the ``window`` frames
    immediately before and after the event's own frame, which is in neither. The paper does not say how large its
    window is. A window that runs over an end of the episode holds the frames that are there.

    Args:
        values: ``(T,)`` one per frame, rising with progress.
        event: the key frame.
        window: ``w``, at least 1.

    Returns:
        ``nan`` at the first and the last frame, where one side is empty; where a value in the windows is not
        finite; and where ``before + EPSILON`` is not positive, for there the quotient's sign means nothing.

    Raises:
        ValueError: the event lies outside the curve, or the window is empty.
    """
    values = np.asarray(values, dtype=np.float64)
    if not 0 <= event.frame < len(values):
        raise ValueError(f"The {event.kind} at frame {event.frame} lies outside a curve of {len(values)} frames.")
    if window < 1:
        raise ValueError(f"A window needs at least 1 frame, got {window}.")
    before = values[max(0, event.frame - window) : event.frame]
    after = values[event.frame + 1 : event.frame + 1 + window]
    if not (len(before) and len(after) and np.isfinite(before).all() and np.isfinite(after).all()):
        return float("nan")
    base = before.mean() + EPSILON
    return float(DIRECTIONS[event.kind] * (after.mean() - before.mean()) / base) if base > 0 else float("nan")


def summarize_events(scores: ArrayLike) -> EventSummary:
    """Sensitivity and detection rate of events of one kind (ViVa section 4.2 and equation 4).

    An event is detected where its score is above 0. An ill-defined one (``nan``) scores 0 and is not detected, so
    that a model gains nothing by being ill-defined.

    Args:
        scores: ``(N,)`` of ``event_response_score``; may be empty.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if not len(scores):
        return EventSummary(float("nan"), float("nan"), 0, 0)
    bad = np.isnan(scores)
    scores = np.where(bad, 0.0, scores)
    return EventSummary(float(scores.mean()), float(np.mean(scores > 0)), len(scores), int(bad.sum()))


def event_figures(
    curves: Sequence[ArrayLike], events: Sequence[Sequence[Event]], windows: Sequence[int]
) -> dict[EventKind, EventSummary]:
    """The figures of each kind over the events of all episodes together, as the paper counts them.

    Args:
        curves: of each episode its values ``(T,)``.
        events: of each episode its table of events; empty where it has none.
        windows: of each episode ``w`` of ``event_response_score``, in frames.

    Raises:
        ValueError: as ``event_response_score``; or there are not as many tables or windows as curves.
    """
    scores: dict[EventKind, list[float]] = {kind: [] for kind in DIRECTIONS}
    for values, table, window in zip(curves, events, windows, strict=True):
        for event in table:
            scores[event.kind].append(event_response_score(values, event, window))
    return {kind: summarize_events(scores[kind]) for kind in DIRECTIONS}
