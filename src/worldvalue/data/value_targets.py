"""Ground-truth values per frame, as pure NumPy functions of an episode's length and labels.

Values rise with progress and lie in [0, 1]: 0 at the first frame, 1 where the task is done. Sources: World
Value Models for Robotic Manipulation (WVM), section 3 for expert episodes, appendix B for suboptimal ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worldvalue.types import Labels

Values = NDArray[np.float64]


def progress(length: int) -> Values:
    """Values ``(T,)`` of an expert episode: ``v_t = t / (T - 1)``.

    WVM writes ``t / T``; its own control points (0, 0) and (T - 1, 1) of equation B.1 need ``T - 1``.

    Raises:
        ValueError: fewer than two frames.
    """
    if length < 2:
        raise ValueError(f"Progress needs at least 2 frames, got {length}.")
    return np.arange(length) / (length - 1)


def hesitation_curve(length: int, m: int, n: int) -> Values:
    """Values ``(T,)`` of an episode that stands still from frame ``m`` through ``n`` (WVM B.1, B.2).

    With ``x = n - m`` the value is ``m / (T - 1 - x)`` on the plateau and rises by ``1 / (T - 1 - x)`` a
    frame before and after it.

    Raises:
        ValueError: not ``0 < m < n < T - 1``.
    """
    _check_segment(length, m, n)
    plateau = m / (length - 1 - (n - m))
    return _through_control_points(length, m, n, plateau, plateau)


def retry_curve(length: int, m: int, n: int) -> Values:
    """Values ``(T,)`` of an episode that loses progress from frame ``m`` through ``n`` (WVM B.1, B.3).

    The value rises, falls and rises again at the rate ``r = 1 / (T - 2x)`` a frame, ``x = n - m``. The
    equations as printed do not quite close: they end at frame ``T - 1`` but count ``T`` frames of motion, so
    that the last leg is steeper than ``r`` by the factor ``(T - n) / (T - 1 - n)``. The paper clamps the
    value at ``n`` to 0 from below (``n > 2m``); a retry so late and long that the value at ``m`` would pass 1
    (``m > T - 2x``) is clamped there likewise. In both cases the leg between is flatter than ``r`` but still
    falls.

    Raises:
        ValueError: not ``0 < m < n < T - 1``; or ``2x >= T``, which leaves no frame of net progress.
    """
    _check_segment(length, m, n)
    forward = length - 2 * (n - m)
    if forward <= 0:
        raise ValueError(
            f"A retry from frame {m} to {n} fills half of the {length} frames or more: it has no value curve."
        )
    return _through_control_points(length, m, n, min(1.0, m / forward), max(0.0, (m - (n - m)) / forward))


def from_labels(labels: Labels) -> Values:
    """Values ``(T,)`` that the labels stand for.

    Raises:
        ValueError: the paper defines no ground truth for this mode (a failure, or unknown), the segment is
            missing or lies outside the episode, or the retry is too long for its curve.
    """
    if labels.mode == "expert":
        return progress(labels.length)
    if labels.mode not in ("hesitation", "retry"):
        raise ValueError(f"No ground-truth value is defined for the mode '{labels.mode or 'unknown'}'.")
    if labels.m is None or labels.n is None:
        raise ValueError(f"A {labels.mode} episode needs the first and last frame of its segment, m and n.")
    curve = hesitation_curve if labels.mode == "hesitation" else retry_curve
    return curve(labels.length, labels.m, labels.n)


def _check_segment(length: int, m: int, n: int) -> None:
    if not 0 < m < n < length - 1:
        raise ValueError(f"A segment must satisfy 0 < m < n < T - 1; got m = {m}, n = {n}, T = {length}.")


def _through_control_points(length: int, m: int, n: int, at_m: float, at_n: float) -> Values:
    """Piecewise linear through (0, 0), (m, at_m), (n, at_n), (T - 1, 1) (WVM B.1)."""
    return np.interp(np.arange(length), (0, m, n, length - 1), (0.0, at_m, at_n, 1.0))
