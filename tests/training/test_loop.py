"""The loop on the real model at the smallest size."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.small import PIXELS, painted_episode, small_config

from worldvalue.data.augment import Augmentation
from worldvalue.data.windows import TrainingEpisode, WindowDataset
from worldvalue.models import Estimator
from worldvalue.training.checkpoints import checkpoints, latest_checkpoint
from worldvalue.training.loop import TrainingSettings, learning_rate_share, train
from worldvalue.types import DataError, Window

SETTINGS = TrainingSettings(steps=4, batch=3, warmup=2, peak_rate=1e-3, save_every=1, log_every=1)


class _Codes:
    def __init__(self) -> None:
        self.codes = torch.randn(40, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def read(self, indices: np.ndarray) -> torch.Tensor:
        return self.codes[torch.from_numpy(indices)]


def _run(out: Path, settings: TrainingSettings, resume: bool = False) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    estimator = Estimator(small_config())
    episode = TrainingEpisode(np.arange(40) / 10, np.linspace(0, 1, 40), "push the square", _Codes())
    dataset = WindowDataset([episode], 2.0, Window(chunk=4, shown=tuple(range(9)), seen=5), Augmentation(), seed=0)
    tokens = estimator.model.text.tokenize(["push the square"])[0]

    def collate(samples: list[dict]) -> dict[str, torch.Tensor]:
        return {
            "items": torch.stack([s["items"] for s in samples]),
            "values": torch.stack([s["values"] for s in samples]),
            "tokens": torch.stack([tokens] * len(samples)),
        }

    train(estimator, estimator.config.model.weights, dataset, collate, settings, out, resume)
    return {name: tensor.clone() for name, tensor in estimator.state_dict().items()}


def test_two_steps_and_two_more_are_four_steps(tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole", SETTINGS)
    # The schedule knows the run's full length, so a killed run is made by dropping what came after the kill.
    _run(tmp_path / "parts", replace(SETTINGS, save_every=2))
    shutil.rmtree(latest_checkpoint(tmp_path / "parts"))
    assert latest_checkpoint(tmp_path / "parts").name == "step_00000002"
    resumed = _run(tmp_path / "parts", SETTINGS, resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (tmp_path / "whole" / "log.csv").read_text().count("\n") == 5


def test_resuming_without_a_checkpoint_starts(tmp_path: Path) -> None:
    _run(tmp_path, replace(SETTINGS, steps=1), resume=True)
    assert latest_checkpoint(tmp_path).name == "step_00000001"


def test_a_second_run_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    _run(tmp_path, replace(SETTINGS, steps=1))
    with pytest.raises(DataError, match="--resume"):
        _run(tmp_path, replace(SETTINGS, steps=1))


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    _run(tmp_path, SETTINGS)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step_00000003", "step_00000004"]


def test_a_loss_that_is_not_finite_stops_with_a_sentence_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no longer finite"):
        _run(tmp_path, replace(SETTINGS, peak_rate=1e30))
    assert latest_checkpoint(tmp_path) is not None


def test_the_frozen_autoencoder_stays_as_it_is_and_the_model_moves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = Estimator(small_config()).state_dict()
    after = _run(tmp_path, SETTINGS)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("vae.")} <= same
    assert "model.value.proj_out.weight" not in same
    assert "model.video.patch_embedding.weight" not in same


def test_the_learning_rate_warms_up_and_falls_to_its_share() -> None:
    settings = TrainingSettings(steps=1000, warmup=100, final_share=0.1)
    shares = [learning_rate_share(step, settings) for step in range(1001)]
    assert shares[0] == pytest.approx(0.01)
    assert shares[99] == shares[100] == pytest.approx(1.0)
    assert shares[550] == pytest.approx(0.55)
    assert shares[1000] == pytest.approx(0.1)


def test_painted_pictures_have_the_size_the_model_expects() -> None:
    assert painted_episode().frames([0]).shape == (1, PIXELS, PIXELS, 3)
