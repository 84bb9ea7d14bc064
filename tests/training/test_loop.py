"""The loop on the real model at the smallest size."""

import resource
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.small import PIXELS, painted_episode, small_config, train_small

from worldvalue.models import Estimator
from worldvalue.training.checkpoints import checkpoints, latest_checkpoint, load_checkpoint
from worldvalue.training.loop import _Batches
from worldvalue.training.settings import TrainingSettings
from worldvalue.types import DataError

SETTINGS = TrainingSettings(steps=4, batch=3, warmup=2, peak_rate=1e-3, save_every=1, log_every=1)


def test_two_steps_and_two_more_are_four_steps(tmp_path: Path) -> None:
    whole = train_small(tmp_path / "whole", SETTINGS)
    # The schedule knows the run's full length, so a killed run is made by dropping what came after the kill.
    train_small(tmp_path / "parts", replace(SETTINGS, save_every=2))
    shutil.rmtree(latest_checkpoint(tmp_path / "parts"))
    assert latest_checkpoint(tmp_path / "parts").name == "step_00000002"
    resumed = train_small(tmp_path / "parts", SETTINGS, resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (tmp_path / "whole" / "log.csv").read_text().count("\n") == 5


def test_resuming_without_a_checkpoint_starts(tmp_path: Path) -> None:
    train_small(tmp_path, replace(SETTINGS, steps=1), resume=True)
    assert latest_checkpoint(tmp_path).name == "step_00000001"


def test_a_second_run_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    train_small(tmp_path, replace(SETTINGS, steps=1))
    with pytest.raises(DataError, match="--resume"):
        train_small(tmp_path, replace(SETTINGS, steps=1))


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    train_small(tmp_path, SETTINGS)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step_00000003", "step_00000004"]


def test_a_loss_that_is_not_finite_stops_with_a_sentence_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no longer finite"):
        train_small(tmp_path, replace(SETTINGS, peak_rate=1e30))
    assert latest_checkpoint(tmp_path) is not None


def test_a_run_that_leaves_weights_out_of_every_loss_resumes_all_the_same(tmp_path: Path) -> None:
    """The optimizer has gathered nothing of those."""
    alone = {"value": 1.0}
    whole = train_small(tmp_path / "whole", SETTINGS, weights=alone)
    train_small(tmp_path / "parts", replace(SETTINGS, save_every=2), weights=alone)
    shutil.rmtree(latest_checkpoint(tmp_path / "parts"))
    resumed = train_small(tmp_path / "parts", SETTINGS, resume=True, weights=alone)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_checkpoint_of_another_model_or_version_gets_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "step_00000001"
    train_small(tmp_path, replace(SETTINGS, steps=1))
    model = torch.nn.Linear(2, 2)
    with pytest.raises(DataError, match="step_00000001 does not fit this model, or another version"):
        load_checkpoint(tmp_path, model, torch.optim.AdamW(model.parameters()))
    (folder / ".metadata").unlink()
    with pytest.raises(DataError, match="step_00000001 does not fit this model, or another version"):
        train_small(tmp_path, SETTINGS, resume=True)


def test_a_full_disk_gets_a_sentence_and_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    train_small(tmp_path, replace(SETTINGS, steps=1))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, unlimited[1]))
    try:
        with pytest.raises(OSError, match=r"step_00000002 cannot be written .*--resume"):
            train_small(tmp_path, replace(SETTINGS, steps=2), resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert latest_checkpoint(tmp_path).name == "step_00000001"


def test_waiting_is_the_share_of_the_time_spent_on_getting_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def batches_that_take(*seconds: float) -> Iterator[dict[str, torch.Tensor]]:
        for each in seconds:
            now[0] += each
            yield {"x": torch.zeros(1)}

    batches = _Batches(batches_that_take(2.0, 1.0, 0.0), torch.device("cpu"))
    next(batches)
    next(batches)
    now[0] += 1.0
    assert batches.waiting() == 0.75
    next(batches)
    now[0] += 1.0
    assert batches.waiting() == 0.0


def test_the_frozen_autoencoder_stays_as_it_is_and_the_model_moves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = Estimator(small_config()).state_dict()
    after = train_small(tmp_path, SETTINGS)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("vae.")} <= same
    assert "model.value.proj_out.weight" not in same
    assert "model.video.patch_embedding.weight" not in same


def test_the_learning_rate_warms_up_and_falls_to_its_share() -> None:
    settings = TrainingSettings(steps=1000, warmup=100, peak_rate=1.0, final_share=0.1)
    shares = [settings.learning_rate(step) for step in range(1001)]
    assert shares[0] == pytest.approx(0.01)
    assert shares[99] == shares[100] == pytest.approx(1.0)
    assert shares[550] == pytest.approx(0.55)
    assert shares[1000] == pytest.approx(0.1)


def test_painted_pictures_have_the_size_the_model_expects() -> None:
    assert painted_episode().frames([0]).shape == (1, PIXELS, PIXELS, 3)
