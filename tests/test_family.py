"""The four models side by side, from a dataset to their table, at the smallest size."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.small import small_config, small_mv_wam_config, small_recipe, small_viva_config, small_wav_config
from worldvalue.cli import app
from worldvalue.data import ManifestRow, open_episodes, write_manifest
from worldvalue.family import FAMILY
from worldvalue.models import EstimatorConfig, load_model
from worldvalue.recipes import RECIPES, find_recipe
from worldvalue.recipes.recipe import like_mv_wam, like_viva, like_wav
from worldvalue.training.log import steps_and_seconds
from worldvalue.types import Labels

SAMPLE = Path(__file__).parent / "data" / "lerobot_v3_sample"


def _with_seven(config: EstimatorConfig) -> EstimatorConfig:
    """States and actions as wide as the sample's."""
    seven = {name: 7 for name in ("states", "actions") if hasattr(config.model, name)}
    return replace(config, model=replace(config.model, **seven))


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command for three episodes with states and actions that are learned from and measured on."""
    recipes = {
        "wvm": small_recipe(small_config()),
        "viva": like_viva(small_recipe(_with_seven(small_viva_config()))),
        "mv-wam": like_mv_wam(small_recipe(_with_seven(small_mv_wam_config()))),
        "wav": like_wav(small_recipe(_with_seven(small_wav_config())), horizon=8),
    }
    for name, recipe in recipes.items():
        monkeypatch.setitem(RECIPES[name], "small", lambda recipe=recipe: recipe)
    data, vae = tmp_path / "data", tmp_path / "vae"
    shutil.copytree(SAMPLE, data)
    lengths = [episode.length for episode in open_episodes(SAMPLE)]
    labels = [
        Labels(lengths[0], "expert", success=True),
        Labels(lengths[1], "hesitation", m=10, n=20, success=True),
        Labels(lengths[2], "failure", success=False),
    ]
    write_manifest(
        data / "labels.jsonl", [ManifestRow("go", 10, each, episode_index=i) for i, each in enumerate(labels)]
    )
    common = ["--recipe", "small", "--data", str(data)]
    CliRunner().invoke(app, ["train", "vae", *common, "--out", str(vae)], catch_exceptions=False)
    return [
        "bench",
        "compare",
        *common,
        "--suite",
        str(data),
        "--vae",
        str(vae / "vae"),
        "--out",
        str(tmp_path / "out"),
    ]


def test_each_goes_through_its_stages_and_stands_in_the_tables(words: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*words, "--set", "training.steps=4"], catch_exceptions=False)
    assert result.exit_code == 0
    out = tmp_path / "out"
    assert (out / "family.md").read_text().strip() == result.stdout.strip()
    costs = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines()[2:6]]
    assert [row[0] for row in costs] == ["WVM", "ViVa", "MV-WAM", "WAV"]
    assert [row[2] for row in costs] == ["8"] * 4
    assert all(int(row[4]) > 0 for row in costs)
    assert "| figure | WVM | ViVa | MV-WAM | WAV |" in result.stdout
    # WAV's value learns with the video frozen; its actions then move both.
    video, value, action = (load_model(out / run / "model").model for run in ("wav_stage_1", "wav_stage_2", "wav_0"))
    name = "transformer_blocks.0.attn1.to_q.weight"
    weights = [dict(model.video.named_parameters())[name] for model in (video, value, action)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert not torch.equal(video.value.proj_in.weight, value.value.proj_in.weight)


@pytest.mark.parametrize("name", list(FAMILY))
def test_every_models_stages_fit_its_recipe_and_are_as_long_in_all(name: str) -> None:
    variant = FAMILY[name]
    assert all(find_recipe(stage.model or variant.model, "tiny", stage.settings) for stage in variant.stages)
    assert sum(stage.share for stage in variant.stages) == 2.0


def test_the_time_of_a_run_counts_all_its_starts(tmp_path: Path) -> None:
    with (tmp_path / "log.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([("step", "seconds"), (20, "10.5"), (40, "21.0"), (60, "9.0"), (80, "18.5")])
    assert steps_and_seconds(tmp_path) == (80, 39.5)
