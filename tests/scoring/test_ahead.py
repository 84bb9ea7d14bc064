"""Decoding ahead of a model: the next group while one is at work, the same pictures, and the same errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
from tests.small import PaintedFrames, painted_episode, small_estimator, small_mv_wam_config

from worldvalue.data import open_episodes
from worldvalue.models import Estimator
from worldvalue.scoring.ahead import opened_ahead
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings
from worldvalue.types import DataError, Episode

SETTINGS = ScoreSettings(draws=2, steps=1)


class Source(list[Episode]):
    path = Path("episodes")


def test_the_next_group_is_decoded_while_one_is_at_work_and_no_third_one() -> None:
    source = Source(painted_episode(5, index) for index in range(6))
    done = {episode.index: Event() for episode in source}

    def decoded(episode: Episode) -> Episode:
        done[episode.index].set()
        return episode

    groups = opened_ahead(source, [range(2), range(2, 4), range(4, 6)], decoded)
    assert [episode.index for episode in next(groups)] == [0, 1]
    assert all(done[index].wait(timeout=60) for index in (2, 3))
    assert not any(done[index].is_set() for index in (4, 5))
    assert [[episode.index for episode in group] for group in groups] == [[2, 3], [4, 5]]


def test_who_stops_listening_leaves_nothing_to_be_decoded() -> None:
    source, asked, go_on = Source(painted_episode(5, index) for index in range(40)), list[int](), Event()

    def decoded(episode: Episode) -> Episode:
        asked.append(episode.index)
        if episode.index:
            go_on.wait(timeout=60)
        return episode

    groups = opened_ahead(source, [[0], range(1, 40)], decoded)
    next(groups)
    groups.close()
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("decode"):
            thread.join(timeout=60)
    assert len(asked) < 39


def test_an_episode_decoded_ahead_has_the_values_of_one_that_is_not() -> None:
    scorer = Scorer(small_estimator(views=2), SETTINGS)
    episode = painted_episode(30, cameras=("front", "wrist"))
    for ours, theirs in zip(scorer([scorer.decoded(episode)]), scorer([episode]), strict=True):
        np.testing.assert_array_equal(ours.mean, theirs.mean)
        np.testing.assert_array_equal(ours.q90, theirs.q90)


def test_nothing_is_decoded_again_even_by_a_model_that_sees_pixels_too() -> None:
    scorer = Scorer(Estimator(small_mv_wam_config()).eval(), SETTINGS)
    asked = list[int]()

    class Counted(PaintedFrames):
        def read(self, camera: str, indices: object) -> np.ndarray:
            asked.extend(indices)
            return super().read(camera, indices)

    plain = painted_episode(30)
    state = np.zeros((30, 3), dtype=np.float32)
    episode = scorer.decoded(replace(plain, reader=Counted(30), proprioception=state))
    assert asked == sorted(set(asked))
    before = len(asked)
    (curve,) = scorer([episode])
    assert len(curve.mean) == 30
    assert len(asked) == before


def test_an_episode_that_cannot_be_decoded_is_left_to_say_so_itself(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(3, bad=[1])
    broken = folder / "2.mp4"
    broken.write_bytes(broken.read_bytes()[:-400])
    scorer = Scorer(small_estimator(), SETTINGS)
    ((good, missing, cut),) = opened_ahead(open_episodes(folder), [range(3)], scorer.decoded)
    assert isinstance(good, Episode)
    assert "1.mp4 is missing" in str(missing)
    told = cut if isinstance(cut, DataError) else scorer([cut])[0]
    assert "2.mp4" in str(told)
