"""The training loop: constructed parts in, checkpoints and a log out. It knows no model by name.

Accelerate underneath, so the same loop runs on several devices. Step k reads samples ``k * batch ..`` of the
dataset and draws its noise from a generator seeded by (seed, k): stopping and resuming changes no number.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset, Subset

from worldvalue.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from worldvalue.training.log import TrainingLog
from worldvalue.types import Batch, DataError

# T5 ties its embeddings under two names; accelerate writes one and says so at every checkpoint.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


@dataclass(frozen=True)
class TrainingSettings:
    """Optimizer, schedule and bookkeeping (WVM Table A.1 gives the defaults).

    Attributes:
        steps: optimizer steps in all.
        batch: samples of one step on one device.
        peak_rate: learning rate after warm-up; it then falls as a cosine to ``final_share`` of itself.
        warmup: steps of linear warm-up.
        betas, weight_decay: of AdamW.
        clip: largest norm of the gradient.
        precision: ``bf16`` (autocast) or ``no``.
        seed: of the noise.
        save_every, log_every: steps.
        workers: processes that read samples.
        compile: let torch compile the model's layers; needs a C++ compiler, and takes a minute before the first step.
    """

    steps: int = 30_000
    batch: int = 32
    peak_rate: float = 1e-4
    final_share: float = 0.1
    warmup: int = 500
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip: float = 1.0
    precision: str = "bf16"
    seed: int = 0
    save_every: int = 1000
    log_every: int = 20
    workers: int = 0
    compile: bool = False


def learning_rate_share(step: int, settings: TrainingSettings) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then cosine decay to ``final_share``."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return settings.final_share + (1 - settings.final_share) * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def train(
    model: nn.Module,
    weights: Mapping[str, float],
    dataset: Dataset,
    collate: Callable[[list[Any]], Batch],
    settings: TrainingSettings,
    out: Path,
    resume: bool = False,
    unused: bool = False,
) -> None:
    """Train a model in place; checkpoints go to ``out/checkpoints``, the log to ``out/log.csv``.

    Args:
        model: called with a batch, gives its losses by name; weights that require no gradient stay as they are.
        weights: of the losses, by the same names.
        dataset: map-style; sample ``i`` is a pure function of ``i``.
        collate: samples to a batch.
        settings: see there.
        out: folder of the run.
        resume: go on from the newest checkpoint in ``out``; without one, start.
        unused: whether some weights take part in no loss; several processes have to be told.

    Raises:
        DataError: a loss is not finite (the last checkpoint stays), or depends on nothing that is trained; or ``out``
            holds a run and ``resume`` is off.
    """
    if not resume and latest_checkpoint(out) is not None:
        raise DataError(f"{out} holds a training run already; continue it with --resume or choose another --out.")
    accelerator = Accelerator(
        mixed_precision=settings.precision,
        cpu=not torch.cuda.is_available(),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=settings.peak_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, settings))
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(schedule)
    step = load_checkpoint(out, accelerator) if resume else 0
    loader = accelerator.prepare(_loader(dataset, collate, settings, step, accelerator.num_processes))
    with TrainingLog(out, step, settings.steps, enabled=accelerator.is_main_process) as log:
        for batch in loader:
            if step == settings.steps:
                break
            torch.manual_seed(_noise_seed(settings.seed, step, accelerator.process_index))
            losses = _step(accelerator, model, weights, batch, optimizer, settings)
            schedule.step()
            step += 1
            if step % settings.log_every == 0 or step == settings.steps:
                log.write(step, {name: float(loss) for name, loss in losses.items()}, float(schedule.get_last_lr()[0]))
            log.advance()
            if step % settings.save_every == 0 or step == settings.steps:
                save_checkpoint(out, accelerator, step)
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)


def _noise_seed(seed: int, step: int, process: int) -> int:
    return int(np.random.SeedSequence((seed, step, process)).generate_state(1)[0])


def _loader(
    dataset: Dataset,
    collate: Callable[[list[Any]], Batch],
    settings: TrainingSettings,
    step: int,
    processes: int,
) -> DataLoader:
    numbers = range(step * settings.batch * processes, settings.steps * settings.batch * processes)
    return DataLoader(
        Subset(dataset, numbers), settings.batch, collate_fn=collate, num_workers=settings.workers, drop_last=True
    )


def _step(
    accelerator: Accelerator,
    model: nn.Module,
    weights: Mapping[str, float],
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    settings: TrainingSettings,
) -> dict[str, Tensor]:
    # The fused attention of the CPU is slow backwards on few tokens; plain products are several times faster.
    backends = [SDPBackend.MATH] if accelerator.device.type == "cpu" else list(SDPBackend.__members__.values())
    with sdpa_kernel(backends):
        losses = model(batch)
        assert losses.keys() == weights.keys(), "losses and weights have the same names"
        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        if not total.requires_grad:
            raise DataError("The losses depend on no part that is trained; freeze less, or give more losses a weight.")
        accelerator.backward(total)
    norm = accelerator.clip_grad_norm_(model.parameters(), settings.clip)
    if not (torch.isfinite(total) and torch.isfinite(torch.as_tensor(norm))):
        told = ", ".join(f"{name} {loss.item():.3g}" for name, loss in losses.items())
        raise DataError(
            f"The losses ({told}) or their gradients are no longer finite; the last checkpoint is kept: resume from "
            "it with a lower learning rate."
        )
    optimizer.step()
    optimizer.zero_grad()
    return {name: loss.detach() for name, loss in losses.items()}
