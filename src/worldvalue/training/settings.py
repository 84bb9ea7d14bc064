"""How a model is trained: optimizer, schedule, bookkeeping, and what is done to make it fit and run on many devices."""

from __future__ import annotations

import math
from dataclasses import dataclass

from worldvalue.types import DataError

PRECISIONS = ("bf16", "no")


@dataclass(frozen=True)
class TrainingSettings:
    """Optimizer, schedule, bookkeeping and parallelism (WVM Table A.1 gives the defaults).

    A step takes ``batch * accumulation`` samples on every process. As long as the product of the three numbers stays,
    so do the samples of a step; as long as ``batch`` stays too, so does their noise.

    Attributes:
        steps: optimizer steps in all.
        batch: samples that go through the model at once on one device: a micro-batch.
        accumulation: micro-batches of one step on one device, one after another.
        peak_rate: learning rate after warm-up; it then falls as a cosine to ``final_share`` of itself.
        warmup: steps of linear warm-up.
        betas, weight_decay: of AdamW.
        clip: largest norm of the gradient.
        precision: ``bf16`` (autocast; weights and optimizer state stay fp32) or ``no``.
        seed: of the noise.
        save_every, log_every: steps.
        workers: processes that read samples.
        recompute: keep only the inputs of the model's layers and compute the rest again backwards (activation
            checkpointing): a third more computation, a fraction of the memory.
        compile: let torch compile the model's layers; needs a C++ compiler, and takes a minute before the first step.
        sharded: split weights, gradients and optimizer state over the processes (FSDP2), where there are several;
            otherwise each holds all of them.

    Raises:
        DataError: there is no such precision.
    """

    steps: int = 30_000
    batch: int = 32
    accumulation: int = 1
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
    recompute: bool = False
    compile: bool = False
    sharded: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise DataError(f"There is no precision '{self.precision}'; choose from: {', '.join(PRECISIONS)}.")

    def learning_rate(self, step: int) -> float:
        """Of a step: linear warm-up, then cosine decay to ``final_share`` of the peak."""
        return self.peak_rate * self._share(step)

    def _share(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
