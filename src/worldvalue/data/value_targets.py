"""Ground-truth values per frame, as pure NumPy functions of an episode's length, labels and rewards.

Values rise with progress. Each paper has its own:

- World Value Models for Robotic Manipulation (WVM), section 3 for expert episodes, appendix B for suboptimal
  ones: in [0, 1], 0 at the first frame, 1 where the task is done.
- ViVa, section 3.3: one minus a cost-to-go, in (0, 1] for a success and (-1, 0] for a failure.
- MV-WAM, section 3.2: the discounted return of the task's outcome, in [0, 1].
- WAV, section 4.2: the discounted return of the dense rewards in ``rewards.py``.
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


def cost_to_go(length: int, success: bool) -> Values:
    """Cost-to-go ``(T,)`` of an episode: ``G_t = (T - t) / T``, and 1 more if it failed (ViVa equation 2).

    The paper counts ``t = 1..T``, so the cost of a success falls from ``(T - 1) / T`` at the first frame to 0
    at the last: it lies in [0, 1), that of a failure in [1, 2). It is the undiscounted sum of the costs of
    equation 1: ``1 / T`` at every frame but the last, and 1 at the last frame of a failure.

    Raises:
        ValueError: fewer than two frames.
    """
    _check_length(length)
    cost = np.arange(length - 1, -1, -1) / length
    return cost if success else cost + 1


def value_from_cost(cost: Values) -> Values:
    """Value of a cost-to-go, ``1 - G``: in (0, 1] for a success, in (-1, 0] for a failure."""
    return 1 - cost


def cost_from_value(value: Values) -> Values:
    """Cost-to-go of a value, ``1 - v``: what ViVa's equation 2 calls ``G``; undoes ``value_from_cost``."""
    return 1 - value


def discounted_return(rewards: Values, gamma: float, horizon: int | None = None) -> Values:
    """Discounted return ``(T,)``: at frame t the sum of ``gamma^i r_{t+i}`` over i.

    Args:
        rewards: ``(T,)``, one a frame.
        gamma: discount a frame.
        horizon: the last i, inclusive, cut at the episode's end (WAV section 4.2, ``i = 0..H``); None sums to
            the end (MV-WAM equation 4).

    Raises:
        ValueError: gamma outside [0, 1], or a negative horizon.
    """
    from scipy.signal import lfilter  # takes a second to import, and other targets do without

    if not 0 <= gamma <= 1:
        raise ValueError(f"A discount must lie in [0, 1], got {gamma}.")
    backwards = np.asarray(rewards, dtype=np.float64)[::-1]
    if horizon is None:
        # G_t = r_t + gamma G_{t+1}: linear in T, where a sum for every frame would be quadratic.
        returns = lfilter([1.0], [1.0, -gamma], backwards)
    elif horizon < 0:
        raise ValueError(f"A horizon counts frames ahead and cannot be negative, got {horizon}.")
    else:
        returns = lfilter(gamma ** np.arange(min(horizon + 1, len(backwards))), [1.0], backwards)
    return returns[::-1].copy()  # torch refuses a reversed view


def monte_carlo_value(length: int, success: bool, gamma: float = 0.99) -> Values:
    """Values ``(T,)`` in [0, 1] of a task's outcome: ``gamma^(T - 1 - t)`` of a success, 0 of a failure.

    The discounted return of MV-WAM's equation 4. The paper calls its rewards sparse task outcomes and does not
    spell them out; here the last frame of a success earns 1, every other frame 0.

    Raises:
        ValueError: fewer than two frames, or gamma outside [0, 1].
    """
    _check_length(length)
    rewards = np.zeros(length)
    rewards[-1] = success
    return discounted_return(rewards, gamma)


def _check_length(length: int) -> None:
    if length < 2:
        raise ValueError(f"An episode's value needs at least 2 frames, got {length}.")


def _check_segment(length: int, m: int, n: int) -> None:
    if not 0 < m < n < length - 1:
        raise ValueError(f"A segment must satisfy 0 < m < n < T - 1; got m = {m}, n = {n}, T = {length}.")


def _through_control_points(length: int, m: int, n: int, at_m: float, at_n: float) -> Values:
    """Piecewise linear through (0, 0), (m, at_m), (n, at_n), (T - 1, 1) (WVM B.1)."""
    return np.interp(np.arange(length), (0, m, n, length - 1), (0.0, at_m, at_n, 1.0))
