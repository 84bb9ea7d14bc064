"""The training loop: constructed parts in, checkpoints and a log out. It knows no model by name.

The same loop runs on one device and, started by ``torchrun``, on many. A step is made of micro-batches: of P processes
that take A micro-batches each, process p takes number ``m = p + a * P`` as its a-th. Micro-batch m of step k reads the
samples from ``(k * P * A + m) * batch`` on and draws its noise from a generator seeded by (seed, k, m). So stopping and
resuming changes no number, and neither does doing with two processes what one does in two turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from worldvalue.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from worldvalue.training.log import TrainingLog
from worldvalue.training.parallelize import (
    accumulating,
    adamw,
    clip_gradients,
    mean_over_processes,
    parallelize,
    peers_needed,
    started_processes,
    whole_weights,
)
from worldvalue.training.settings import TrainingSettings
from worldvalue.types import Batch, DataError


def train(
    model: nn.Module,
    weights: Mapping[str, float],
    dataset: Dataset,
    collate: Callable[[list[Any]], Batch],
    settings: TrainingSettings,
    out: Path,
    resume: bool = False,
    unused: bool = False,
) -> dict[str, Tensor]:
    """Train a model in place; checkpoints go to ``out/checkpoints``, the log to ``out/log.csv``.

    Args:
        model: called with a batch, gives its losses by name; weights that require no gradient stay as they are.
        weights: of the losses, by the same names.
        dataset: map-style; sample ``i`` is a pure function of ``i``.
        collate: samples to a batch.
        settings: see there.
        out: folder of the run; all processes see it.
        resume: go on from the newest checkpoint in ``out``; without one, start.
        unused: whether some weights take part in no loss; several processes have to be told.

    Returns:
        The model's weights and buffers by name, on the CPU; nothing on any process but the first. The model itself may
        have been left sharded.

    Raises:
        DataError: a loss is not finite (the last checkpoint stays), or depends on nothing that is trained; or ``out``
            holds a run and ``resume`` is off; or see ``parallelize``.
        ConnectionError: another process of the run is gone.
        OSError: a checkpoint cannot be written.
    """
    if not resume and latest_checkpoint(out) is not None:
        raise DataError(f"{out} holds a training run already; continue it with --resume or choose another --out.")
    processes = started_processes()
    with peers_needed(processes, f"The last checkpoint in {out} is whole: start the run again with --resume."):
        called = parallelize(model, settings, processes, unused)
        optimizer = adamw(model, settings)
        start = load_checkpoint(out, model, optimizer) if resume else 0
        batches = _Batches(_loader(dataset, collate, settings, start, processes), processes.device)
        take_step = OptimizerStep(model, called, weights, optimizer, settings, processes)
        with TrainingLog(out, start, settings.steps, enabled=processes.is_main_process) as log:
            for done in range(start + 1, settings.steps + 1):
                losses = take_step(done - 1, batches)
                if done % settings.log_every == 0 or done == settings.steps:
                    log.write(done, losses, settings.learning_rate(done), batches.waiting())
                log.advance()
                if done % settings.save_every == 0 or done == settings.steps:
                    save_checkpoint(out, model, optimizer, done, processes)
        return whole_weights(model)


@dataclass(frozen=True)
class OptimizerStep:
    """One step of the optimizer.

    Attributes:
        model: what is trained.
        called: what is called with batches instead.
    """

    model: nn.Module
    called: nn.Module
    weights: Mapping[str, float]
    optimizer: torch.optim.Optimizer
    settings: TrainingSettings
    processes: PartialState

    def __call__(self, step: int, batches: Iterator[Batch]) -> dict[str, float]:
        """Mean losses of all micro-batches of a step, after which the weights have moved."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate(step)
        found = []
        for turn in range(settings.accumulation):
            batch = next(batches)
            number = self.processes.process_index + turn * self.processes.num_processes
            torch.manual_seed(_noise_seed(settings.seed, step, number))
            with accumulating(self.called, more=turn + 1 < settings.accumulation):
                found.append(self._backward(batch))
        norm = clip_gradients(self.model, settings.clip)
        mean = mean_over_processes(torch.stack(found).mean(0)).tolist()
        losses = dict(zip(self.weights, mean, strict=True))
        if not (np.isfinite(mean).all() and torch.isfinite(norm)):
            told = ", ".join(f"{name} {loss:.3g}" for name, loss in losses.items())
            raise DataError(
                f"The losses ({told}) or their gradients are no longer finite; the last checkpoint is kept: resume "
                "from it with a lower learning rate."
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return losses

    def _backward(self, batch: Batch) -> Tensor:
        """Losses of a micro-batch, in the order of their weights, whose gradients have been added up."""
        device = self.processes.device.type
        # The fused attention of the CPU is slow backwards on few tokens; plain products are several times faster.
        backends = [SDPBackend.MATH] if device == "cpu" else list(SDPBackend.__members__.values())
        with sdpa_kernel(backends):
            with torch.autocast(device, torch.bfloat16, enabled=self.settings.precision == "bf16"):
                losses = self.called(batch)
            assert losses.keys() == self.weights.keys(), "losses and weights have the same names"
            total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
            if not total.requires_grad:
                told = "The losses depend on no part that is trained; freeze less, or give more losses a weight."
                raise DataError(told)
            (total / self.settings.accumulation).backward()
        return torch.stack([losses[name].detach().float() for name in self.weights])


class _Batches:
    """Batches on their way to a device, and how much of the time was spent waiting for them."""

    def __init__(self, loader: Iterable[Batch], device: torch.device) -> None:
        self._loader = iter(loader)
        self._device = device
        self._waited = 0.0
        self._since = time.monotonic()

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> Batch:
        asked = time.monotonic()
        batch = next(self._loader)
        self._waited += time.monotonic() - asked
        return {name: tensor.to(self._device, non_blocking=True) for name, tensor in batch.items()}

    def waiting(self) -> float:
        """Share, 0 to 1, of the time since it was last asked for."""
        now = time.monotonic()
        share = self._waited / (now - self._since)
        self._waited, self._since = 0.0, now
        return share


def _noise_seed(seed: int, step: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, step, number)).generate_state(1)[0])


def _loader(
    dataset: Dataset,
    collate: Callable[[list[Any]], Batch],
    settings: TrainingSettings,
    start: int,
    processes: PartialState,
) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=_sample_numbers(settings, start, processes.process_index, processes.num_processes),
        collate_fn=collate,
        num_workers=settings.workers,
        pin_memory=processes.device.type == "cuda",
    )


def _sample_numbers(settings: TrainingSettings, start: int, process: int, processes: int) -> Iterator[list[int]]:
    """Samples of each micro-batch of one process, step by step."""
    for step in range(start, settings.steps):
        for turn in range(settings.accumulation):
            number = process + turn * processes
            first = (step * processes * settings.accumulation + number) * settings.batch
            yield list(range(first, first + settings.batch))
