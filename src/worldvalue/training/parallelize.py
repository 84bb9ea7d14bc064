"""The one place that changes a model so that it fits and runs fast on one device or many; models know nothing of it.

A model names its layers in ``sharded_layers``. Around those, from the inside outwards:

1. recomputing (activation checkpointing), so that the compiler sees what is kept and what is computed again;
2. ``torch.compile`` of each layer, so that one compiled layer serves all its likes, and gathering weights stays outside
   of the compiled code;
3. FSDP2 of each layer and of what is left: a layer's weights are whole only while it works. Without sharding, a full
   copy on every process (DDP).

torch's ``fully_shard`` is called directly, not through accelerate's plugin: accelerate 1.15 shards on GPUs only, so
nothing of it could be tested on the CPU; it shards all that it is given, the frozen autoencoder too; and it gathers
weights for ``forward`` alone, while our layers have a second entrance (``StreamBlock.read_text``). Accelerate still
starts the processes and names their devices.

Weights, gradients summed over processes, and optimizer state are fp32; a layer computes with bf16 copies of its
weights. Optimizer state in bf16 is not offered: it would save a quarter of what is kept of a weight (4 of 16 bytes),
but torch's AdamW gives its state the type of the weights and refuses to mix the two.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from worldvalue.training.settings import TrainingSettings
from worldvalue.types import DataError


def started_processes() -> PartialState:
    """The processes of this run, several when ``torchrun`` started it, and the device of this one."""
    return PartialState(cpu=not torch.cuda.is_available())


def parallelize(
    model: nn.Module, settings: TrainingSettings, processes: PartialState, unused: bool = False
) -> nn.Module:
    """Change a model in place as the settings ask; what is to be called with this process's batches.

    Args:
        model: holds one part with ``sharded_layers``, or none.
        settings: see there.
        processes: of this run.
        unused: whether some weights take part in no loss; copies on several processes have to be told.

    Raises:
        DataError: the settings ask for something that is done to layers, and the model names none.
    """
    model.to(processes.device)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    part = next((part for part in model.modules() if hasattr(part, "sharded_layers")), None)
    if part is None:
        if settings.recompute or settings.compile or settings.sharded:
            raise DataError("This model names no layers to recompute, compile or shard; leave these settings off.")
        return _copied(model, processes, unused)
    layers = _layers(part)
    entrances = {name: _entrances(type(part.get_submodule(name))) for name in layers}
    if settings.recompute:
        recompute_layers(part)
    if settings.compile:
        torch.compiler.reset()  # what earlier runs of this process compiled would count against a limit
        for name in layers:
            part.get_submodule(name).compile(dynamic=False)
    if not settings.sharded:
        return _copied(model, processes, unused)
    if processes.num_processes > 1:
        outside = set(model.parameters()) - set(part.parameters())
        assert not any(parameter.requires_grad for parameter in outside), "only what is sharded is kept the same"
        _shard(part, entrances, settings, processes)
    return model


def recompute_layers(part: nn.Module) -> None:
    """Let a model's layers keep their inputs alone and compute the rest again backwards."""
    for name in _layers(part):
        part.set_submodule(name, checkpoint_wrapper(part.get_submodule(name)))


@contextmanager
def peers_needed(processes: PartialState, advice: str) -> Iterator[None]:
    """Around all that needs the other processes of a run.

    Args:
        processes: of this run.
        advice: a sentence, what to do when one of them is gone.

    Raises:
        ConnectionError: another process ended before this one or lost its connection.
    """
    try:
        yield
    except RuntimeError as error:
        # NCCL has a type for it, gloo says where in its source it gave up.
        lost = isinstance(error, dist.DistError) or "gloo" in str(error)
        if processes.num_processes == 1 or not lost:
            raise
        raise ConnectionError(f"Another process of this run is gone; it says why if it could. {advice}") from error


def accumulating(model: nn.Module, more: bool) -> AbstractContextManager:
    """Around forward and backward pass of a micro-batch: ``more`` of them follow before the optimizer's step.

    Copies then exchange gradients only once a step. Shards exchange them after every micro-batch: to wait, each process
    would have to keep the whole model's gradients.
    """
    return model.no_sync() if more and isinstance(model, DistributedDataParallel) else nullcontext()


def adamw(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW on what is trained, in one kernel on a GPU; the learning rate is set step by step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = True if trained[0].device.type == "cuda" else None
    return torch.optim.AdamW(
        trained, lr=settings.peak_rate, betas=settings.betas, weight_decay=settings.weight_decay, fused=fused
    )


def clip_gradients(model: nn.Module, largest: float) -> Tensor:
    """Scale the gradients down to a norm of ``largest`` over all processes; the norm they had, equal on all."""
    norm = get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    clip_grads_with_norm_(model.parameters(), largest, norm)
    return norm


def mean_over_processes(numbers: Tensor) -> Tensor:
    """The same numbers on every process: the mean of each process's own."""
    if not dist.is_initialized():
        return numbers
    numbers = numbers.clone()
    dist.all_reduce(numbers)
    return numbers / dist.get_world_size()


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """All weights and buffers by name, unsharded, on the CPU of the first process; nothing on the others."""
    weights: dict[str, Any] = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    return weights


def _layers(part: nn.Module) -> list[str]:
    kinds = cast(tuple[type[nn.Module], ...], part.sharded_layers)
    return [name for name, layer in part.named_modules() if isinstance(layer, kinds)]


def _copied(model: nn.Module, processes: PartialState, unused: bool) -> nn.Module:
    if processes.num_processes == 1:
        return model
    # Gradients lie in the buffers that are exchanged; by default those are a second copy.
    return DistributedDataParallel(model, find_unused_parameters=unused, gradient_as_bucket_view=True)


def _shard(
    part: nn.Module, entrances: dict[str, list[str]], settings: TrainingSettings, processes: PartialState
) -> None:
    # Layers hand out their keys, which are views; nobody changes those in place, which is what torch warns of.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    # Autocast casts what goes into a layer, in this mode as in any other.
    low = torch.bfloat16 if settings.precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32, cast_forward_inputs=False)
    mesh = init_device_mesh(processes.device.type, (processes.num_processes,))
    for name, methods in entrances.items():
        layer = part.get_submodule(name)
        fully_shard(layer, mesh=mesh, mp_policy=policy)
        for method in methods:
            register_fsdp_forward_method(layer, method)
    fully_shard(part, mesh=mesh, mp_policy=policy)


def _entrances(layer: type[nn.Module]) -> list[str]:
    """A layer's public methods beside ``forward``: they need its weights whole, too."""
    added = sorted(set(dir(layer)) - set(dir(nn.Module)))
    return [name for name in added if not name.startswith("_") and inspect.isfunction(getattr(layer, name))]
