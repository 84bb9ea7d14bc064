"""Controls: what a figure is worth is seen from what an input scores that deserves nothing.

A picture that never changes shows no progress, yet a model that learned how long episodes last lets the value
rise.
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
