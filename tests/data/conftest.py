"""Small episodes that tests can recognise in what they read back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from worldvalue.data import EpisodeRecord, encode_video

SAMPLE = Path(__file__).parent / "lerobot_v3_sample"
FRONT, WRIST = "observation.images.front", "observation.images.wrist"


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A copy of the dataset that LeRobot 0.6.1 wrote, free to be damaged."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "sample"))


@pytest.fixture(scope="session")
def moving_square() -> Callable[[int, int], NDArray[np.uint8]]:
    """``(length, blue) -> (length, 48, 64, 3)``: a red square goes right by two pixels a frame."""

    def draw(length: int, blue: int = 0) -> NDArray[np.uint8]:
        frames = np.zeros((length, 48, 64, 3), dtype=np.uint8)
        frames[..., 2] = blue
        for t in range(length):
            left = 2 * t % 48
            frames[t, 16:32, left : left + 16] = (250, 0, blue)
        return frames

    return draw


@pytest.fixture
def make_record(tmp_path: Path, moving_square: Callable[..., NDArray[np.uint8]]) -> Callable[..., EpisodeRecord]:
    """``(number, length, instruction) -> EpisodeRecord`` at 10 fps; blue is 40 x number (wrist: 20 x)."""

    def make(number: int, length: int, instruction: str = "push the square") -> EpisodeRecord:
        videos = {}
        for key, blue in ((FRONT, 40 * number), (WRIST, 20 * number)):
            videos[key] = tmp_path / "clips" / f"{number}_{key}.mp4"
            encode_video(videos[key], moving_square(length, blue), fps=10)
        state = np.random.default_rng(number).random((length, 5), dtype=np.float32)
        return EpisodeRecord(instruction, videos, {"observation.state": state, "action": -state[:, :2]})

    return make
