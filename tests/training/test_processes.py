"""Several processes that train together, as ``accelerate launch`` and ``torchrun`` start them, over gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.small import painted_episode

from worldvalue.data import ManifestRow, encode_video, open_episodes, write_manifest
from worldvalue.models import load_model
from worldvalue.scoring.sliding_windows import ScoreSettings, score
from worldvalue.training.checkpoints import latest_checkpoint
from worldvalue.types import Labels

_REGRESSION = """
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import default_collate

from worldvalue.training.loop import TrainingSettings, train


class Points(torch.utils.data.Dataset):
    def __getitem__(self, number):
        x = torch.randn(3, generator=torch.Generator().manual_seed(number))
        return {"x": x, "y": x.sum(0, keepdim=True)}


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, batch):
        return {"square": torch.nn.functional.mse_loss(self.layer(batch["x"]), batch["y"])}


torch.manual_seed(0)
settings = TrainingSettings(steps=5, batch=int(sys.argv[2]), warmup=1, peak_rate=0.1, precision="no", save_every=2)
train(Line(), {"square": 1.0}, Points(), default_collate, settings, Path(sys.argv[1]))
"""


_COMMAND = """
from tests.small import small_recipe
from worldvalue.cli import main
from worldvalue.recipes import RECIPES

RECIPES["wvm"]["small"] = small_recipe
main()
"""


def _launch(processes: int, *command: str) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, *launcher, *command], env=environment, check=True, timeout=300)


@pytest.mark.slow
def test_two_processes_with_half_the_batch_learn_what_one_learns(tmp_path: Path) -> None:
    script = tmp_path / "regression.py"
    script.write_text(_REGRESSION)
    weights = {}
    for processes, batch in ((1, 8), (2, 4)):
        out = tmp_path / str(processes)
        _launch(processes, str(script), str(out), str(batch))
        weights[processes] = load_file(latest_checkpoint(out) / "model.safetensors")
    assert weights[1].keys() == weights[2].keys()
    for name, one in weights[1].items():
        torch.testing.assert_close(weights[2][name], one, rtol=1e-5, atol=1e-6)


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
    _launch(2, str(script), "train", "wvm", *common, *vae, "--out", str(out))
    assert [line.split(",")[0] for line in (out / "log.csv").read_text().splitlines()] == ["step", "1", "2", "3"]
    assert latest_checkpoint(out).name == "step_00000003"
    assert len(score(load_model(out / "model"), open_episodes(data)[0], ScoreSettings(draws=2)).mean) == 50
