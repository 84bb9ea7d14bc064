"""Curvature against curves whose lengths are known, and the comparison of two scenes from end to end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldvalue.analysis.manifold import centred, compare, geodesic_ratios, principal_components, separation


def test_on_a_half_circle_the_way_is_half_pi_times_the_straight_line() -> None:
    angles = np.linspace(0, np.pi, 400)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    ratios = geodesic_ratios(circle[:200], circle[::-1][:200])
    assert ratios[0] == pytest.approx(np.pi / 2, rel=1e-3)  # the two ends
    assert ratios[-1] == pytest.approx(1)  # neighbours


@given(st.integers(0, 2**32 - 1))
def test_no_way_is_shorter_than_the_straight_line_and_scale_does_not_matter(seed: int) -> None:
    plain, changed = np.random.default_rng(seed).normal(size=(2, 20, 3))
    ratios = geodesic_ratios(plain, changed)
    known = np.isfinite(ratios)
    assert (ratios[known] >= 1 - 1e-12).all()
    np.testing.assert_allclose(geodesic_ratios(7 * plain, 7 * changed), ratios)


def test_points_that_coincide_or_are_not_joined_have_no_ratio() -> None:
    here = np.random.default_rng(0).normal(size=(12, 2))
    ratios = geodesic_ratios(here, here + 1e6)
    assert np.isnan(ratios).all()
    assert np.isnan(geodesic_ratios(here, here)).all()


def test_pairs_of_different_shape_and_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="same shape"):
        geodesic_ratios(np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="need more than 4 samples"):
        geodesic_ratios(np.zeros((2, 2)), np.ones((2, 2)))


def test_principal_components_keep_the_distances_of_points_that_lie_in_a_plane() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 500))
    flat = principal_components(plane, count=2)
    assert flat.shape == (30, 2)
    apart = np.linalg.norm(plane[:, None] - plane[None], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(flat[:, None] - flat[None], axis=-1), apart, atol=1e-9)


def test_tasks_are_compared_by_their_means_without_pairs_that_have_no_ratio() -> None:
    found = compare(["a", "a", "b", "c"], [2.0, np.nan, 3.0, np.nan], [1.0, 1.5, 1.0, 1.0])
    assert (found.tasks, found.pictures, found.actions) == (["a", "b"], [2.0, 3.0], [1.25, 1.0])
    assert found.p == pytest.approx(1 / 3)  # two against two, all of one above the other: 2 of 6 orders


def test_scenes_that_mix_have_neighbours_of_both_and_scenes_apart_of_one() -> None:
    points = np.random.default_rng(0).normal(size=(400, 2))
    changed = np.arange(400) % 2 == 1
    assert separation(points, changed) == pytest.approx(0.5, abs=0.05)
    assert separation(points + 100 * changed[:, None], changed) == 1


def test_centred_features_have_no_mean_in_any_task() -> None:
    features = centred([[1.0], [3.0], [10.0]], ["a", "a", "b"])
    np.testing.assert_array_equal(features, [[-1], [1], [0]])
