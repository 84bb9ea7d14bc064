"""A plan against what training really holds, and against the arithmetic of its formulas."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from flops import forward_flops
from measure import held_bytes, most_bytes
from torch.testing._internal.distributed.fake_pg import FakeStore

from tests.small import (
    small_classifier_config,
    small_config,
    small_mv_wam_config,
    small_recipe,
    small_viva_config,
    small_wav_config,
)
from worldvalue import planner
from worldvalue.cli import main
from worldvalue.models import Estimator, EstimatorConfig
from worldvalue.planner import Plan, plan
from worldvalue.recipes import Recipe, find_recipe
from worldvalue.training.parallelize import adamw, parallelize
from worldvalue.types import DataError

LAYERS = ("estimator.model.video.num_layers=2", "estimator.model.value.layers=2")
AGAIN, SHARED = "training.recompute=true", "training.sharded=true"
STATE = ("weights", "gradients", "optimizer state")


def _recipe(*settings: str) -> Recipe:
    """The tiny WVM with two layers, given text states: its tensors are so large that little else counts."""
    changed = [*LAYERS, "training.accumulation=2", "training.batch=2"]
    changed += ["estimator.model.text=null", "estimator.model.text_length=16", "estimator.model.text_pool=1"]
    return find_recipe("wvm", "tiny", [*changed, *settings])


@cache
def _plan(*settings: str, gpus: int = 1, frozen: tuple[str, ...] = ()) -> Plan:
    return plan(replace(_recipe(*settings), frozen=frozen), gpus, rate=1e12)


@pytest.fixture
def one_of_four() -> Iterator[None]:
    """This process counts as the first of four; what the other three would send is never looked at."""
    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    yield
    dist.destroy_process_group()


def _bytes_of_training(recipe: Recipe, processes: int) -> int:
    """The most that this process holds in a step that is not the first."""
    settings = recipe.training
    estimator = Estimator(recipe.estimator)
    parallelize(estimator, settings, SimpleNamespace(num_processes=processes, device=torch.device("cpu")))
    optimizer = adamw(estimator, settings)
    model, weights = estimator.model, recipe.estimator.model.weights
    batch = model.example_batch(settings.batch)

    def step() -> None:
        for _ in range(settings.accumulation):
            with torch.autocast("cpu", torch.bfloat16):
                losses = model(batch)
            torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    return held_bytes(estimator, optimizer) + most_bytes(step, torch.device("cpu"))


def test_one_process_holds_what_was_planned() -> None:
    assert _plan().total == pytest.approx(_bytes_of_training(_recipe(), 1), rel=0.02)


@pytest.mark.usefixtures("one_of_four")
def test_one_of_four_processes_that_share_the_weights_and_recompute_holds_what_was_planned() -> None:
    held = _bytes_of_training(_recipe(SHARED, AGAIN), 4)
    assert _plan(SHARED, AGAIN, gpus=4).total == pytest.approx(held, rel=0.06)


def test_shards_are_a_part_of_the_state_and_copies_are_all_of_it() -> None:
    one, copied, shared = _plan(), _plan(gpus=4), _plan(SHARED, AGAIN, gpus=4)
    weights = sum(p.numel() for p in Estimator(_recipe().estimator).model.parameters())
    assert [one.memory[name] for name in STATE] == [4 * weights, 4 * weights, 8 * weights]
    assert copied.memory == one.memory
    for name in STATE:
        assert shared.memory[name] == pytest.approx(one.memory[name] / 4, rel=0.01)


def test_recomputing_costs_operations_and_keeps_less() -> None:
    plain, again = _plan(), _plan(SHARED, AGAIN, gpus=4)
    assert again.memory["activations"] < 0.6 * plain.memory["activations"]
    assert again.flops["forwards"] == plain.flops["forwards"]
    assert 0.5 < (again.flops["backwards"] - plain.flops["backwards"]) / plain.flops["forwards"] < 1.0


def test_what_is_frozen_needs_neither_gradients_nor_a_way_back() -> None:
    value = 'estimator.model.weights={"value": 1}'
    all_of_it, part = _plan(value), _plan(value, frozen=("video",))
    video = sum(p.numel() for p in Estimator(_recipe().estimator).model.video.parameters())
    assert all_of_it.memory["gradients"] - part.memory["gradients"] == 4 * video
    assert part.memory["frozen weights"] - all_of_it.memory["frozen weights"] == 4 * video
    assert part.flops["backwards"] < 0.5 * all_of_it.flops["backwards"]
    with pytest.raises(DataError, match="no part 'future'"):
        _plan(frozen=("future",))


@pytest.mark.parametrize("settings", [(), ('estimator.model.weights={"value": 1}',)], ids=["all losses", "value alone"])
def test_the_formula_gives_the_operations_that_are_counted(settings: tuple[str, ...]) -> None:
    recipe = _recipe(*settings)
    assert _plan(*settings).flops["forwards"] == forward_flops(recipe.estimator.model, recipe.training.batch)


def test_time_follows_from_operations_windows_and_rate() -> None:
    found = _plan(gpus=4)
    assert found.windows == 2 * 2 * 4
    a_window = sum(found.flops.values())
    assert found.steps_a_day * found.windows * a_window == pytest.approx(86_400 * 4 * 1e12)


@pytest.mark.parametrize(
    ("config", "layers", "recompute"),
    [(small_config(), 6, False), (small_wav_config(), 8, True)],
    ids=["wvm", "video of wav"],
)
def test_few_layers_tell_what_many_take(config: EstimatorConfig, layers: int, recompute: bool) -> None:
    """Where all are alike, and where every third is another."""
    model = replace(planner._with_layers(config.model, layers), weights={"video": 1.0})
    recipe = small_recipe(replace(config, model=model))
    recipe = replace(recipe, training=replace(recipe.training, recompute=recompute))
    told, counted = planner._of_all_layers(recipe, 1), planner._counted(recipe, 1, layers)
    for name in ("trained", "frozen", *(f"{phase} flops" for phase in planner.PHASES)):
        assert told[name] == counted[name], name
    for phase in planner.PHASES:
        expected = counted[f"{phase} copies"] + counted[f"{phase} others"]
        assert 0.95 * expected <= told[f"{phase} copies"] + told[f"{phase} others"] <= 1.2 * expected, phase


@pytest.mark.parametrize(
    "config",
    [small_viva_config(), small_mv_wam_config(), small_wav_config(), small_classifier_config()],
    ids=["viva", "mv-wam", "wav", "frame-classifier"],
)
def test_every_model_can_be_planned(config: EstimatorConfig) -> None:
    estimator = Estimator(config)
    found = plan(small_recipe(config), 1, rate=1e12)
    assert found.memory["weights"] == 4 * sum(p.numel() for p in estimator.model.parameters())
    assert found.memory["frozen weights"] == 4 * sum(p.numel() for p in estimator.vae.parameters())
    assert found.memory["activations"] > 0
    assert found.flops["backwards"] > found.flops["forwards"] > found.flops["autoencoder"] == 0


def _told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[str, str, int]:
    monkeypatch.setattr(sys, "argv", ["worldvalue", "plan", *arguments])
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    return *capsys.readouterr(), code


def test_the_command_tells_whether_it_fits_and_how_long_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = ("--recipe", "tiny", "--set", LAYERS[0], "--set", LAYERS[1])
    told, _, code = _told(capsys, monkeypatch, *tiny, "--gpus", "2", "--gpu-tflops", "10")
    assert code == 0
    assert re.search(r"all +[\d.]+ of 80: fits", told)
    assert re.search(r"Time with 2 x 10 TFLOP/s .*\n  steps a day +[\d,]+, each of 128 windows", told)
    told, _, _ = _told(capsys, monkeypatch, *tiny, "--gpu-memory", "1", "--set", "training.batch=512")
    assert "does not fit with a tenth to spare; try --set training.sharded=true" in told


def test_what_cannot_be_planned_gets_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, told, code = _told(capsys, monkeypatch, "gpt")
    assert (code, told.count("\n")) == (2, 1)
    assert "no model 'gpt' to be trained; choose from: wvm, viva" in told
