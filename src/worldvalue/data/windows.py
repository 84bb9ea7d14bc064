"""Episodes -> windows of the frames that a model asks for (``types.Window``) -> training samples.

Every sample is a pure function of (seed, number): a run that stops and resumes at sample number k sees exactly
what an unbroken run sees, and several processes share the work by sharing the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from worldvalue.data.augment import Augmentation, moved, randomize_prefix, rewind, shift, swapped, wrong_instructions
from worldvalue.types import Window


class FrameItems(Protocol):
    """What the autoencoder made of each frame of one episode, or the frames themselves."""

    def read(self, indices: NDArray[np.int64]) -> Tensor:
        """Items ``(len(indices), ...)`` in the order asked for."""
        ...


@dataclass(frozen=True)
class TrainingEpisode:
    """What training needs of one episode.

    Attributes:
        timestamps: ``(T,)`` seconds since the first frame.
        values: ``(T,)`` target value of every frame, in [0, 1].
        instruction: the task in words.
        items: the frames, encoded as far as they can be one by one.
        task: its short name; the instruction where it has none.
        counterfactual: an instruction for something else in the same scene, where one is known.
        states: ``(T, P)`` float32 the robot's proprioception; None when unknown.
        actions: ``(T, A)`` float32; None when unknown.
        pixels: the frames' pictures; None where nobody asks for them.
    """

    timestamps: NDArray[np.float64]
    values: NDArray[np.float64]
    instruction: str
    items: FrameItems
    task: str = ""
    counterfactual: str | None = None
    states: NDArray[np.float32] | None = None
    actions: NDArray[np.float32] | None = None
    pixels: FrameItems | None = None


def scoring_starts(frames: int, chunk: int, stride: int) -> NDArray[np.int64]:
    """Positions of the prefix frame for windows that cover frames ``0 .. frames - 1``, the last one flush right.

    The first prefix is frame -1: the first frame seen once more. Shorter videos than a chunk get one window.
    """
    last = max(frames - 1 - chunk, -1)
    return np.append(np.arange(-1, last, stride), last)


def nearest(timestamps: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the frame nearest to each time; times outside the episode give its first or last frame."""
    middles = (timestamps[1:] + timestamps[:-1]) / 2
    return np.searchsorted(middles, times)


class WindowDataset(Dataset):
    """Random training windows of a list of episodes, one for every whole number: there is no last one.

    Args:
        episodes: windows are drawn uniformly in time over all of them.
        rate: ticks per second, for a window that does not count frames of the data.
        window: what the model asks for.
        augmentation: ratios of what is done to windows.
        seed: of all draws.
    """

    def __init__(
        self,
        episodes: Sequence[TrainingEpisode],
        rate: float,
        window: Window,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.episodes = episodes
        self.rate = rate
        self.window = window
        self.augmentation = augmentation
        self.seed = seed
        seconds = np.array([episode.timestamps[-1] for episode in episodes])
        self._share = np.cumsum(seconds) / seconds.sum()
        told: dict[str, list[str]] = {}
        for episode in episodes:
            told.setdefault(episode.task, []).append(episode.instruction)
        self._wrong = wrong_instructions(told)

    def __getitem__(self, number: int) -> dict[str, object]:
        """Sample: ``items`` of the frames shown, ``values`` ``(1 + h,)`` with the prefix first, the ``instruction``.

        Where they are asked for and the episode has them, also ``states`` ``(n, P)``, ``actions`` ``(n, A)``, NaN
        beyond its end, and ``pictures`` ``(n, V, 3, H, W)``.
        """
        window = self.window
        rng = np.random.default_rng((self.seed, number))
        episode = self.episodes[int(np.searchsorted(self._share, rng.random()))]
        indices = rewind(self._draw_window(episode, rng), self.augmentation, rng)
        values = episode.values[self._at(indices, window.values)].astype(np.float32)
        prefixed = randomize_prefix(values, self.augmentation, rng)
        items = episode.items.read(self._at(indices, window.shown))
        by = self._shift(items, rng)
        instruction, is_wrong = swapped(episode.instruction, self._wrong_for(episode, rng), self.augmentation, rng)
        if is_wrong:
            prefixed[1:] = 0.0
        sample = {"items": _moved(items, *by), "values": torch.from_numpy(prefixed), "instruction": instruction}
        if episode.states is not None and window.states:
            sample["states"] = torch.from_numpy(episode.states[self._at(indices, window.states)])
        if episode.actions is not None and window.actions:
            sample["actions"] = torch.from_numpy(self._actions(episode, indices))
        if episode.pixels is not None and window.pictures:
            pictures = episode.pixels.read(self._at(indices, window.pictures))
            scale = pictures.shape[-1] // items.shape[-1]
            sample["pictures"] = _moved(pictures, by[0] * scale, by[1] * scale)
        return sample

    def _at(self, indices: NDArray[np.int64], ticks: Sequence[int]) -> NDArray[np.int64]:
        """Frames of some of a window's ticks."""
        return indices[np.array(ticks) - self.window.ticks[0]]

    def _actions(self, episode: TrainingEpisode, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Actions ``(n, A)``; a frame that stands in for one beyond the episode's end has none."""
        assert episode.actions is not None
        wanted = self._at(indices, self.window.actions)
        beyond = np.diff(wanted, prepend=-1) == 0
        return np.where(beyond[:, None], np.float32("nan"), episode.actions[wanted])

    def _wrong_for(self, episode: TrainingEpisode, rng: np.random.Generator) -> Sequence[str]:
        """Instructions that the episode does not carry out; half of the time the one for its own scene, if known."""
        if episode.counterfactual is not None and rng.random() < 0.5:
            return [episode.counterfactual]
        return self._wrong[episode.task]

    def _shift(self, items: Tensor, rng: np.random.Generator) -> tuple[int, int]:
        """Rows and columns by which the pictures of items ``(n, V, C, H, W)`` are moved: by none half of the time."""
        if rng.random() < 0.5:
            return 0, 0
        rows, columns = (shift(side, self.augmentation, rng) for side in items.shape[-2:])
        return rows, columns

    def _draw_window(self, episode: TrainingEpisode, rng: np.random.Generator) -> NDArray[np.int64]:
        """A window whose values' frames lie in the episode; the prefix may come one tick before it, as in scoring.

        The first and the last of these windows get the draws of a tick beyond them: an end of an episode lies in one
        window of a tick's grid, any other frame in h, and would be learnt that much less. What a model asks for beyond
        the episode's end is its last frame.
        """
        times = episode.timestamps
        tick = times[-1] / (len(times) - 1) if self.window.data_rate else 1.0 / self.rate
        last = max(times[-1] - self.window.chunk * tick, 0.0)
        start = np.clip(rng.uniform(-2.0 * tick, last + tick), -tick, last)
        return nearest(times, start + np.array(self.window.ticks) * tick)


def _moved(pictures: Tensor, rows: int, columns: int) -> Tensor:
    """Pictures ``(..., H, W)`` moved by some pixels."""
    if not rows and not columns:
        return pictures
    height, width = pictures.shape[-2:]
    return pictures[..., moved(height, rows)[:, None], moved(width, columns)]
