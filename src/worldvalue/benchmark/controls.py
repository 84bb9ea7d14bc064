"""Controls: what a figure is worth is seen from what an input scores that deserves nothing.

A picture that never changes shows no progress, yet a model that learned how long episodes last lets the value
rise. An expert's video played backwards undoes the task, yet such a model lets the value rise there, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worldvalue.types import DataError, Episode, EpisodeSource, FrameReader

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


def still_episodes(source: EpisodeSource, count: int) -> Iterator[Episode | DataError]:
    """``count`` still episodes, their pictures spread evenly over the source and over its episodes' time.

    An episode that cannot be opened comes as its error.
    """
    for number, index in enumerate(np.linspace(0, len(source) - 1, count).round()):
        try:
            episode = source[int(index)]
        except DataError as error:
            yield error
        else:
            yield still_episode(episode, int(number * GOLDEN_RATIO % 1 * episode.length))


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


def reversed_episodes(source: EpisodeSource, count: int) -> list[Episode]:
    """Up to ``count`` expert episodes of the source, evenly spread over them, played backwards.

    Only in an expert's video is every step backwards a step away from the goal. An episode that cannot be opened
    is not known to be an expert's and is passed over.
    """
    experts = [index for index in range(len(source)) if _is_expert(source, index)]
    chosen = np.linspace(0, len(experts) - 1, min(count, len(experts))).round().astype(int)
    return [reversed_episode(source[experts[index]]) for index in chosen]


def _is_expert(source: EpisodeSource, index: int) -> bool:
    try:
        labels = source[index].labels
    except DataError:
        return False
    return labels is not None and labels.mode == "expert"
