"""Pictures and overlays of one episode: sizes, lengths, and a cursor where the frame's time is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image

from worldvalue.data import open_episodes
from worldvalue.scoring.job import ScoreGroup
from worldvalue.scoring.pictures import save_overlay, save_picture


def test_a_picture_holds_the_curve_and_the_frames(
    make_folder: Callable[..., Path], tmp_path: Path, score_group: ScoreGroup
):
    episode = open_episodes(make_folder(1))[0]
    (curve,) = score_group([episode])
    save_picture(tmp_path / "one.png", episode, curve)
    picture = np.asarray(Image.open(tmp_path / "one.png").convert("RGB")).astype(int)
    assert picture.shape[1] == 1600
    curve_colored = (np.abs(picture - (0, 104, 168)).sum(axis=2) < 30).sum()
    assert curve_colored > 2000
    # The frames redden to the right; nothing else in the lower part of the picture is that red.
    strip = picture[-60]
    assert strip[1500, 0] > strip[800, 0] > strip[200, 0]
    assert strip[1500, 1] < 40


def test_an_overlay_has_every_frame_and_a_moving_cursor(
    make_folder: Callable[..., Path], tmp_path: Path, score_group: ScoreGroup
):
    episode = open_episodes(make_folder(1))[0]
    (curve,) = score_group([episode])
    save_overlay(tmp_path / "one.mp4", episode, curve)
    with av.open(str(tmp_path / "one.mp4")) as video:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]).astype(int)
        assert video.streams.video[0].average_rate == 10
    assert frames.shape == (episode.length, 320 + 180, 480, 3)
    np.testing.assert_allclose(frames[:, 160, 240, 0], np.linspace(0, 250, episode.length), atol=12)
    # The cursor is the darkest column of the panel, between the axis' labels and the frame's edge.
    panel = frames[:, 320 + 20 : 320 + 140, 42:466].mean(axis=(1, 3))
    cursor = 42 + panel[1:-1].argmin(axis=1)
    expected = 38 + (480 - 48) * np.arange(1, episode.length - 1) / (episode.length - 1)
    np.testing.assert_allclose(cursor, expected, atol=3)
