"""Controls: what a figure is worth is seen from what an input scores that deserves nothing.

A picture that never changes shows no progress, yet a model that learned how long episodes last lets the value
rise. An expert's video played backwards undoes the task, yet such a model lets the value rise there, too. And a model
that does not listen lets it rise under the instruction of another task as under the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from worldvalue.data.augment import wrong_instructions
from worldvalue.types import DataError, Episode, EpisodeSource, FrameReader, Labels

GOLDEN_RATIO = 0.6180339887498949
"""Its multiples, modulo 1, cover [0, 1) evenly and without a pattern."""


@dataclass(frozen=True)
class StillReader:
    """Shows one frame of another reader, whichever frame is asked for.

    Attributes:
        reader: of the episode that the frame is from.
        frame: the frame's index.
    """

    reader: FrameReader
    frame: int

    def read(self, camera: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """The frame, ``len(indices)`` times over: ``(len(indices), H, W, 3)``."""
        return np.repeat(self.reader.read(camera, [self.frame]), len(indices), axis=0)


def still_episode(episode: Episode, frame: int) -> Episode:
    """The episode as if nothing had ever moved: ``frame`` throughout, same length, no labels, no actions."""
    state = episode.proprioception
    return replace(
        episode,
        name=f"{episode.name}, frame {frame} repeated",
        reader=StillReader(episode.reader, frame),
        proprioception=None if state is None else np.repeat(state[frame : frame + 1], len(state), axis=0),
        actions=None,
        labels=None,
    )


@dataclass(frozen=True)
class ReversedReader:
    """Shows the frames of another reader from the last to the first.

    Attributes:
        reader: of the episode that is played backwards.
        length: number of the episode's frames.
    """

    reader: FrameReader
    length: int

    def read(self, camera: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Frames ``(len(indices), H, W, 3)``, index 0 being the episode's last."""
        return self.reader.read(camera, [self.length - 1 - index for index in indices])


def reversed_episode(episode: Episode) -> Episode:
    """The episode played backwards, its frames as far apart in time as they were: no labels, no actions."""
    state = episode.proprioception
    return replace(
        episode,
        name=f"{episode.name}, backwards",
        timestamps=episode.timestamps[-1] - episode.timestamps[::-1],
        reader=ReversedReader(episode.reader, episode.length),
        proprioception=None if state is None else state[::-1].copy(),
        actions=None,
        labels=None,
    )


@dataclass(frozen=True)
class Control:
    """Episodes of a dataset, changed so that a model should make something else of them.

    Attributes:
        source: the dataset.
        chosen: positions in it of the episodes that are used.
        change: makes the control's k-th episode of the k-th chosen one.
    """

    source: EpisodeSource
    chosen: Sequence[int]
    change: Callable[[int, Episode], Episode]

    @property
    def path(self) -> Path:
        """Where the dataset lies."""
        return self.source.path

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, number: int) -> Episode:
        """Raises DataError when the episode is bad."""
        return self.change(number, self.source[self.chosen[number]])

    def __iter__(self) -> Iterator[Episode]:
        return (self[number] for number in range(len(self)))


def still_videos(source: EpisodeSource, count: int) -> Control:
    """``count`` still videos, their pictures spread evenly over the source and over its episodes' time."""

    def still(number: int, episode: Episode) -> Episode:
        return still_episode(episode, int(number * GOLDEN_RATIO % 1 * episode.length))

    return Control(source, np.linspace(0, len(source) - 1, count).round().astype(int).tolist(), still)


def reversed_experts(source: EpisodeSource, count: int) -> Control:
    """Up to ``count`` expert episodes, evenly spread over them, played backwards.

    Only in an expert's video is every step backwards a step away from the goal.
    """
    return Control(source, _some([index for index, _ in _experts(source)], count), lambda _, e: reversed_episode(e))


def misinstructed_experts(source: EpisodeSource, count: int) -> Control:
    """Up to ``count`` expert episodes, evenly spread over them, each with an instruction of another task.

    The wrong ones are spread evenly over those that there are; without a second task there are no such episodes.
    """
    told: dict[str, list[str]] = {}
    experts = _experts(source)
    for _, episode in experts:
        told.setdefault(_task(episode), []).append(episode.instruction)
    wrong = wrong_instructions(told)

    def misinstruct(number: int, episode: Episode) -> Episode:
        others = wrong[_task(episode)]
        return _told(episode, others[int(number * GOLDEN_RATIO % 1 * len(others))])

    return Control(source, _some([index for index, episode in experts if wrong[_task(episode)]], count), misinstruct)


def counterfactual_episodes(source: EpisodeSource) -> Control:
    """The episodes whose labels name an instruction that another object of the same scene would fulfil, under it."""
    chosen = [index for index, episode in _opened(source) if episode.labels and episode.labels.counterfactual]
    return Control(source, chosen, lambda _, e: _told(e, cast(str, cast(Labels, e.labels).counterfactual)))


def _told(episode: Episode, wrong: str) -> Episode:
    return replace(episode, name=f"{episode.name}, told to {wrong}", instruction=wrong, labels=None)


def _some(positions: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the positions, evenly spread."""
    places = np.linspace(0, len(positions) - 1, min(count, len(positions))).round().astype(int)
    return [positions[place] for place in places]


def _experts(source: EpisodeSource) -> list[tuple[int, Episode]]:
    return [(index, one) for index, one in _opened(source) if one.labels and one.labels.mode == "expert"]


def _opened(source: EpisodeSource) -> Iterator[tuple[int, Episode]]:
    """The episodes with their positions; of one that cannot be opened nothing is known, so it is passed over."""
    for index in range(len(source)):
        try:
            yield index, source[index]
        except DataError:
            continue


def _task(episode: Episode) -> str:
    return (episode.labels and episode.labels.task) or episode.instruction
