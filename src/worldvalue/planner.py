"""What training at a recipe's size takes: memory of each GPU by part, operations, time.

Nothing is computed. One batch runs forwards and backwards through the model on tensors without contents, while
operations and bytes alive are counted; state and shards follow from the shapes of the weights. A model of a few layers
tells what many take, since all cost the same.

It is the CPU's kernels that are counted. Their norms keep two fp32 copies of what they norm, so that a GPU needs less
than is told here. Not counted is what a GPU's allocator loses between pieces, what communication holds back, and what
a text encoder computes that is trained with its model.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import (
    FlopCounterMode,
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
    shape_wrapper,
)

from worldvalue.backbones.experts import ExpertConfig
from worldvalue.backbones.ltx_video import JOIN_EVERY
from worldvalue.backbones.text import TextEncoder
from worldvalue.backbones.weights import unfilled
from worldvalue.models import Estimator, ModelConfig
from worldvalue.models.frame_classifier import FrameClassifierConfig
from worldvalue.models.wav import WAVConfig
from worldvalue.recipes import Recipe
from worldvalue.runs import freeze
from worldvalue.training.parallelize import recompute_layers
from worldvalue.types import Batch

SECONDS_A_DAY = 86_400
SPARE = 0.1
"""Share of a GPU's memory that is left for what is not counted."""
REMEDY = "try --set training.sharded=true, training.recompute=true or a smaller training.batch"
FULL, LOW = 4, 2
"""Bytes of a number in fp32 and in bf16."""
PERIODS: Mapping[type[ModelConfig], int] = {WAVConfig: JOIN_EVERY}
PERIOD = 2
"""Layers after which a model repeats itself: in MV-WAM text and pictures take turns, WAV joins its views."""
PHASES = ("autoencoder", "forwards", "backwards")
"""What follows another in a step: frames to latents, latents to losses, and back, with what is computed again."""
Made = TypeVar("Made")

_aten = torch.ops.aten
_CPU_ATTENTION: Mapping[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda *shapes, **_: sdpa_backward_flop_count(
        *shapes[:4]
    ),
}
_FORMULAS = {**flop_registry, **{operation: shape_wrapper(count) for operation, count in _CPU_ATTENTION.items()}}


@dataclass(frozen=True)
class Plan:
    """What training takes.

    Attributes:
        memory: bytes on each GPU, by what they are for. Gradients count as if they were there all the time, which they
            are where a step takes several batches.
        flops: of one window, by ``PHASES``; none for an autoencoder whose codes are kept on disk.
        windows: of a step, all GPUs together.
        steps: of the whole training.
        gpus: number of GPUs.
        rate: operations a second that each is expected to do.
    """

    memory: Mapping[str, float]
    flops: Mapping[str, float]
    windows: int
    steps: int
    gpus: int
    rate: float

    @property
    def total(self) -> float:
        """Bytes on each GPU."""
        return sum(self.memory.values())

    @property
    def steps_a_day(self) -> float:
        """At the expected rate."""
        return SECONDS_A_DAY * self.gpus * self.rate / (self.windows * sum(self.flops.values()))

    def fits(self, gpu_memory: float) -> bool:
        """Whether so many bytes on each GPU are enough, with some to spare."""
        return self.total <= (1 - SPARE) * gpu_memory

    def table(self, gpu_memory: float) -> str:
        """All of it to be read by people; ``gpu_memory``: bytes on each GPU."""
        verdict = "fits, a tenth is spare" if self.fits(gpu_memory) else f"does not fit with a tenth to spare; {REMEDY}"
        lines = [
            "Memory on each GPU, GB",
            *(_line(name, size / 1e9) for name, size in self.memory.items()),
            _line("all", self.total / 1e9, f" of {gpu_memory / 1e9:g}: {verdict}"),
            "Operations of a window, TFLOP",
            *(_line(name, count / 1e12) for name, count in self.flops.items()),
            f"Time with {self.gpus} x {self.rate / 1e12:g} TFLOP/s (bf16 peaks: A100 312, H100 and H200 989)",
            _line("steps a day", self.steps_a_day, f", each of {self.windows:,} windows"),
            _line("days", self.steps / self.steps_a_day, f" for {self.steps:,} steps"),
        ]
        return "\n".join(lines)


def plan(recipe: Recipe, gpus: int, rate: float) -> Plan:
    """Memory and time of training a recipe with its settings.

    Args:
        recipe: whose ``training`` settings say the batch, and what is recomputed and sharded.
        gpus: number of GPUs.
        rate: operations a second that each is expected to do; ``benchmarks/gpu.py`` measures what it can.

    Raises:
        DataError: a part that the recipe freezes is not there, or nothing is left to train.
    """
    settings = recipe.training
    found = _of_all_layers(recipe, gpus if settings.sharded else 1)
    tightest = max(PHASES, key=lambda phase: found[f"{phase} copies"] + found[f"{phase} others"])
    memory = {
        "weights": FULL * found["trained"],
        "gradients": FULL * found["trained"],
        "optimizer state": 2 * FULL * found["trained"],
        "frozen weights": FULL * found["frozen"],
        "weights as they are computed with": found[f"{tightest} copies"] + found["gathered"],
        "activations": found[f"{tightest} others"],
    }
    flops = {phase: found[f"{phase} flops"] / settings.batch for phase in PHASES}
    windows = settings.batch * settings.accumulation * gpus
    return Plan(memory, flops, windows, settings.steps, gpus, rate)


def flop_counter() -> FlopCounterMode:
    """Torch's counter of operations; by itself it knows the attention of GPUs alone."""
    return FlopCounterMode(display=False, custom_mapping=dict(_CPU_ATTENTION))


def _of_all_layers(recipe: Recipe, shards: int) -> dict[str, float]:
    """What ``_counted`` finds, from two models of few layers: its numbers rise evenly with the layers.

    Bytes in use do so but nearly, since with more layers memory may be tightest at another moment. At that moment it
    holds no less than what is kept at the end of the forward pass, and what is in use beside that in the small models.
    """
    model = recipe.estimator.model
    layers, period = _layers(model), PERIODS.get(type(model), PERIOD)
    few = 2 + (layers - 2) % period  # a single layer would have none to be gathered ahead
    if layers <= few + period:
        return _counted(recipe, shards, layers)
    fewer, more = _counted(recipe, shards, few), _counted(recipe, shards, few + period)
    found = {name: fewer[name] + (more[name] - fewer[name]) * (layers - few) / period for name in fewer}
    for phase in PHASES[1:]:
        beside = more[f"{phase} others"] - more["kept"]
        found[f"{phase} others"] = max(found[f"{phase} others"], found["kept"] + beside)
    return found


def _counted(recipe: Recipe, shards: int, layers: int) -> dict[str, float]:
    """What one batch takes on one GPU of a model with so many layers.

    Returns:
        Numbers of weights, ``trained`` and ``frozen``; bytes of those ``gathered`` from other GPUs; and of each of
        ``PHASES`` its ``flops`` and the bytes of ``copies`` of weights and of ``others`` when the two were most; the
        others that are ``kept`` when the forward pass is over.
    """
    settings, low = recipe.training, recipe.training.precision == "bf16"
    with unfilled():
        estimator = Estimator(replace(recipe.estimator, model=_with_layers(recipe.estimator.model, layers)))
    model: Any = estimator.model
    with FakeTensorMode(allow_non_fake_inputs=True):
        estimator.to_empty(device="cpu")
        if model.text is not None:
            model.text.encoder.tie_weights()  # they were taken apart
        freeze(estimator, recipe.frozen)
        found = _weights(estimator, shards, LOW if low else FULL)
        batch = _example(estimator, settings.batch)
        _prepare(model, settings.recompute, cast=low and shards > 1)
        counter = _Counter([*_tensors(estimator), *batch.values()])

        def count(phase: str, work: Callable[[], Made]) -> Made:
            counter.restart()
            with counter:
                made = work()
            found[f"{phase} flops"] = counter.flops
            found[f"{phase} copies"], found[f"{phase} others"] = counter.most
            return made

        def encode() -> Tensor:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=low):
                return model.encode(estimator.vae, batch["items"])

        def loss() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                losses = model.losses({**batch, "latents": latents})
            return torch.stack([model.config.weights[name] * each for name, each in losses.items()]).sum()

        latents = count("autoencoder", encode)
        total = count("forwards", loss)
        found["kept"] = counter.bytes[1]
        count("backwards", total.backward)
    return found


class _Counter(TorchDispatchMode):
    """Counts the operations inside it, and the bytes that are alive of what is made there.

    Attributes:
        flops: of matrix products, convolutions and attention.
        bytes: of copies of weights and of all else, now.
        most: the two when together they were most.

    Args:
        given: what is there already and does not count; the copies are of these.
    """

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()
        self._given = {_storage(tensor) for tensor in given}
        self._known: dict[int, weakref.ref] = {}
        self.bytes = [0, 0]
        self.restart()

    def restart(self) -> None:
        """Count from now on; what is alive stays so."""
        self.flops = 0
        self.most = tuple(self.bytes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket in _FORMULAS:
            self.flops += _FORMULAS[func.overloadpacket](*args, **(kwargs or {}), out_val=made)
        kind = 0 if func is _aten._to_copy.default and _storage(args[0]) in self._given else 1
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage(), kind)
        return made

    def _note(self, storage: torch.UntypedStorage, kind: int) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._given or key in self._known:
            return

        def forget(_: weakref.ref) -> None:
            del self._known[key]
            self.bytes[kind] -= size

        self._known[key] = weakref.ref(storage, forget)
        self.bytes[kind] += size
        self.most = max(self.most, tuple(self.bytes), key=sum)


class _Read(nn.Module):
    """In the place of a model's own text encoder, which looks into its input: that has no contents here."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.states = encoder.max_length // encoder.pool, encoder.dim

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.zeros(len(tokens), *self.states, requires_grad=True)


def _weights(estimator: Estimator, shards: int, width: int) -> dict[str, float]:
    """Numbers and bytes of weights, see ``_counted``; ``width``: bytes of a number that layers compute with.

    Where weights are sharded, those of two layers are gathered at a time, one at work and one ahead of it, and those
    outside of layers all the time (``training.parallelize``).
    """
    model: Any = estimator.model
    layers = sorted(_numbers(layer) for layer in model.modules() if isinstance(layer, model.sharded_layers))
    outside = _numbers(model) - sum(layers)
    trained = [-(-len(p) // shards) * p[0].numel() for p in model.parameters() if p.requires_grad]
    frozen = [-(-len(p) // shards) * p[0].numel() for p in model.parameters() if not p.requires_grad]
    return {
        "trained": sum(trained),
        "frozen": sum(frozen) + _numbers(estimator.vae),
        "gathered": width * (outside + sum(layers[-2:])) if shards > 1 else 0,
    }


def _example(estimator: Estimator, windows: int) -> Batch:
    """A batch as training has it, with what the autoencoder is given or, where that is kept on disk, has made."""
    vae, picture, asked = estimator.vae, estimator.config.picture, estimator.model.window
    shown = torch.zeros(len(asked.shown), picture.views, picture.height, picture.width, 3, dtype=torch.uint8)
    batch = {**estimator.model.example_batch(windows), "items": vae.items(shown).expand(windows, -1, *[-1] * 4)}
    if asked.pictures:
        size = (windows, len(asked.pictures), picture.views, 3, picture.height, picture.width)
        batch["pictures"] = torch.zeros(size)
    return batch


def _prepare(model: Any, recompute: bool, cast: bool) -> None:
    """As for training; ``cast``: weights in bf16, as shards are gathered."""
    if model.text is not None:
        model.text = _Read(model.text)
    for parameter in model.parameters():
        if cast:
            parameter.data = parameter.data.bfloat16()
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    if recompute:
        recompute_layers(model)


def _tensors(module: nn.Module) -> Iterable[Tensor]:
    yield from module.buffers()
    for parameter in module.parameters():
        yield parameter
        if parameter.grad is not None:
            yield parameter.grad


def _layers(model: ModelConfig) -> int:
    """How deep a model is; its streams are all as deep as each other."""
    if isinstance(model, FrameClassifierConfig):
        return model.layers
    experts = [part.layers for part in vars(model).values() if isinstance(part, ExpertConfig)]
    return experts[0] if experts else model.video["num_layers"]


def _with_layers(model: ModelConfig, layers: int) -> ModelConfig:
    if isinstance(model, FrameClassifierConfig):
        return replace(model, layers=layers)
    experts = {name: part for name, part in vars(model).items() if isinstance(part, ExpertConfig)}
    changed: dict[str, Any] = {name: replace(part, layers=layers) for name, part in experts.items()}
    return replace(model, video={**model.video, "num_layers": layers}, **changed)


def _numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _line(name: str, number: float, told: str = "") -> str:
    shown = f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
    return f"  {name:36}{shown:>10}{told}"
