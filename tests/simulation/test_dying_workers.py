"""What becomes of a collection whose simulation processes die."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from worldvalue.data import open_episodes
from worldvalue.simulation.collect import collect
from worldvalue.simulation.simulator import EpisodeSpec, Layout, SimulatedEpisode
from worldvalue.types import DataError, Labels

FRAMES = 3


@dataclass(frozen=True)
class Fragile:
    """Grey pictures; its process dies in one of the episodes, each time or until it has left a note of it."""

    name: ClassVar[str] = "numpy"
    tasks: ClassVar[tuple[str, ...]] = ("wait",)
    fps: ClassVar[int] = 10

    deadly: int
    note: Path | None = None

    def layout(self) -> Layout:
        return Layout(("front",), ("place",), ("move",), "statue")

    def simulate(self, spec: EpisodeSpec, size: int) -> SimulatedEpisode:
        if spec.number == self.deadly and not (self.note and self.note.exists()):
            if self.note:
                self.note.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        labels = Labels(task=spec.task, mode=spec.mode, length=FRAMES)
        numbers = np.zeros((FRAMES, 1), np.float32)
        return SimulatedEpisode("Wait.", labels, numbers, numbers, [], self.pictures(size))

    def pictures(self, size: int) -> Iterator[list[NDArray[np.uint8]]]:
        for _ in range(FRAMES):
            yield [np.full((size, size, 3), 128, np.uint8)]


def test_others_take_the_place_of_a_dead_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect(Fragile(deadly=1, note=tmp_path / "note"), tmp_path / "data", {"wait": {"expert": 3}}, size=32, workers=1)
    assert [episode.length for episode in open_episodes(tmp_path / "data")] == [FRAMES] * 3
    assert capsys.readouterr().out.count("A simulation process died") == 1


def test_processes_that_only_die_end_the_collection_and_keep_what_is_finished(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="die before they finish an episode"):
        collect(Fragile(deadly=1), tmp_path / "data", {"wait": {"expert": 3}}, size=32, workers=1)
    kept = {folder.name for folder in (tmp_path / "data.partial" / "episodes").iterdir()}
    assert "wait-expert-00000" in kept
    assert "wait-expert-00001" not in kept
    assert not (tmp_path / "data").exists()
