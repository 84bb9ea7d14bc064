"""Several processes that train together, as ``torchrun`` starts them, over gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.small import painted_episode

from worldvalue.data import ManifestRow, encode_video, open_episodes, write_manifest
from worldvalue.models import load_model
from worldvalue.scoring.sliding_windows import ScoreSettings, score
from worldvalue.training.checkpoints import latest_checkpoint
from worldvalue.types import Labels

_COMMAND = """
from tests.small import small_recipe
from worldvalue.cli import main
from worldvalue.recipes import RECIPES

RECIPES["wvm"]["small"] = small_recipe
main()
"""


def _launch(processes: int, *command: str) -> str:
    """What they print."""
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
    path = os.pathsep.join((str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    called = [sys.executable, *launcher, *command]
    return subprocess.run(called, env=environment, check=True, timeout=1800, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.slow
def test_two_processes_make_one_autoencoder_and_one_model_that_scores(tmp_path: Path) -> None:
    data, out = tmp_path / "videos", tmp_path / "wvm"
    data.mkdir()
    rows = [ManifestRow("push the square", 10, Labels(50, "expert", success=True), video=f"{i}.mp4") for i in range(2)]
    for index, row in enumerate(rows):
        encode_video(data / str(row.video), painted_episode(50, index).frames(), fps=10)
    write_manifest(data / "labels.jsonl", rows)
    script = tmp_path / "command.py"
    script.write_text(_COMMAND)
    common = ("--recipe", "small", "--data", str(data))
    vae = ("--vae", str(tmp_path / "vae" / "vae"))
    _launch(2, str(script), "train", "vae", *common, "--out", str(tmp_path / "vae"))
    told = _launch(2, str(script), "train", "wvm", *common, *vae, "--out", str(out), "--set", "training.sharded=true")
    assert told.count("model: ") == 1
    assert [line.split(",")[0] for line in (out / "log.csv").read_text().splitlines()] == ["step", "1", "2", "3"]
    assert latest_checkpoint(out).name == "step_00000003"
    assert len(score(load_model(out / "model"), open_episodes(data)[0], ScoreSettings(draws=2)).mean) == 50
