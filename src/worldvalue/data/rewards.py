"""Dense rewards of WAV (appendix B, table 2), as pure NumPy functions of an episode's pictures, states and actions.

Every frame is compared with the last one, which must therefore show the task done: the paper computes these
rewards on successful episodes only. ``value_targets.discounted_return`` sums them to WAV's value target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Rewards = NDArray[np.float64]
Pictures = NDArray[np.uint8]

WEIGHTS = {
    "picture_mse": 1.0,  # c_1 for wrist views, c_3 for the top view
    "picture_ssim": 1.0,  # c_2 and c_4 likewise
    "state_proximity": 1.0,  # c_5
    "state_velocity": -1.0,  # c_6
    "state_acceleration": -1.0,  # c_7
    "action_velocity": -0.1,  # c_8
    "action_acceleration": -0.1,  # c_9
}
"""Weight of each term before it is divided by the number of components. The nine rows of table 2 make seven
terms: it defines and weighs wrist views and the top view alike."""

# Window and constants of Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
WINDOW_RADIUS = 5
WINDOW_SIGMA = 1.5
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2


def dense_rewards(
    views: Sequence[Pictures], states: Sequence[NDArray[Any]], actions: Sequence[NDArray[Any]]
) -> Rewards:
    """Rewards ``(T,)`` of an episode, at most 1 (WAV table 2); penalties have no lower bound.

    Table 2 is written for two arms with a wrist camera each and one top camera, and its 1/16 counts scalar
    components: 2 a view (MSE, SSIM), 3 an arm's states (proximity, velocity, acceleration) and 2 an arm's actions
    (velocity, acceleration) make 3 * 2 + 2 * 3 + 2 * 2 = 16. We read the denominator as that count, so that other
    robots share the table's numerators: one arm, one wrist view and one top view have 9 components of weight 1/9
    (0.1/9 for the action penalties).

    Args:
        views: pictures ``(T, H, W, 3)`` of each camera; sizes may differ.
        states: joint states ``(T, P)`` of each arm, in the units in which the distance of proximity is measured.
        actions: actions ``(T, A)`` of each arm.

    Raises:
        ValueError: see ``reward_terms``.
    """
    terms = reward_terms(views, states, actions)
    return np.mean([WEIGHTS[name] * component for name in terms for component in terms[name]], axis=0)


def reward_terms(
    views: Sequence[Pictures], states: Sequence[NDArray[Any]], actions: Sequence[NDArray[Any]]
) -> dict[str, list[Rewards]]:
    """The unweighted terms of ``dense_rewards``: for each name in ``WEIGHTS`` one ``(T,)`` a view or an arm.

    - ``picture_mse`` in (0, 1]: ``exp(-0.01 MSE(I_t, I_T))``. We take the MSE over pixel values 0..255: over
      values in [0, 1] the factor 0.01 would leave it between 0.99 and 1.
    - ``picture_ssim`` in [exp(-2), 1]: ``exp(SSIM(I_t, I_T) - 1)``.
    - ``state_proximity`` in [0, 1]: ``exp(-||s_t - s_T||_2)``.
    - ``.._velocity``, ``.._acceleration``, 0 or more: the sum of absolute first and second differences, a frame
      and not a second apart. They are 0 where they would need a frame before the first: velocity at the first
      frame, acceleration at the first two.

    Args:
        views: pictures ``(T, H, W, 3)`` of each camera.
        states: joint states ``(T, P)`` of each arm.
        actions: actions ``(T, A)`` of each arm.

    Raises:
        ValueError: these differ in length, or a picture is smaller than the window of SSIM.
    """
    lengths = {len(stream) for stream in (*views, *states, *actions)}
    if len(lengths) != 1:
        raise ValueError(f"Views, states and actions must have the same number of frames, got {sorted(lengths)}.")
    states = [np.asarray(state, dtype=np.float64) for state in states]
    actions = [np.asarray(action, dtype=np.float64) for action in actions]
    return {
        "picture_mse": [np.exp(-0.01 * mse(view, view[-1])) for view in views],
        "picture_ssim": [np.exp(ssim(view, view[-1]) - 1) for view in views],
        "state_proximity": [np.exp(-np.linalg.norm(state - state[-1], axis=1)) for state in states],
        "state_velocity": [_variation(state, order=1) for state in states],
        "state_acceleration": [_variation(state, order=2) for state in states],
        "action_velocity": [_variation(action, order=1) for action in actions],
        "action_acceleration": [_variation(action, order=2) for action in actions],
    }


def mse(pictures: Pictures, reference: Pictures) -> Rewards:
    """Mean squared error ``(T,)`` in [0, 255^2] between pictures ``(T, H, W, 3)`` and one reference ``(H, W, 3)``."""
    target = reference.astype(np.float64)
    # One picture at a time: as floats a whole episode would take eight times its memory.
    return np.array([np.mean((picture - target) ** 2) for picture in pictures])


def ssim(pictures: Pictures, reference: Pictures) -> Rewards:
    """Structural similarity ``(T,)`` in [-1, 1] between pictures ``(T, H, W, 3)`` and one reference ``(H, W, 3)``.

    Wang et al. 2004, equations 13 to 17: 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255; the
    mean over the channels and over the pixels whose window lies inside the picture.

    Raises:
        ValueError: the pictures are smaller than the window.
    """
    height, width = reference.shape[:2]
    size = 2 * WINDOW_RADIUS + 1
    if min(height, width) < size:
        raise ValueError(f"SSIM needs pictures of at least {size} x {size} pixels, got {height} x {width}.")
    y = reference.astype(np.float64)
    mean_y = _window_mean(y)
    variance_y = _window_mean(y * y) - mean_y**2

    def similarity(picture: Pictures) -> np.float64:
        x = picture.astype(np.float64)
        mean_x = _window_mean(x)
        variance_x = _window_mean(x * x) - mean_x**2
        covariance = _window_mean(x * y) - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
        structure = (2 * covariance + C2) / (variance_x + variance_y + C2)
        return np.mean(luminance * structure)

    return np.array([similarity(picture) for picture in pictures])


def _window_mean(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian mean ``(H - 10, W - 10, C)`` around each pixel of ``(H, W, C)`` whose window lies inside the picture."""
    blurred = gaussian_filter(picture, (WINDOW_SIGMA, WINDOW_SIGMA, 0), radius=WINDOW_RADIUS)
    return blurred[WINDOW_RADIUS:-WINDOW_RADIUS, WINDOW_RADIUS:-WINDOW_RADIUS]


def _variation(series: NDArray[np.float64], order: int) -> Rewards:
    """``(T,)``: the absolute differences of an order, summed over the entries of ``(T, D)``.

    0 at the first ``order`` frames, which have no such difference. Absolute is our reading: the text we have of
    table 2 lost its bars, but it shows no square, and a penalty must not change sign.
    """
    variation = np.zeros(len(series))
    variation[order:] = np.abs(np.diff(series, order, axis=0)).sum(axis=1)
    return variation
