"""Windows that slide over an episode -> one value curve (WVM section 3.2, appendix A: overlap averaging).

A group of episodes goes in lock step: step k scores the k-th window of each. A window costs one pass of the video
stream over its current frames; the future is never computed, and all noise draws read the same keys and values.
A frame's value is the mean over the windows that cover it; the mean so far is the next window's prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

from worldvalue import __version__
from worldvalue.data.episodes import readable
from worldvalue.data.identity import weights_identity
from worldvalue.data.pictures import cameras_shown, decoded
from worldvalue.data.windows import nearest, scoring_starts
from worldvalue.models import Estimator, load_model
from worldvalue.scoring.openvino import computed_by_openvino
from worldvalue.types import Compiler, DataError, Episode, EpisodeSource, ValueCurve


@dataclass(frozen=True)
class ScoreSettings:
    """How episodes are scored.

    Attributes:
        stride: frames between successive windows, 1 .. h; 1 is the paper's full overlap.
        draws: S, noise draws of each window.
        steps: Euler steps of each draw; the model's own when None. One gives the mean (the choice of the WVM and ViVa
            papers); the spread of the draws means something from a few steps on.
        seed: of the noise; a draw depends on it, the episode's index and the window, on nothing else.
        rate: frames per second to look at; the model's own when None.
        cameras: one for each cell of the model's picture; the episode's first ones when None.
        group: episodes in lock step. Part of the settings, since a sum of another batch may round otherwise.
        compile: who makes the model faster, where there is much to score; None leaves it as it is.
    """

    stride: int = 1
    draws: int = 8
    steps: int | None = None
    seed: int = 0
    rate: float | None = None
    cameras: tuple[str, ...] | None = None
    group: int = 16
    compile: Compiler | None = None


class _Windows:
    """Where an episode's windows lie, and which of its frames they show."""

    def __init__(self, estimator: Estimator, episode: Episode, settings: ScoreSettings) -> None:
        self.episode = episode
        self.scored = episode.indices_at(settings.rate or estimator.config.rate)
        self.asked = estimator.model.window
        self.starts = scoring_starts(len(self.scored), self.asked.chunk, settings.stride)
        self.shown = self.asked.shown[: self.asked.seen]
        self.told = self.asked.states[: self.asked.states_seen]
        ticks = sorted({*self.shown, *self.told, *self.asked.pictures})
        self.seen = np.unique([self._frames(step, ticks) for step in range(len(self.starts))])

    def at(self, step: int, ticks: Sequence[int]) -> Tensor:
        """Where, among the frames seen, a window's ticks are."""
        return torch.from_numpy(np.searchsorted(self.seen, self._frames(step, ticks)))

    def _frames(self, step: int, ticks: Sequence[int]) -> NDArray[np.int64]:
        """The episode's frames at a window's ticks, which count those that are scored or, where the model asks for it,
        those of the data; ends are repeated where the video is shorter."""
        start, places = self.starts[step], np.array(ticks)
        if self.asked.data_rate:
            times = self.episode.timestamps
            return nearest(times, times[self.scored[start + 1]] + (places - 1) / self.episode.fps)
        return self.scored[(start + places).clip(0, len(self.scored) - 1)]


class _Track:
    """One episode on its way: what its frames look like and the values found so far."""

    def __init__(self, estimator: Estimator, episode: Episode, settings: ScoreSettings) -> None:
        self.episode, self.windows = episode, _Windows(estimator, episode, settings)
        self.starts, self.scored = self.windows.starts, self.windows.scored
        self.noise_shape, self.chunk = estimator.model.noise_shape, estimator.model.window.chunk
        seen = self.windows.seen
        self.items = estimator.items(episode, seen, settings.cameras)
        self.views = self.items.shape[1]
        self.states = estimator.states(episode, seen)
        self.pixels = estimator.pixels(episode, seen, settings.cameras)
        self.margin, self.ends = estimator.config.band_margin, estimator.model.value_range
        self.rng = np.random.default_rng((settings.seed, episode.index))
        # Each frame is covered by at most h windows: the one that ends at position p of a chunk, for every p.
        self.draws = np.full((len(self.scored), self.chunk, settings.draws), np.nan, dtype=np.float32)

    def window(self, step: int) -> dict[str, Tensor]:
        """What is seen of the next window: ``items``, and ``states`` and ``pictures`` where they are asked for."""
        windows = self.windows
        seen = {"items": self.items[windows.at(step, windows.shown)]}
        if self.states is not None:
            seen["states"] = self.states[windows.at(step, windows.told)]
        if self.pixels is not None:
            seen["pictures"] = self.pixels[windows.at(step, windows.asked.pictures)]
        return seen

    def prefix(self, step: int) -> NDArray[np.float32]:
        """Value ``(S,)`` before the next window: the mean so far, the same for all draws.

        Before the first frame nothing is known, since a video may begin in the middle of a task: every draw gets
        a value of its own from U[0, 1], which training has taught the model to distrust (prefix randomization).
        """
        start, draws = self.starts[step], self.draws.shape[2]
        if start < 0:
            return self.rng.random(draws, dtype=np.float32)
        known = self.draws[start]
        return np.full(draws, known[np.isfinite(known)].mean(), dtype=np.float32)

    def noise(self) -> NDArray[np.float32]:
        """Standard normal ``(S, *noise_shape)`` for the next window."""
        return self.rng.standard_normal((self.draws.shape[2], *self.noise_shape), dtype=np.float32)

    def keep(self, step: int, values: NDArray[np.float32]) -> None:
        """Take in the values ``(S, h)`` of a window."""
        for position in range(self.chunk):
            frame = self.starts[step] + 1 + position
            if frame < len(self.scored):
                self.draws[frame, position] = values[:, position]

    def curve(self) -> ValueCurve:
        """Statistics over all draws of a frame, linear in time between the frames that were looked at."""
        pool = self.draws.reshape(len(self.scored), -1)
        times = self.episode.timestamps
        low, middle, high = quantiles(pool, (0.1, 0.5, 0.9))
        least, greatest = self.ends
        low, high = np.clip(low - self.margin, least, middle), np.clip(high + self.margin, middle, greatest)
        rows = (np.nanmean(pool, 1), np.nanstd(pool, 1), low, middle, high)
        mean, std, q10, q50, q90 = (np.interp(times, times[self.scored], row).astype(np.float32) for row in rows)
        return ValueCurve(times, mean, std, q10, q50, q90, self.scored)


@dataclass(frozen=True)
class Scorer:
    """A model at work, under settings that fit it: there is no scorer with others.

    Attributes:
        estimator: the model.
        settings: how it scores; where they say so, the model's layers are compiled in place.

    Raises:
        DataError: the stride would leave frames that no window covers, or the model has learned no values.
    """

    estimator: Estimator
    settings: ScoreSettings

    def __post_init__(self) -> None:
        if self.estimator.model.video_alone:
            raise DataError("This model has learned videos alone; train its next stage, with a loss 'value'.")
        chunk = self.estimator.model.window.chunk
        if not 1 <= self.settings.stride <= chunk:
            raise DataError(f"The stride must be 1 to {chunk} frames, not {self.settings.stride}.")
        match self.settings.compile:
            case Compiler.TORCH:
                self.estimator.compile_layers()
            case Compiler.OPENVINO:
                computed_by_openvino(self.estimator)

    @classmethod
    def of(cls, model: str | Path, settings: ScoreSettings) -> Scorer:
        """A shipped model by its name, or one in a checkpoint folder, its layers in bfloat16: they compute in it.

        Raises:
            DataError: see ``load_model``; or the settings do not fit.
        """
        return cls(load_model(model, torch.bfloat16), settings)

    @property
    def steps(self) -> int:
        """Euler steps of each draw."""
        return self.settings.steps or self.estimator.model.euler_steps

    def identity(self) -> dict[str, Any]:
        """Everything about model and settings that the values depend on, and this library's version."""
        model = [weights_identity(self.estimator), repr(self.estimator.config), __version__]
        return {"model": model, "settings": {**asdict(self.settings), "steps": self.steps}}

    def check(self, source: EpisodeSource) -> None:
        """Raise DataError when the first episode that can be opened lacks the cameras; nothing is decoded.

        With a pretrained text encoder it also reads all instructions: so that is loaded once, not for each group.
        """
        opened = readable(source)
        first = next(opened, None)
        if first is None:
            return
        cameras_shown(first, self.estimator.picture_settings(first, self.settings.cameras))
        if self.estimator.model.text is None:
            self.estimator.text_states([first.instruction, *(episode.instruction for episode in opened)])

    def decoded(self, episode: Episode) -> Episode:
        """The episode with all the pictures in memory that scoring it takes; nothing of it is computed by the model.

        Raises:
            DataError: they cannot be decoded, or the episode lacks a camera.
        """
        seen = _Windows(self.estimator, episode, self.settings).seen
        return decoded(episode, seen, self.estimator.picture_settings(episode, self.settings.cameras))

    @torch.inference_mode()
    def __call__(self, episodes: Sequence[Episode]) -> list[ValueCurve | DataError]:
        """Value curves of a group of episodes, in order; the error of one whose frames cannot be had."""
        with torch.autocast(self.estimator.device.type, torch.bfloat16):
            tracks = [self._open(episode) for episode in episodes]
            running = [track for track in tracks if isinstance(track, _Track)]
            texts = self.estimator.text_states([track.episode.instruction for track in running])
            for step in range(max((len(track.starts) for track in running), default=0)):
                active = [track for track in running if step < len(track.starts)]
                for views in sorted({track.views for track in active}):
                    self._score_step([track for track in active if track.views == views], texts, step)
        return [track.curve() if isinstance(track, _Track) else track for track in tracks]

    def _open(self, episode: Episode) -> _Track | DataError:
        try:
            return _Track(self.estimator, episode, self.settings)
        except DataError as error:
            return error

    def _score_step(self, tracks: Sequence[_Track], texts: dict[str, Tensor], step: int) -> None:
        estimator = self.estimator
        seen = default_collate([track.window(step) for track in tracks])
        text = torch.stack([texts[track.episode.instruction] for track in tracks])
        prefix = torch.from_numpy(np.stack([track.prefix(step) for track in tracks])).to(estimator.device)
        noise = torch.from_numpy(np.stack([track.noise() for track in tracks])).to(estimator.device)
        values = estimator.values(seen, text, prefix, noise, self.steps).float().cpu().numpy()
        for track, chunk in zip(tracks, values, strict=True):
            track.keep(step, chunk)


def quantiles(pool: NDArray[np.float32], chances: Sequence[float]) -> NDArray[np.float64]:
    """Quantiles ``(Q, n)`` of the numbers in each row ``(n, m)``, NaN left out; ``np.nanquantile`` goes row by row."""
    ordered, last = np.sort(pool, axis=1), np.isfinite(pool).sum(axis=1) - 1  # NaN comes last
    places = np.multiply.outer(chances, last)
    below, rows = places.astype(np.int64), np.arange(len(pool))
    least, most = ordered[rows, below], ordered[rows, np.minimum(below + 1, last)]
    return least + (places - below) * (most - least)


def score(estimator: Estimator, episode: Episode, settings: ScoreSettings | None = None) -> ValueCurve:
    """The value curve of one episode.

    Raises:
        DataError: its frames cannot be decoded, or the settings do not fit the model.
    """
    (outcome,) = Scorer(estimator, settings or ScoreSettings())([episode])
    if isinstance(outcome, DataError):
        raise outcome
    return outcome
