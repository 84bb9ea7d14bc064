"""The vocabulary of worldvalue: episodes, labels, value curves, and the protocols between rooms.

Everything else imports from here; this module imports nothing of ours. Times are seconds, rates are
frames per second, images are uint8 RGB ``(T, H, W, 3)``, values rise with progress.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Mode = Literal["expert", "hesitation", "retry", "failure"]
MODES: tuple[Mode, ...] = get_args(Mode)


class DataError(ValueError):
    """Bad input. The message is one sentence: which file, what is wrong, what to do about it."""


def in_short(error: Exception) -> str:
    """The first line of what a library's error says, to stand inside a sentence."""
    return (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".:")


class Compiler(StrEnum):
    """What makes a model faster. The same values but for rounding come out.

    Attributes:
        TORCH: compiles the layers; needs a C++ compiler, and takes a minute before the first group.
        OPENVINO: on a CPU, takes autoencoder and model whole (``scoring.openvino``); half a minute.
    """

    TORCH = "torch"
    OPENVINO = "openvino"


EventKind = Literal["milestone", "error"]
EVENT_KINDS: tuple[EventKind, ...] = ("milestone", "error")


@dataclass(frozen=True)
class Event:
    """A key frame of an episode (ViVa section 4.2).

    Attributes:
        frame: its index, from 0.
        kind: a milestone should lift the value, an execution error should lower it.
    """

    frame: int
    kind: EventKind


@dataclass(frozen=True)
class Labels:
    """What is known about how an episode went (Suboptimal-Value-Bench, WVM appendix B).

    Attributes:
        length: number of frames ``T`` of the labelled episode.
        mode: how the episode went; None when unknown.
        m, n: first and last frame of the suboptimal segment, inclusive, ``0 < m < n < T - 1``; None when there
            is no such segment.
        success: whether the task was done at the end; None when unknown.
        task: short task name such as ``"lift"``; None when unknown.
        kinds: what exactly happened in the segment, such as ``("miss_beside",)``.
        counterfactual: an instruction that the same scene allows but this episode does not carry out, such as one
            that names another object; None when unknown.
        events: key frames, in the order of time.
    """

    length: int
    mode: Mode | None = None
    m: int | None = None
    n: int | None = None
    success: bool | None = None
    task: str | None = None
    kinds: tuple[str, ...] = ()
    counterfactual: str | None = None
    events: tuple[Event, ...] = ()


class FrameReader(Protocol):
    """Decodes frames of one episode on demand; holds no pictures between calls."""

    def read(self, camera: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Frames ``(len(indices), H, W, 3)`` in the order asked for (repeats allowed).

        Raises:
            DataError: the video is missing, damaged, or has fewer frames than the episode has rows.
        """
        ...


@dataclass(frozen=True)
class Episode:
    """One robot episode: an instruction and what was seen and done, frame by frame.

    Attributes:
        index: number of the episode in its dataset or manifest, from 0.
        name: what a person would call it (a video's path, or ``episode_000012``).
        instruction: the task in words.
        fps: nominal frame rate.
        timestamps: ``(T,)`` float64 seconds since the first frame, strictly rising.
        cameras: names of the views; the first is the default one.
        reader: decodes the frames.
        first_row: number of this episode's first frame in the whole dataset (LeRobot's ``index``).
        proprioception: ``(T, P)`` float32 or None.
        actions: ``(T, A)`` float32 or None.
        labels: what is known about how it went, or None.
    """

    index: int
    name: str
    instruction: str
    fps: float
    timestamps: NDArray[np.float64]
    cameras: tuple[str, ...]
    reader: FrameReader
    first_row: int = 0
    proprioception: NDArray[np.float32] | None = None
    actions: NDArray[np.float32] | None = None
    labels: Labels | None = None

    @property
    def length(self) -> int:
        """Number of frames ``T``."""
        return len(self.timestamps)

    @property
    def success(self) -> bool | None:
        """Whether the task was done at the end; None when unknown."""
        return self.labels.success if self.labels else None

    def frames(
        self, indices: Sequence[int] | NDArray[np.integer] | None = None, camera: str | None = None
    ) -> NDArray[np.uint8]:
        """Frames ``(n, H, W, 3)`` of one camera, decoded now; all of them when ``indices`` is None.

        Raises:
            DataError: the camera does not exist or its video cannot be decoded.
        """
        wanted = range(self.length) if indices is None else [int(i) for i in indices]
        return self.reader.read(self.camera_named(camera), wanted)

    def camera_named(self, name: str | None) -> str:
        """The camera of that name; None is the default one.

        The last part of a dotted name is enough (``front`` for ``observation.images.front``) when only one
        camera ends in it.

        Raises:
            DataError: no camera, or more than one, is meant.
        """
        if name is None:
            return self.cameras[0]
        if name in self.cameras:
            return name
        meant = [camera for camera in self.cameras if camera.rpartition(".")[2] == name]
        if len(meant) == 1:
            return meant[0]
        raise DataError(f"{self.name} has no camera '{name}'; choose one of: {', '.join(self.cameras)}.")

    def indices_at(self, rate: float) -> NDArray[np.int64]:
        """Indices ``(n,)`` of the frames nearest in time to ``0, 1/rate, 2/rate, ...`` up to the last frame.

        Half-way ties go to the earlier frame. The rate is never raised: with ``rate`` at or above the
        episode's own, each frame comes once.
        """
        if rate >= self.fps or self.length == 1:
            return np.arange(self.length)
        # A last frame that rounding has put a little before its tick still counts as on time.
        ticks = np.arange(int(self.timestamps[-1] * rate + 0.01) + 1) / rate
        after = np.clip(np.searchsorted(self.timestamps, ticks), 1, self.length - 1)
        before = after - 1
        late = self.timestamps[after] - ticks < ticks - self.timestamps[before] - 1e-9
        return np.unique(np.where(late, after, before))


class EpisodeSource(Protocol):
    """A dataset as a sequence of episodes that are opened one at a time."""

    @property
    def path(self) -> Path:
        """Where the dataset lies."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Episode:
        """Open episode ``index``. Raises DataError when this one episode is bad; others stay usable."""
        ...

    def __iter__(self) -> Iterator[Episode]: ...


@dataclass(frozen=True)
class ValueCurve:
    """Values of one episode, one row for each frame of the original rate.

    They lie in [0, 1]; in [-1, 1] where the model has learned from failures, which are negative (ViVa).

    Attributes:
        timestamps: ``(T,)`` seconds since the first frame.
        mean, std: ``(T,)`` float32 mean and standard deviation of the value over noise draws and windows.
        q10, q50, q90: ``(T,)`` float32 quantiles of the same draws; the outer two moved apart by the margin of a model
            that was calibrated, so that the truth lies between them in about 80 % of the frames.
        scored: ``(n,)`` int64 indices of the frames the model looked at; the rest is linear in time between.
    """

    timestamps: NDArray[np.float64]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    q10: NDArray[np.float32]
    q50: NDArray[np.float32]
    q90: NDArray[np.float32]
    scored: NDArray[np.int64]


Batch = Mapping[str, "torch.Tensor"]
"""Tensors of one training or scoring batch by name; each model documents the names it reads."""


@dataclass(frozen=True)
class Window:
    """Which frames of an episode a model asks for, counted in ticks from a window's first one.

    Tick 0 is the prefix, the frame before those whose values are asked for; it may lie one tick before the episode.
    Ticks below 0 are frames from before that.

    Attributes:
        chunk: h; the values asked for are those of ticks 1 .. h.
        shown: ticks whose pictures it learns from, rising.
        seen: so many of them, the first ones, are all that it sees when it is used.
        states: ticks whose proprioception it learns from.
        states_seen: so many of them, the first ones, are given to it when it is used.
        actions: ticks whose actions it learns from.
        pictures: ticks that it is shown as pixels too, when it learns and when it is used.
        ahead: further ticks after h whose values it learns too.
        data_rate: whether a tick is a frame of the data, whatever its rate; otherwise one of the model's own rate.
    """

    chunk: int
    shown: tuple[int, ...]
    seen: int
    states: tuple[int, ...] = ()
    states_seen: int = 0
    actions: tuple[int, ...] = ()
    pictures: tuple[int, ...] = ()
    ahead: int = 0
    data_rate: bool = False

    @property
    def values(self) -> tuple[int, ...]:
        """Ticks whose values it learns, the prefix first."""
        return tuple(range(1 + self.chunk + self.ahead))

    @property
    def ticks(self) -> range:
        """From the first to the last one that is asked for."""
        asked = (*self.values, *self.shown, *self.states, *self.actions, *self.pictures)
        return range(min(asked), 1 + max(asked))


@runtime_checkable
class ValueModel(Protocol):
    """What training and scoring ask of a model, a ``torch.nn.Module``; its loss names are those of the weights in its
    config.

    Axes: B windows, S noise draws, h chunk length, V pictures of a frame, P numbers of a state, L text tokens.

    Attributes:
        config: a frozen dataclass; ``weights`` are those of the losses, ``text_length`` counts tokens.
        text: encoder of instructions that is trained with the model; None when text states come from outside.
        scales: what brings the numbers of a "state", an "action" or a "value" into the model's range and back
            (``backbones.scales``), where it has one; fitted to the training data.
        sharded_layers: layer types that are one unit of sharding, checkpointing and compiling.
    """

    config: Any
    text: Any
    scales: torch.nn.ModuleDict
    sharded_layers: tuple[type[torch.nn.Module], ...]

    @property
    def views_taken(self) -> range:
        """Of how many pictures of a frame it can make something."""
        ...

    @property
    def video_alone(self) -> bool:
        """Whether it learns videos and nothing else, as in a first stage: it then tells neither values nor actions."""
        ...

    @property
    def euler_steps(self) -> int:
        """Steps of a noise sample when it scores, unless told otherwise."""
        ...

    @property
    def value_range(self) -> tuple[float, float]:
        """The least and the greatest value it gives."""
        ...

    @property
    def losses_known(self) -> frozenset[str]:
        """Names of all losses it can compute; those without a weight are left out."""
        ...

    def __call__(self, batch: Batch) -> dict[str, torch.Tensor]:
        """``losses``."""
        ...

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Scalar losses by name, unweighted."""
        ...

    @property
    def window(self) -> Window:
        """The frames it asks for."""
        ...

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Of one noise draw."""
        ...

    def encode(self, vae: Any, items: torch.Tensor) -> torch.Tensor:
        """Latents as the model reads them, of the ``VideoVAE.per_frame`` items ``(B, n, V, ...)`` of n shown frames."""
        ...

    def observe(self, batch: Batch) -> Any:
        """What is computed once of all that is seen.

        Args:
            batch: ``latents`` of the seen frames from ``encode``, ``text`` ``(B, L, text_dim)`` states, and where the
                model sees any, ``states`` ``(B, n, P)`` and ``pictures`` ``(B, n, V, 3, H, W)`` in [-1, 1].
        """
        ...

    def predict(self, context: Any, prefix: torch.Tensor, noise: torch.Tensor, steps: int = 1) -> torch.Tensor:
        """Values ``(B, S, h)`` in ``value_range``.

        Args:
            context: from ``observe``.
            prefix: ``(B, S)`` value at the frame before the chunk.
            noise: ``(B, S, *noise_shape)`` standard normal draws.
            steps: Euler steps of a model that takes any.
        """
        ...

    def example_batch(self, batch_size: int = 2) -> Batch:
        """A random batch of the right names, shapes and dtypes."""
        ...

    def modules(self) -> Iterator[torch.nn.Module]:
        """All layers, as ``torch.nn.Module`` has them."""
        ...

    def named_children(self) -> Iterator[tuple[str, torch.nn.Module]]:
        """The parts by name, as ``torch.nn.Module`` has them."""
        ...


@runtime_checkable
class ActingModel(Protocol):
    """What a policy asks of a value model that tells actions too."""

    @property
    def acting_noise_shape(self) -> tuple[int, ...]:
        """Of one noise draw of an action chunk."""
        ...

    def act(self, context: Any, noise: torch.Tensor, steps: int) -> torch.Tensor:
        """Action chunks ``(B, S, T, A)`` in the data's units.

        Args:
            context: from ``ValueModel.observe``.
            noise: ``(B, S, *acting_noise_shape)`` standard normal draws.
            steps: Euler steps.
        """
        ...


class Policy(Protocol):
    """What moves a robot."""

    def act(self, seen: Episode) -> NDArray[np.float32]:
        """Actions ``(n, A)`` for the time from the last frame on, one a frame, given all that was seen and done."""
        ...
