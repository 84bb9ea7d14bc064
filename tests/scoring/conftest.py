"""A small folder of videos, and a way to score that is plain enough to be checked by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.small import AtWork

from worldvalue.data import ManifestRow, encode_video, write_manifest
from worldvalue.scoring.job import ScoreGroup
from worldvalue.types import DataError, Episode, Labels, ValueCurve


def brightness(episodes: Sequence[Episode]) -> list[ValueCurve | DataError]:
    """Values that rise with the red channel, shifted by the place in the group and by the group's size."""
    results: list[ValueCurve | DataError] = []
    for place, episode in enumerate(episodes):
        try:
            red = episode.frames()[..., 0].mean(axis=(1, 2)) / 255
        except DataError as error:
            results.append(error)
            continue
        mean = (red + 0.01 * place + 0.001 * len(episodes)).astype(np.float32)
        std = np.full_like(mean, 0.05)
        every = np.arange(episode.length)
        results.append(ValueCurve(episode.timestamps, mean, std, mean - std, mean, mean + std, every))
    return results


@pytest.fixture
def score_group() -> ScoreGroup:
    return AtWork(brightness)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """``(count, bad=()) -> folder``: videos of 12 to 18 frames that grow redder; those in ``bad`` are missing."""

    def make(count: int, bad: Sequence[int] = (), name: str = "videos") -> Path:
        folder = tmp_path / name
        rows = []
        for number in range(count):
            length = 12 + number % 7
            frames = np.zeros((length, 32, 48, 3), dtype=np.uint8)
            frames[..., 0] = np.linspace(0, 250, length)[:, None, None]
            frames[..., 2] = 20 * number
            if number not in bad:
                encode_video(folder / f"{number}.mp4", frames, fps=10)
            labels = Labels(length, mode="expert", success=True, task="redden")
            rows.append(ManifestRow(f"make it <red> & \u201c{number}\u201d", 10.0, labels, video=f"{number}.mp4"))
        folder.mkdir(exist_ok=True)
        write_manifest(folder / "labels.jsonl", rows)
        return folder

    return make
