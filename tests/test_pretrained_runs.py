"""Training and scoring on pretrained video models through the command line, the text encoder used once."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.pretrained import ltx_folder, wan_folder, wav_on_ltx, wvm_on_wan
from tests.small import painted_episode, small_recipe, write_painted_videos
from worldvalue.backbones.text import TextEncoder
from worldvalue.cli import app
from worldvalue.models import load_model, on_pretrained
from worldvalue.recipes import RECIPES, Recipe
from worldvalue.recipes.recipe import like_wav
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings
from worldvalue.types import Labels

SAMPLE = Path(__file__).parent / "data" / "lerobot_v3_sample"


def invoke(*words: object) -> None:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0


def pretrained_recipe(recipe: Recipe) -> Recipe:
    return replace(recipe, autoencoder=None)


def without_text_weights(folder: Path) -> None:
    for path in (folder / "text_encoder").glob("*.safetensors"):
        path.unlink()


def test_a_second_run_and_scoring_need_no_text_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES["wvm"], "small", lambda: pretrained_recipe(small_recipe(wvm_on_wan())))
    data = write_painted_videos(tmp_path / "videos", [Labels(30, "expert", success=True)])
    wan = wan_folder(tmp_path / "wan")
    words = ("train", "wvm", "--recipe", "small", "--pretrained", wan, "--data", data, "--out")
    invoke(*words, tmp_path / "first")
    without_text_weights(wan)
    invoke(*words, tmp_path / "second")
    first, second = (tmp_path / run / "model" / "model.safetensors" for run in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    invoke("score", data, "--model", tmp_path / "second" / "model", "--out", tmp_path / "scores", "--draws", 2)
    assert pq.read_table(tmp_path / "scores" / "worldvalue_progress.parquet").num_rows == 30


def test_a_wav_goes_through_its_stages_on_ltx_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = like_wav(small_recipe(wav_on_ltx()), horizon=8)
    monkeypatch.setitem(RECIPES["wav"], "small", lambda: pretrained_recipe(recipe))
    ltx = ltx_folder(tmp_path / "ltx")
    words = ("train", "wav", "--recipe", "small", "--data", SAMPLE, "--set", "estimator.model.states=7")
    words += ("--set", "estimator.model.actions=7", "--out")
    invoke(*words, tmp_path / "video", "--pretrained", ltx, "--set", 'estimator.model.weights={"video": 1}')
    without_text_weights(ltx)
    value = ("--set", 'estimator.model.weights={"value": 1}', "--set", 'frozen=["video"]')
    invoke(*words, tmp_path / "value", "--init", tmp_path / "video" / "model", *value)
    action = ("--set", 'estimator.model.weights={"action": 1}')
    invoke(*words, tmp_path / "action", "--init", tmp_path / "value" / "model", *action)
    assert load_model(tmp_path / "action" / "model").config.text_folder == str(ltx)


def test_a_scorer_loads_the_text_encoder_once_for_all_instructions_of_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = TextEncoder.from_pretrained
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda *how: loads.append(how) or load(*how))
    episodes = [replace(painted_episode(12, index), instruction=f"do number {index}") for index in range(3)]
    scorer = Scorer(on_pretrained(wan_folder(tmp_path), wvm_on_wan()).eval(), ScoreSettings(draws=1, steps=1, group=1))
    scorer.check(episodes)
    for episode in episodes:
        scorer([episode])
    assert len(loads) == 1
