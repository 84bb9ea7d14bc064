"""What the benchmarks share: time, operations and memory of a call, and what a device does at best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.profiler import ProfilerActivity, profile

from worldvalue.planner import flop_counter

Made = TypeVar("Made")


def timed(work: Callable[[], object], device: torch.device | None = None) -> float:
    """Wall seconds of one call, with all that it leaves a GPU to do."""
    _finish(device)
    began = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - began


def best_times(works: Sequence[Callable[[Callable[[], None]], object]], rounds: int) -> list[float]:
    """Wall seconds of calls without other loads that come and go on a machine: of each lap the best of some rounds.

    Args:
        works: each calls what it is given at the end of each lap, the same laps in each round. They are called in
            turns.
        rounds: number of calls of each.
    """
    laps: list[list[NDArray[np.float64]]] = [[] for _ in works]
    for _ in range(rounds):
        for work, found in zip(works, laps, strict=True):
            times = [time.perf_counter()]
            work(lambda times=times: times.append(time.perf_counter()))  # type: ignore[misc]
            found.append(np.diff([*times, time.perf_counter()]))
    return [float(np.min(found, axis=0).sum()) for found in laps]


def usual_time(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of a call, after a first one that does not count."""
    work()
    return median(timed(work, device) for _ in range(repeats))


def counted(work: Callable[[], object]) -> float:
    """Operations of all matrix products, convolutions and attention in one call."""
    with flop_counter() as counter:
        work()
    return float(counter.get_total_flops())


def matmul_ceiling(device: torch.device | None = None, repeats: int = 5) -> float:
    """bf16 matrix product of this device now, in operations a second."""
    product, operations = large_product(device)
    product()
    return repeats * operations / timed(lambda: [product() for _ in range(repeats)], device)


def large_product(device: torch.device | None = None) -> tuple[Callable[[], object], int]:
    """A bf16 matrix product, and its operations."""
    side = 8192 if _is_gpu(device) else 2048
    a, b = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    return lambda: torch.mm(a, b), 2 * side**3


def copy_ceiling(device: torch.device, repeats: int = 5) -> float:
    """Bytes a second of a large copy, read and written."""
    source = torch.zeros(2**32 if _is_gpu(device) else 2**28, dtype=torch.uint8, device=device)
    target = source.clone()
    return repeats * 2 * source.nbytes / timed(lambda: [target.copy_(source) for _ in range(repeats)], device)


def most_bytes(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes that a call holds at a time beside what is there when it begins."""
    if _is_gpu(device):
        _finish(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events = profiled.profiler.kineto_results.events()
    held = most = 0
    for _, size in sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"):
        held += size
        most = max(most, held)
    return most


def held_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Of weights, buffers and optimizer state, this process's shards of them."""
    state = chain.from_iterable(numbers.values() for numbers in optimizer.state.values())
    return sum(_local(tensor).nbytes for tensor in chain(model.parameters(), model.buffers(), _tensors(state)))


def _tensors(things: Iterable[object]) -> Iterable[Tensor]:
    return (thing for thing in things if isinstance(thing, Tensor))


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _is_gpu(device: torch.device | None) -> bool:
    return device is not None and device.type == "cuda"


def _finish(device: torch.device | None) -> None:
    if _is_gpu(device):
        torch.cuda.synchronize(device)
