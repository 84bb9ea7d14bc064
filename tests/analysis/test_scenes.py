"""Two scenes of the same task compared from end to end."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.small import painted_episode, small_estimator, small_mv_wam_config

from worldvalue.analysis.features import pooled_features
from worldvalue.analysis.picture import draw_comparison
from worldvalue.analysis.scenes import compare_scenes, paired_moments
from worldvalue.data.pictures import PictureSettings
from worldvalue.models.estimator import Estimator
from worldvalue.models.policy import ModelPolicy
from worldvalue.types import DataError, Episode, Labels


class Source(list[Episode]):
    """Episodes in memory."""

    path = Path("memory")


def _episodes(count: int, start: int = 0, **changes: object) -> Source:
    rng = np.random.default_rng(start)
    return Source(
        replace(
            painted_episode(40, start + index),
            proprioception=rng.normal(size=(40, 3)).astype(np.float32),
            actions=rng.normal(size=(40, 2)).astype(np.float32),
            **changes,
        )
        for index in range(count)
    )


def test_moments_are_paired_by_task_and_share_of_the_episode_leaving_failures_out() -> None:
    plain = _episodes(2, labels=Labels(40, "expert", success=True, task="push"))
    plain += _episodes(1, 5, labels=Labels(40, "failure", success=False, task="push"))
    other_name = _episodes(3, 10, labels=Labels(40, "expert", success=True, task="push_of_four"))
    pairs = paired_moments(plain, other_name)
    assert [(pair.task, pair.plain.episode.index, pair.changed.episode.index) for pair in pairs[::5]] == [
        ("push", 0, 10),
        ("push", 1, 11),
    ]
    assert [pair.plain.frame for pair in pairs[:5]] == [4, 12, 20, 28, 36]
    with pytest.raises(DataError, match="0 moments in common"):
        paired_moments(plain, _episodes(3, instruction="something else"))


def test_a_comparison_has_curvatures_and_for_a_model_a_map_of_each_expert(tmp_path: Path) -> None:
    pairs = paired_moments(_episodes(3), _episodes(3, 10))
    policy = ModelPolicy(Estimator(small_mv_wam_config()), steps=1, seed=0)
    looked: list[int] = []
    found = compare_scenes(
        pairs,
        PictureSettings(16, 16),
        lambda moment: pooled_features(policy, moment.episode, moment.frame),
        looked.append,
    )
    assert sum(looked) == 2 * len(pairs) == 2 * found.pairs == 30
    assert min(found.curvatures.pictures + found.curvatures.actions) >= 1
    assert {name: points.shape for name, points in found.maps.items()} == {"video": (30, 2), "action": (30, 2)}
    assert json.loads(json.dumps(found.told()))["pairs"] == 15
    draw_comparison(tmp_path / "manifold.png", found)
    assert (tmp_path / "manifold.png").read_bytes().startswith(b"\x89PNG")


def test_features_are_those_of_the_moment_and_only_of_models_whose_experts_are_known() -> None:
    policy = ModelPolicy(Estimator(small_mv_wam_config()), steps=2, seed=0)
    (episode,) = _episodes(1)
    early, late = (pooled_features(policy, episode, frame) for frame in (3, 30))
    assert early["video"].shape == (policy.estimator.model.video.patch_embedding.out_channels,)
    assert not np.allclose(early["action"], late["action"])
    with pytest.raises(DataError, match="tells no actions"):
        ModelPolicy(small_estimator(), steps=1, seed=0)
