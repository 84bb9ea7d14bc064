from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldvalue.data.rewards import WEIGHTS, dense_rewards, mse, reward_terms, ssim

Streams = tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]

C1, C2 = 6.5025, 58.5225  # (0.01 * 255)^2 and (0.03 * 255)^2

seeds = st.integers(0, 2**32 - 1)
greys = st.integers(0, 255)


def random_episode(seed: int, length: int, views: int, arms: int) -> Streams:
    """Views of different sizes, states of 3 joints and actions of 2, all at random."""
    rng = np.random.default_rng(seed)
    pictures = [rng.integers(0, 256, (length, 11 + view, 12, 3), dtype=np.uint8) for view in range(views)]
    states = [rng.normal(size=(length, 3)) for _ in range(arms)]
    actions = [rng.normal(size=(length, 2)) for _ in range(arms)]
    return pictures, states, actions


def plain(*values: int) -> np.ndarray:
    """A video ``(T, 11, 12, 3)`` of pictures of one grey each."""
    return np.tile(np.array(values, dtype=np.uint8)[:, None, None, None], (1, 11, 12, 3))


def windowed_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM by its definition: a loop over channels and over every 11 x 11 window inside the picture."""
    offsets = np.arange(11) - 5
    window = np.array([[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in offsets] for i in offsets])
    window /= window.sum()
    similarities = []
    for channel in range(x.shape[2]):
        for row in range(x.shape[0] - 10):
            for column in range(x.shape[1] - 10):
                a = x[row : row + 11, column : column + 11, channel].astype(float)
                b = y[row : row + 11, column : column + 11, channel].astype(float)
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                variance_a, variance_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                covariance = (window * (a - mean_a) * (b - mean_b)).sum()
                luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
                similarities.append(luminance * (2 * covariance + C2) / (variance_a + variance_b + C2))
    return sum(similarities) / len(similarities)


@pytest.mark.parametrize("size", [(11, 11), (14, 12)], ids=["one window", "eight windows"])
def test_ssim_is_its_definition_window_by_window(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    noisy = np.clip(reference + rng.normal(0, 40, reference.shape), 0, 255).astype(np.uint8)
    pictures = np.stack([noisy, 255 - reference, reference // 2])
    np.testing.assert_allclose(ssim(pictures, reference), [windowed_ssim(x, reference) for x in pictures], atol=1e-10)


@given(seeds)
@settings(max_examples=20)
def test_ssim_is_symmetric_at_most_one_and_one_for_equal_pictures(seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 256, (2, 12, 13, 3), dtype=np.uint8)
    similarity = ssim(a[None], b)
    np.testing.assert_allclose(similarity, ssim(b[None], a), atol=1e-12)
    assert abs(similarity[0]) <= 1
    assert ssim(a[None], a) == 1


@given(greys, greys)
def test_ssim_of_plain_pictures_compares_their_greys_only(a: int, b: int) -> None:
    expected = (2 * a * b + C1) / (a**2 + b**2 + C1)
    np.testing.assert_allclose(ssim(plain(a), plain(b)[0]), expected)


@given(greys, greys)
def test_mse_of_plain_pictures_is_the_squared_difference_of_their_greys(a: int, b: int) -> None:
    assert mse(plain(a), plain(b)[0]) == (a - b) ** 2


def test_mse_by_hand() -> None:
    pictures = np.zeros((2, 1, 2, 3), dtype=np.uint8)
    pictures[0, 0, 1] = 1, 2, 3
    np.testing.assert_allclose(mse(pictures, pictures[1]), [14 / 6, 0])


def test_pictures_are_compared_with_the_last_one() -> None:
    terms = reward_terms([plain(90, 105, 100)], [], [])
    similarity = [(2 * grey * 100 + C1) / (grey**2 + 100**2 + C1) for grey in (90, 105, 100)]
    np.testing.assert_allclose(terms["picture_mse"], [np.exp([-1, -0.25, 0])])
    np.testing.assert_allclose(terms["picture_ssim"], [[math.exp(s - 1) for s in similarity]])


def test_states_are_compared_with_the_last_ones() -> None:
    state = np.array([[4.0, 6.0], [1.0, 4.0], [1.0, 2.0]])  # 3-4-5 triangle, 2 apart, there
    terms = reward_terms([], [state], [])
    np.testing.assert_allclose(terms["state_proximity"], [np.exp([-5, -2, 0])])


@pytest.mark.parametrize("kind", ["state", "action"])
def test_velocity_and_acceleration_by_hand_are_zero_without_a_predecessor(kind: str) -> None:
    # First differences (1, 0), (2, -1), (-3, -1); second ones (1, -1), (-5, 0).
    motion = np.array([[0, 5], [1, 5], [3, 4], [0, 3]])
    terms = reward_terms([], [motion] if kind == "state" else [], [motion] if kind == "action" else [])
    np.testing.assert_allclose(terms[f"{kind}_velocity"], [[0, 1, 3, 4]])
    np.testing.assert_allclose(terms[f"{kind}_acceleration"], [[0, 0, 2, 5]])


@given(seeds, st.integers(1, 4), st.integers(1, 3), st.integers(1, 2))
@settings(max_examples=30)
def test_terms_keep_to_their_bounds_and_the_last_frame_reaches_its_own(
    seed: int, length: int, views: int, arms: int
) -> None:
    terms = {
        name: np.array(values) for name, values in reward_terms(*random_episode(seed, length, views, arms)).items()
    }
    assert terms.keys() == WEIGHTS.keys()
    for name in ("picture_mse", "picture_ssim"):
        assert terms[name].shape == (views, length)
    for name in ("picture_mse", "picture_ssim", "state_proximity"):
        assert (terms[name] > 0).all()
        assert (terms[name] <= 1).all()
        assert (terms[name][:, -1] == 1).all()
    assert (terms["picture_ssim"] >= math.exp(-2)).all()
    for name in ("state_velocity", "state_acceleration", "action_velocity", "action_acceleration"):
        assert terms[name].shape == (arms, length)
        assert (terms[name] >= 0).all()


@given(seeds, st.integers(1, 3), st.integers(1, 2))
@settings(max_examples=20)
def test_rewards_are_at_most_the_share_of_components_that_reward(seed: int, views: int, arms: int) -> None:
    rewards = dense_rewards(*random_episode(seed, 4, views, arms))
    assert (rewards <= (2 * views + arms) / (2 * views + 5 * arms)).all()


def test_two_arms_with_three_views_have_the_weights_of_table_2() -> None:
    episode = random_episode(seed=1, length=5, views=3, arms=2)
    c = reward_terms(*episode)
    expected = (
        1 / 16 * (c["picture_mse"][0] + c["picture_mse"][1])  # c_1, left and right wrist
        + 1 / 16 * (c["picture_ssim"][0] + c["picture_ssim"][1])  # c_2
        + 1 / 16 * c["picture_mse"][2]  # c_3, top
        + 1 / 16 * c["picture_ssim"][2]  # c_4
        + 1 / 16 * (c["state_proximity"][0] + c["state_proximity"][1])  # c_5
        - 1 / 16 * (c["state_velocity"][0] + c["state_velocity"][1])  # c_6
        - 1 / 16 * (c["state_acceleration"][0] + c["state_acceleration"][1])  # c_7
        - 0.1 / 16 * (c["action_velocity"][0] + c["action_velocity"][1])  # c_8
        - 0.1 / 16 * (c["action_acceleration"][0] + c["action_acceleration"][1])  # c_9
    )
    np.testing.assert_allclose(dense_rewards(*episode), expected)


def test_one_arm_with_two_views_shares_the_numerators_over_nine_components() -> None:
    episode = random_episode(seed=2, length=5, views=2, arms=1)
    c = {name: np.sum(components, axis=0) for name, components in reward_terms(*episode).items()}
    rewarding = c["picture_mse"] + c["picture_ssim"] + c["state_proximity"]
    penalties = c["state_velocity"] + c["state_acceleration"]
    actions = c["action_velocity"] + c["action_acceleration"]
    np.testing.assert_allclose(dense_rewards(*episode), (rewarding - penalties - 0.1 * actions) / 9)


@pytest.mark.parametrize(("views", "arms", "reward"), [(3, 2, 8 / 16), (2, 1, 5 / 9)])
def test_an_episode_that_stands_still_earns_every_reward_and_no_penalty(views: int, arms: int, reward: float) -> None:
    still = ([plain(7, 7, 7)] * views, [np.ones((3, 2))] * arms, [np.ones((3, 4))] * arms)
    np.testing.assert_allclose(dense_rewards(*still), reward)


def test_a_longer_episode_needs_no_more_memory() -> None:
    def peak(length: int) -> int:
        pictures = np.zeros((length, 64, 64, 3), dtype=np.uint8)
        tracemalloc.start()
        reward_terms([pictures], [], [])
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    picture = 64 * 64 * 3 * 8
    peak(2)  # what is made once and stays
    assert peak(40) < peak(4) + picture


def test_streams_that_do_not_fit_are_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"same number of frames, got \[2, 3\]"):
        dense_rewards([plain(1, 2, 3)], [np.zeros((2, 7))], [np.zeros((3, 7))])
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, got 10 x 64"):
        dense_rewards([np.zeros((2, 10, 64, 3), dtype=np.uint8)], [np.zeros((2, 7))], [np.zeros((2, 7))])
