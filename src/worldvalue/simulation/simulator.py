"""What a collection asks of a simulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from worldvalue.types import Labels, Mode

MAX_ATTEMPTS = 50
"""How often an episode is tried until it goes as it should."""


@dataclass(frozen=True)
class EpisodeSpec:
    """An episode to collect.

    Attributes:
        task: name of the task.
        mode: how it should go.
        number: which one of its task and mode, from 0.
        seed: everything random about it follows from this.
    """

    task: str
    mode: Mode
    number: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder; it does not depend on what else is collected."""
        return f"{self.task}-{self.mode}-{self.number:05d}"


@dataclass(frozen=True)
class Layout:
    """What all episodes of a simulator have in common.

    Attributes:
        cameras: their names.
        state_names, action_names: of proprioception and actions.
        robot: LeRobot's name of its type.
    """

    cameras: tuple[str, ...]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    robot: str


@dataclass(frozen=True)
class SimulatedEpisode:
    """One episode, its pictures still to be drawn.

    Attributes:
        instruction: the task in words.
        labels: what happened when.
        state: ``(T, len(state_names))`` float32 proprioception.
        actions: ``(T, len(action_names))`` float32.
        dropped: why each attempt before this one was not kept.
        pictures: for each frame one ``(size, size, 3)`` of each camera; to be read before the next episode is made.
    """

    instruction: str
    labels: Labels
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    dropped: list[str]
    pictures: Iterator[list[NDArray[np.uint8]]]


class Simulator(Protocol):
    """Where episodes come from; it is sent to worker processes, so it holds nothing itself.

    Attributes:
        name: of the Python package that does it.
        tasks: their names; an episode's seed depends on a task's place among them.
        fps: frames per second of the videos.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]
    fps: ClassVar[int]

    def layout(self) -> Layout:
        """What its episodes have in common. Raises DataError when it cannot run here."""
        ...

    def simulate(self, spec: EpisodeSpec, size: int) -> SimulatedEpisode:
        """Run one episode, as often as it takes until it goes as it should; the same for the same ``spec``."""
        ...
