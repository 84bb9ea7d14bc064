"""How good could a model of windows be? Three small networks that have nothing of ours but the data.

``arm``: the value from the arm's places at the last four half seconds and the task; and again with the time since the
start and the length of the path so far, which no window shows. Prints the Hesitation-RMSE of each task.
``codes``: the hand's place from the codes of one frame. Prints the error in centimetres an axis, for each task.
``value``: the value from the codes of one frame and the task; with ``--views 2`` of both cameras' pictures. Prints the
Hesitation-RMSE of each task.

Run: ``python scripts/what_windows_tell.py arm|codes|value --train DIR --train DIR2 --validation DIR3``, with
collections of ``worldvalue collect robosuite``. Two cores take two minutes for ``arm``; one core six for ``value``, of
which the encoding of frames that no cache holds yet is a part.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from worldvalue.data import open_episodes
from worldvalue.data.value_targets import from_labels
from worldvalue.models import load_model
from worldvalue.simulation.tasks import PAPER_TASKS
from worldvalue.training.episodes import codes_folder, codes_path, training_episodes
from worldvalue.types import Episode, Labels

Floats = NDArray[np.float32]
STEP = 5
"""Frames in half a second."""


def labelled(paths: Sequence[Path]) -> Iterator[tuple[Episode, Labels, str]]:
    """Episodes with a ground truth, and their task; scenes with four objects count as the task's own."""
    for path in paths:
        for episode in open_episodes(path):
            if episode.labels and episode.labels.task and episode.labels.mode != "failure":
                yield episode, episode.labels, episode.labels.task.removesuffix("_of_four")


def one_hot(task: str, times: int) -> Floats:
    """``(times, tasks)``."""
    return np.tile(np.eye(len(PAPER_TASKS), dtype=np.float32)[list(PAPER_TASKS).index(task)], (times, 1))


def seen_in_window(episode: Episode, task: str) -> Floats:
    """``(T, n)`` the arm's pose and fingers at the last four half seconds, and the task."""
    assert episode.proprioception is not None
    arm = episode.proprioception[:, :9]
    past = (np.arange(len(arm))[:, None] - STEP * np.arange(3, -1, -1)).clip(0)
    return np.concatenate([arm[past].reshape(len(arm), -1), one_hot(task, len(arm))], axis=1)


def seen_before(episode: Episode) -> Floats:
    """``(T, 3)`` time since the start, length of the hand's path, and mean speed while it moved."""
    assert episode.proprioception is not None
    hand = episode.proprioception[:, :3]
    moved = np.linalg.norm(np.diff(hand, axis=0, prepend=hand[:1]), axis=1)
    path, moving = np.cumsum(moved), np.cumsum(moved > 0.003)
    return np.stack([episode.timestamps, path, path / np.maximum(moving, 1)], axis=1).astype(np.float32)


def fit(network: nn.Module, draw: Callable[[], tuple[Sequence[Tensor], Tensor]], steps: int) -> None:
    """Least squares with AdamW and a cosine."""
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(steps):
        inputs, targets = draw()
        with torch.autocast("cpu", torch.bfloat16):
            predicted = network(*inputs)
        optimizer.zero_grad()
        F.mse_loss(predicted.float(), targets).backward()
        optimizer.step()
        schedule.step()
    network.eval()


def arm(train: Sequence[Path], validation: Sequence[Path], history: bool) -> dict[str, float]:
    """Hesitation-RMSE by task of a network that sees the arm alone."""

    def seen(episode: Episode, task: str) -> Floats:
        window = seen_in_window(episode, task)
        return np.concatenate([window, seen_before(episode)], axis=1) if history else window

    pairs = [(seen(episode, task), from_labels(labels)) for episode, labels, task in labelled(train)]
    inputs = torch.from_numpy(np.concatenate([rows for rows, _ in pairs]))
    targets = torch.from_numpy(np.concatenate([values for _, values in pairs])).float()[:, None]
    mean, std = inputs.mean(0), inputs.std(0) + 1e-6
    width = inputs.shape[1]
    layers = [nn.Linear(width, 256), nn.GELU(), nn.Dropout(0.1), nn.Linear(256, 256), nn.GELU(), nn.Dropout(0.1)]
    network = nn.Sequential(*layers, nn.Linear(256, 1))

    def draw() -> tuple[Sequence[Tensor], Tensor]:
        chosen = torch.randint(len(inputs), (512,))
        return [(inputs[chosen] - mean) / std], targets[chosen]

    fit(network, draw, steps=6000)
    rows = ((torch.from_numpy(seen(episode, task)), labels, task) for episode, labels, task in labelled(validation))
    return hesitation_rmse(network, (((inputs - mean) / std, labels, task) for inputs, labels, task in rows))


@torch.no_grad()
def hesitation_rmse(network: nn.Module, rows: Iterable[tuple[Tensor, Labels, str]]) -> dict[str, float]:
    """By task, of values that a network tells from each frame's inputs ``(T, ...)``."""
    errors = defaultdict(list)
    for inputs, labels, task in rows:
        if labels.mode == "hesitation" and labels.m is not None and labels.n is not None:
            segment = slice(labels.m, labels.n + 1)
            error = network(inputs[segment])[:, 0].numpy() - from_labels(labels)[segment]
            errors[task].append(float(np.sqrt(np.mean(error**2))))
    return {task: float(np.mean(errors[task])) for task in PAPER_TASKS}


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Residual."""
        return x + self.second(F.gelu(self.first(self.norm(x))))


def picture_network(channels: int, side: int, outputs: int) -> nn.Sequential:
    """Codes ``(B, channels, side, side)`` to so many numbers."""
    fine = [nn.Conv2d(channels, 48, 3, padding=1), _Block(48), _Block(48), nn.Conv2d(48, 96, 2, 2)]
    coarse = [_Block(96), nn.Conv2d(96, 128, 2, 2), nn.GELU(), nn.Flatten(), nn.Dropout(0.2)]
    dense = [nn.Linear(128 * (side // 4) ** 2, 256), nn.GELU(), nn.Dropout(0.1), nn.Linear(256, 256), nn.GELU()]
    return nn.Sequential(*fine, *coarse, *dense, nn.Dropout(0.1), nn.Linear(256, outputs))


def read_codes(paths: Sequence[Path], cache: Path, views: int) -> Iterator[tuple[Floats, Episode, Labels, str]]:
    """The codes ``(T, V c, h, w)`` of each labelled episode's frames, with the episode, its labels and its task."""
    estimator = load_model("tiny")
    picture = replace(estimator.config.picture, views=views)
    for path in paths:
        source = open_episodes(path)
        training_episodes(source, estimator.vae, picture, cache)
        folder = codes_folder(source, estimator.vae, picture, cache)
        for episode, labels, task in labelled([path]):
            seen = np.load(codes_path(folder, episode))
            yield seen.reshape(len(seen), -1, *seen.shape[-2:]), episode, labels, task


def fit_codes(rows: Sequence[tuple[Floats, Floats]]) -> nn.Module:
    """A ``picture_network`` that tells the second of each pair, ``(T, n)``, from the first, ``(T, C, h, w)``."""
    frames, told = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*rows, strict=True))
    network = picture_network(frames.shape[1], frames.shape[2], told.shape[1])

    def draw() -> tuple[Sequence[Tensor], Tensor]:
        chosen = torch.randint(len(frames), (128,))
        return [frames[chosen].float()], told[chosen].float()

    fit(network, draw, steps=2000)
    return network


def codes(train: Sequence[Path], validation: Sequence[Path], cache: Path, views: int) -> dict[str, list[float]]:
    """Error of the hand's place by task, in centimetres along x, y and z, of a network that sees one frame's codes."""

    def places(paths: Sequence[Path]) -> Iterator[tuple[Floats, Floats, str]]:
        for seen, episode, _, task in read_codes(paths, cache, views):
            assert episode.proprioception is not None
            yield seen, 100 * episode.proprioception[:, :3], task

    network = fit_codes([(seen, place) for seen, place, _ in places(train)])
    errors = defaultdict(list)
    for seen, place, task in places(validation):
        with torch.no_grad():
            found = network(torch.from_numpy(seen[::10]).float()).numpy()
        errors[task].append(np.sqrt(np.mean((found - place[::10]) ** 2, axis=0)))
    return {task: np.mean(errors[task], axis=0, dtype=np.float64).round(2).tolist() for task in PAPER_TASKS}


def value(train: Sequence[Path], validation: Sequence[Path], cache: Path, views: int) -> dict[str, float]:
    """Hesitation-RMSE by task of a network that sees one frame's codes and is told the task."""

    def with_task(seen: Floats, task: str) -> Floats:
        told = one_hot(task, len(seen)).astype(np.float16)[:, :, None, None]
        return np.concatenate([seen, np.broadcast_to(told, (*told.shape[:2], *seen.shape[2:]))], axis=1)

    known = read_codes(train, cache, views)
    targets = ((seen, task, from_labels(labels).astype(np.float32)) for seen, _, labels, task in known)
    network = fit_codes([(with_task(seen, task), values[:, None]) for seen, task, values in targets])
    rows = read_codes(validation, cache, views)
    shown = ((torch.from_numpy(with_task(seen, task)).float(), labels, task) for seen, _, labels, task in rows)
    return hesitation_rmse(network, shown)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("which", choices=["arm", "codes", "value"])
    parser.add_argument("--train", type=Path, action="append", required=True)
    parser.add_argument("--validation", type=Path, action="append", required=True)
    parser.add_argument("--cache", type=Path, default=Path("codes"), help="folder of encoded frames")
    parser.add_argument("--views", type=int, default=1, help="cameras of an episode to look through")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.which == "codes":
        print(codes(options.train, options.validation, options.cache, options.views))
    elif options.which == "value":
        _print(f"{options.views} view(s)", value(options.train, options.validation, options.cache, options.views))
    else:
        for history in (False, True):
            _print("with the past" if history else "window alone", arm(options.train, options.validation, history))


def _print(name: str, found: dict[str, float]) -> None:
    print(name, {task: round(error, 3) for task, error in found.items()})
    print("mean over tasks", round(float(np.mean(list(found.values()))), 4))


if __name__ == "__main__":
    main()
