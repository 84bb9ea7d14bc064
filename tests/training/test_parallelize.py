"""What is done to a model to make it fit and run on many devices changes no number that it learns."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.small import small_estimator, train_small
from tests.training.two_processes import ONE, SHORT, TWO, VALUE_ALONE
from torch import Tensor, nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from worldvalue.training.checkpoints import latest_checkpoint
from worldvalue.training.loop import _sample_numbers
from worldvalue.training.parallelize import parallelize, started_processes
from worldvalue.training.settings import TrainingSettings
from worldvalue.types import DataError

two_processes = pytest.mark.xdist_group("two processes")  # they share what was run


def _losses(out: Path) -> list[list[float]]:
    with (out / "log.csv").open() as file:
        return [[float(row[name]) for name in row if name in ("value", "video")] for row in csv.DictReader(file)]


def _assert_near(found: list[list[float]], expected: list[list[float]]) -> None:
    """The log has six digits."""
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def _start(rank: int, port: int, out: Path) -> subprocess.Popen:
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    environment = os.environ | {name: str(number) for name, number in told.items()}
    environment |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    command = (sys.executable, "-m", "tests.training.two_processes", str(out))
    root = Path(__file__).parents[2]
    with (out / f"stderr_{rank}").open("w") as errors:
        return subprocess.Popen(command, env=environment, cwd=root, stderr=errors)


@dataclass(frozen=True)
class Runs:
    """What one process trained alone, and the folder of what two did; how each of those ended."""

    one: Path
    one_weights: dict[str, Tensor]
    two: Path
    codes: list[int]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    weights = train_small(one, ONE)
    shutil.copytree(one / "checkpoints" / "step_00000002", two / "resumed" / "checkpoints" / "step_00000002")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [_start(rank, port, two) for rank in range(2)]
    try:
        return Runs(one, weights, two, [process.wait(timeout=1800) for process in started])
    finally:
        for process in started:
            process.kill()


def _checkpoint(out: Path, file: Path) -> dict[str, Any]:
    dcp_to_torch_save(latest_checkpoint(out), file)
    return torch.load(file)


@pytest.mark.slow
@two_processes
@pytest.mark.parametrize("name", ["sharded", "resumed"])
def test_two_processes_that_share_the_weights_learn_what_one_learns_in_two_turns(
    runs: Runs, name: str, tmp_path: Path
) -> None:
    """Also from the middle on, from a checkpoint of one process."""
    all_steps, out = _losses(runs.one), runs.two / name
    _assert_near(_losses(out), all_steps[2:] if name == "resumed" else all_steps)
    one, two = _checkpoint(runs.one, tmp_path / "one"), _checkpoint(out, tmp_path / "two")
    torch.testing.assert_close(two, one, rtol=1e-3, atol=2e-6)


@pytest.mark.slow
@two_processes
@pytest.mark.parametrize("name", ["recomputed", "copied"])
def test_two_processes_learn_in_two_turns_what_one_learns_in_four(runs: Runs, name: str, tmp_path: Path) -> None:
    """Sharing the weights and computing layers twice, or each with all weights."""
    train_small(tmp_path, replace(ONE, accumulation=4, **SHORT))
    _assert_near(_losses(runs.two / name), _losses(tmp_path))


@pytest.mark.slow
@two_processes
def test_the_first_process_gets_the_whole_weights_of_a_sharded_run(runs: Runs) -> None:
    weights = load_file(runs.two / "sharded.safetensors")
    torch.testing.assert_close(weights, runs.one_weights, rtol=0, atol=2e-6)


@pytest.mark.slow
@two_processes
def test_in_bf16_shards_learn_nearly_what_one_process_learns(runs: Runs, tmp_path: Path) -> None:
    train_small(tmp_path, replace(ONE, precision="bf16", **SHORT))
    torch.testing.assert_close(_losses(runs.two / "bf16"), _losses(tmp_path), rtol=0, atol=5e-3)


@pytest.mark.slow
@two_processes
def test_shards_do_without_gradients_of_weights_that_have_none(runs: Runs, tmp_path: Path) -> None:
    """Because no loss depends on them, or because they are frozen."""
    train_small(tmp_path / "value alone", replace(ONE, **SHORT), weights=VALUE_ALONE)
    train_small(tmp_path / "frozen", replace(ONE, **SHORT), frozen="video")
    for name in ("value alone", "frozen"):
        _assert_near(_losses(runs.two / name), _losses(tmp_path / name))


@pytest.mark.slow
@two_processes
def test_a_killed_process_ends_the_other_with_a_sentence_and_one_process_goes_on_as_if_nothing_had_been(
    runs: Runs, tmp_path: Path
) -> None:
    assert runs.codes == [1, -signal.SIGKILL]
    last = (runs.two / "stderr_0").read_text().splitlines()[-1]
    assert "Another process of this run is gone" in last
    assert "--resume" in last
    killed = runs.two / "killed"
    assert latest_checkpoint(killed).name == "step_00000002"
    weights = train_small(shutil.copytree(killed, tmp_path / "killed"), ONE, resume=True)
    _assert_near(_losses(tmp_path / "killed"), _losses(runs.one))
    torch.testing.assert_close(weights, runs.one_weights, rtol=0, atol=2e-6)


def test_processes_and_turns_share_out_the_same_samples() -> None:
    one = list(_sample_numbers(ONE, 1, process=0, processes=1))
    two = [list(_sample_numbers(TWO, 1, process, processes=2)) for process in range(2)]
    assert one[:2] == [[4, 5], [6, 7]]
    assert one == [numbers for step in zip(*two, strict=True) for numbers in step]


def test_recomputing_changes_no_number_and_keeps_less() -> None:
    found, kept = [], []
    for settings in (TWO, replace(TWO, recompute=True)):
        model, sizes = small_estimator().model, []
        called = parallelize(model, settings, started_processes())
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, n=sizes: n.append(t.numel()) or t, lambda t: t):
            torch.stack(list(called(model.example_batch()).values())).sum().backward()
        found.append([p.grad for p in model.parameters()])
        kept.append(sum(sizes))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    assert kept[1] < 0.6 * kept[0]  # the rest is kept outside of the layers, by the text encoder above all


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.nn.functional.gelu(self.inner(x))


class _Layered(nn.Module):
    sharded_layers = (_Layer,)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(_Layer(), _Layer())

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"square": self.layers(batch["x"]).square().mean()}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++")
def test_compiled_layers_that_are_computed_twice_give_the_same_losses_and_gradients() -> None:
    x, results = torch.randn(3, 4), []
    for settings in (TWO, replace(TWO, recompute=True, compile=True)):
        model = _Layered()
        loss = parallelize(model, settings, started_processes())({"x": x})["square"]
        loss.backward()
        results.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*results)


def test_what_is_done_to_layers_needs_a_model_that_names_them() -> None:
    for setting in ("recompute", "compile", "sharded"):
        with pytest.raises(DataError, match="names no layers"):
            parallelize(nn.Linear(2, 2), TrainingSettings(**{setting: True}), started_processes())


def test_trained_weights_are_kept_in_full_precision_whatever_they_were_loaded_in() -> None:
    model = _Layered().bfloat16()
    model.layers[0].requires_grad_(False)
    parallelize(model, TWO, started_processes())
    assert {parameter.dtype for parameter in model.layers[0].parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.layers[1].parameters()} == {torch.float32}


def test_a_precision_that_is_not_there_gets_a_sentence() -> None:
    with pytest.raises(DataError, match=r"no precision 'fp16'.*bf16, no"):
        TrainingSettings(precision="fp16")
