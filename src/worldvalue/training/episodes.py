"""Labelled episodes as training material: target values, and frames encoded once and kept on disk."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import Dataset

from worldvalue.backbones.video_vae import VideoVAE, pictures_to_float
from worldvalue.data.files import remove_leftovers, replacing
from worldvalue.data.identity import dataset_identity, weights_identity
from worldvalue.data.pictures import PIECE, PictureSettings, pictures
from worldvalue.data.rewards import dense_rewards
from worldvalue.data.value_targets import (
    cost_to_go,
    discounted_return,
    from_labels,
    monte_carlo_value,
    progress,
    value_from_cost,
)
from worldvalue.data.windows import TrainingEpisode
from worldvalue.types import DataError, Episode, EpisodeSource, Window

Made = TypeVar("Made")


@dataclass(frozen=True)
class StoredCodes:
    """Codes of one episode's frames in a file ``(T, V, c, h, w)`` float16, read piece by piece."""

    path: Path

    def read(self, indices: NDArray[np.int64]) -> Tensor:
        """See ``FrameItems.read``: float32."""
        codes = np.load(self.path, mmap_mode="r")
        return torch.from_numpy(np.asarray(codes[indices], dtype=np.float32))


@dataclass(frozen=True)
class StoredPictures:
    """Pictures of one episode's frames in a file ``(T, V, H, W, 3)`` uint8, read piece by piece."""

    path: Path

    def read(self, indices: NDArray[np.int64]) -> Tensor:
        """See ``FrameItems.read``: float32 in [-1, 1]."""
        shown = np.load(self.path, mmap_mode="r")
        return pictures_to_float(torch.from_numpy(np.asarray(shown[indices])))


@dataclass(frozen=True)
class Pictures:
    """Pictures of one episode's frames, decoded when asked for: ``(n, V, 3, H, W)`` float32 in [-1, 1]."""

    episode: Episode
    settings: PictureSettings

    def read(self, indices: NDArray[np.int64]) -> Tensor:
        """See ``FrameItems.read``."""
        return pictures_to_float(torch.from_numpy(pictures(self.episode, indices, self.settings)))


class FrameDataset(Dataset):
    """Random single frames of episodes, to train an autoencoder: sample ``i`` is a pure function of ``i``.

    Args:
        frames: ``(n, H, W, 3)`` pictures of all episodes.
        scene: ``(n,)`` which scene each shows, counted from 0.
        seed: of the draws.
    """

    EMPHASIS = 10.0

    def __init__(self, frames: NDArray[np.uint8], scene: NDArray[np.int64], seed: int) -> None:
        self.frames = frames
        self.scene = scene
        self.seed = seed
        self.means = np.stack([frames[scene == s].mean(0) for s in range(scene.max() + 1)]).astype(np.float32)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """A frame ``frames`` ``(3, H, W)`` in [-1, 1] and ``weight`` ``(1, H, W)`` of its pixels.

        What differs from the scene's mean picture, the robot and the objects, weighs more: a small object is too few
        pixels to be worth a place in the code otherwise.
        """
        rng = np.random.default_rng((self.seed, number))
        drawn = rng.integers(len(self.frames))
        picture = torch.from_numpy(self.frames[drawn])
        unusual = (picture.float() - torch.from_numpy(self.means[self.scene[drawn]])).abs().mean(-1) / 127.5
        return {"frames": pictures_to_float(picture), "weight": 1.0 + self.EMPHASIS * unusual[None]}


Targets = Callable[[Episode], NDArray[np.float64] | None]
"""Values ``(T,)`` that an episode is to teach; None for one that has none."""


def progress_values(episode: Episode) -> NDArray[np.float64] | None:
    """WVM's: from the labels, plain progress without any; None for a failure, which has none.

    Raises:
        DataError: the labels give no curve.
    """
    try:
        if episode.labels is None or episode.labels.mode is None:
            return None if episode.success is False else progress(episode.length)
        return None if episode.labels.mode == "failure" else from_labels(episode.labels)
    except ValueError as error:
        raise DataError(f"{episode.name} has no target values: {error}") from error


def outcome_values(episode: Episode) -> NDArray[np.float64]:
    """ViVa's: one minus the cost-to-go, negative for a failure; where the outcome is unknown it counts as a success.

    Raises:
        DataError: the episode is too short.
    """
    try:
        return value_from_cost(cost_to_go(episode.length, episode.success is not False))
    except ValueError as error:
        raise DataError(f"{episode.name} has no target values: {error}") from error


def return_values(episode: Episode) -> NDArray[np.float64]:
    """MV-WAM's: the discounted return of the outcome; where that is unknown it counts as a success.

    Raises:
        DataError: the episode is too short.
    """
    try:
        return monte_carlo_value(episode.length, episode.success is not False)
    except ValueError as error:
        raise DataError(f"{episode.name} has no target values: {error}") from error


@dataclass(frozen=True)
class DenseReturns:
    """WAV's: the discounted dense rewards of ``horizon`` frames; None for a failure, which has none.

    Divided by the discounts' sum, so that the values are of a reward's size whatever the horizon: of a robot that
    stands still at the end, 5/9 with one arm and two views, since four of the nine components are penalties. An episode
    is taken to stay as its last frame is: cut off there, its value would fall to nothing where the task is done.

    Attributes:
        horizon: frames.
        gamma: discount of a frame.
        arms: of the robot; each has an equal part of the states' and of the actions' numbers, one arm after another.
        folder: where rewards are kept and looked for, since they take as long as encoding the frames.
    """

    horizon: int
    gamma: float
    arms: int = 1
    folder: Path | None = None

    def __call__(self, episode: Episode) -> NDArray[np.float64] | None:
        """See ``Targets``.

        Raises:
            DataError: proprioception or actions are missing, or the pictures are too small or cannot be decoded.
        """
        if episode.success is False:
            return None
        rewards = self._rewards(episode)
        staying = np.concatenate([rewards, np.full(self.horizon, rewards[-1])])
        total = discounted_return(np.ones(1 + self.horizon), self.gamma)[0]
        return discounted_return(staying, self.gamma, self.horizon)[: episode.length] / total

    def _rewards(self, episode: Episode) -> NDArray[np.float64]:
        path = self.folder / f"rewards_{self.arms}_{episode.index:06d}.npy" if self.folder else None
        if path and path.exists():
            return np.load(path)
        if episode.proprioception is None or episode.actions is None:
            raise DataError(f"{episode.name} has no proprioception or no actions; dense rewards are made of both.")
        try:
            views = [episode.frames(camera=camera) for camera in episode.cameras]
            rewards = dense_rewards(
                views, self._of_each_arm(episode.proprioception), self._of_each_arm(episode.actions)
            )
        except ValueError as error:
            raise DataError(f"{episode.name} has no dense rewards: {error}") from error
        if path:
            with replacing(path) as partial:
                np.save(partial, rewards)
        return rewards

    def _of_each_arm(self, numbers: NDArray[np.floating]) -> list[NDArray[np.floating]]:
        if numbers.shape[1] % self.arms:
            raise ValueError(f"{numbers.shape[1]} numbers of a frame cannot be shared by {self.arms} arms.")
        return np.split(numbers, self.arms, axis=1)


def sample_frames(
    sources: Sequence[EpisodeSource], settings: PictureSettings, per_episode: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures ``(n, H, W, 3)`` from random times of every readable episode, and ``(n,)`` the scene each shows.

    Episodes of one task are one scene, seen from one place; an episode whose task has no name is one by itself.

    Raises:
        DataError: no episode can be read.
    """
    rng = np.random.default_rng(seed)

    def read(episode: Episode) -> tuple[NDArray[np.uint8], str]:
        indices = np.sort(rng.choice(episode.length, min(per_episode, episode.length), replace=False))
        task = episode.labels.task if episode.labels else None
        return pictures(episode, indices, settings), task or episode.name

    parts = [part for source in sources for part in _from_each(source, "Reading frames", read)]
    if not parts:
        raise DataError(f"{' and '.join(str(source.path) for source in sources)}: no episode can be read.")
    frames, names = zip(*parts, strict=True)
    _, task = np.unique(names, return_inverse=True)
    shown = np.concatenate(frames)
    scene = np.repeat(task, [len(part) for part in frames])[:, None] * settings.views + np.arange(settings.views)
    return shown.reshape(-1, *shown.shape[2:]), scene.ravel()


def training_episodes(
    source: EpisodeSource,
    vae: VideoVAE,
    settings: PictureSettings,
    cache: Path,
    targets: Targets = progress_values,
    asked: Window | None = None,
) -> list[TrainingEpisode]:
    """Episodes with a target value, their frames encoded once into ``cache`` where the autoencoder allows it.

    States, actions and pixels are kept where ``asked`` names any, pixels beside the codes: decoding a frame of a video
    for every window takes as long as a small model's step. The cache is by autoencoder, picture settings and
    dataset, and is filled episode by episode, so that an interrupted run goes on where it stopped.

    Raises:
        DataError: no episode can be used.
    """
    folder = codes_folder(source, vae, settings, cache)
    if isinstance(targets, DenseReturns):
        targets = replace(targets, folder=folder)

    def prepare(episode: Episode) -> TrainingEpisode | None:
        values = targets(episode)
        if values is None:
            return None
        shown = Pictures(episode, settings)
        items = stored_codes(codes_path(folder, episode), vae, shown) if vae.caches_frames else shown
        pixels = None
        if asked and asked.pictures:
            pixels = stored_pictures(folder, shown) if vae.caches_frames else shown
        labels = episode.labels
        task = (labels and labels.task) or episode.instruction
        counterfactual = labels.counterfactual if labels else None
        return TrainingEpisode(
            episode.timestamps,
            values,
            episode.instruction,
            items,
            task,
            counterfactual,
            states=episode.proprioception if asked and asked.states else None,
            actions=episode.actions if asked and asked.actions else None,
            pixels=pixels,
        )

    doing = "Encoding frames" if vae.caches_frames else "Reading episodes"
    made = [episode for episode in _from_each(source, doing, prepare) if episode is not None]
    remove_leftovers(folder)
    if not made:
        raise DataError(f"{source.path} has no episode to learn values from.")
    return made


def codes_folder(source: EpisodeSource, vae: VideoVAE, settings: PictureSettings, cache: Path) -> Path:
    """Where the codes of a dataset's frames are kept: a folder of ``cache`` for all that they depend on."""
    identity = f"{weights_identity(vae)} {settings} {dataset_identity(source)}"
    return cache / hashlib.sha256(identity.encode()).hexdigest()[:16]


def codes_path(folder: Path, episode: Episode) -> Path:
    """The file of an episode's codes in ``codes_folder``."""
    return folder / f"episode_{episode.index:06d}.npy"


@torch.inference_mode()
def stored_codes(path: Path, vae: VideoVAE, shown: Pictures) -> StoredCodes:
    """The episode's codes on disk, encoded now if they are not there.

    Raises:
        DataError: the frames cannot be decoded.
    """
    if path.exists():
        return StoredCodes(path)
    pieces = np.array_split(np.arange(shown.episode.length), math.ceil(shown.episode.length / PIECE))
    with torch.autocast(next(vae.parameters()).device.type, torch.bfloat16):
        codes = [
            vae.items(torch.from_numpy(pictures(shown.episode, piece, shown.settings))).half().cpu().numpy()
            for piece in pieces
        ]
    with replacing(path, shared=True) as partial:
        np.save(partial, np.concatenate(codes))
    return StoredCodes(path)


def stored_pictures(folder: Path, shown: Pictures) -> StoredPictures:
    """The episode's pictures on disk, decoded now if they are not there.

    Raises:
        DataError: the frames cannot be decoded.
    """
    path = folder / f"pictures_{shown.episode.index:06d}.npy"
    if not path.exists():
        settings, length = shown.settings, shown.episode.length
        shape = (length, settings.views, settings.height, settings.width, 3)
        with replacing(path, shared=True) as partial:
            file = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
            for first in range(0, length, PIECE):
                piece = np.arange(first, min(first + PIECE, length))
                file[piece] = pictures(shown.episode, piece, settings)
            file.flush()
    return StoredPictures(path)


def _from_each(source: EpisodeSource, doing: str, make: Callable[[Episode], Made]) -> Iterator[Made]:
    """What ``make`` gives for every episode; those that cannot be read are named on standard error and left out."""
    console = Console(stderr=True)
    with Progress(console=console) as bar:
        for index in bar.track(range(len(source)), description=doing):
            try:
                yield make(source[index])
            except DataError as error:
                console.print(f"left out: {error}")
