"""``worldvalue score`` from the command line, with a real model of random weights: exit codes and files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from worldvalue import cli
from worldvalue.data import open_episodes, read_progress
from worldvalue.models import Estimator, load_model
from worldvalue.recipes.tiny import tiny
from worldvalue.scoring.sliding_windows import ScoreSettings, score


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder: the tiny recipe with two layers."""
    torch.manual_seed(0)
    config = tiny().estimator
    video = {**config.model.video, "num_layers": 2}
    small = replace(config, model=replace(config.model, video=video, value=replace(config.model.value, layers=2)))
    folder = tmp_path_factory.mktemp("model")
    Estimator(small).save(folder)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """``(*arguments) -> exit code`` of ``worldvalue score`` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["worldvalue", "score", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    return command


def test_the_sidecar_holds_what_the_library_computes(
    make_folder: Callable[..., Path], model: Path, run: Callable[..., int], tmp_path: Path
):
    folder = make_folder(2)
    assert run(folder, "--model", model, "--draws", 3) == 0
    table = read_progress(tmp_path / "videos.worldvalue" / "worldvalue_progress.parquet")
    source, settings = open_episodes(folder), ScoreSettings(draws=3)
    expected = [score(load_model(model), episode, settings).mean for episode in source]
    # Alone or in a group of two, sums in bf16 round differently.
    np.testing.assert_allclose(table["progress_sparse"].to_numpy(), np.concatenate(expected), atol=0.02)


def test_one_bad_video_gives_exit_code_1(
    make_folder: Callable[..., Path], model: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
):
    assert run(make_folder(2, bad=[1]), "--model", model, "--draws", 1, "--out", "out") == 1
    assert "1.mp4 is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["videos/0.mp4"], "comes with no instruction"),
        (["videos", "--camera", "wrist"], "has no camera 'wrist'; choose one of: video"),
        (["videos", "--camera", "video", "--camera", "video"], "sees 1 camera(s)"),
        (["videos", "--stride", "9"], "stride must be 1 to"),
        (["videos", "--in-place"], "is not a LeRobot dataset"),
        (["videos", "--model", "nothing"], "nothing is neither a shipped model"),
        (["videos", "--draws", "0"], "greater than or equal to 1"),
    ],
)
def test_bad_input_gives_exit_code_2_and_one_sentence(
    make_folder: Callable[..., Path],
    model: Path,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
):
    folder = make_folder(1)
    assert run(*(["--model", model] if "--model" not in arguments else []), *arguments) == 2
    assert told in capsys.readouterr().err
    assert list(folder.parent.iterdir()) == [folder]  # refused before anything was written
