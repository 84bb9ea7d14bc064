"""The ablations from videos to their table, at the smallest size."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.small import small_classifier_config, small_recipe, write_painted_videos
from worldvalue.ablations import VARIANTS, _table
from worldvalue.benchmark.published import ABLATIONS
from worldvalue.cli import app
from worldvalue.models import load_model
from worldvalue.recipes import RECIPES, find_recipe
from worldvalue.types import DataError, Labels


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command for four short videos that are learned from and measured on."""
    monkeypatch.setitem(RECIPES["wvm"], "small", small_recipe)
    monkeypatch.setitem(RECIPES["frame-classifier"], "small", lambda: small_recipe(small_classifier_config()))
    labels = [
        Labels(50, "expert", success=True),
        Labels(50, "hesitation", m=10, n=25, success=True),
        Labels(50, "retry", m=10, n=22, success=True),
    ]
    data, vae = write_painted_videos(tmp_path / "videos", labels), tmp_path / "vae"
    common = ["--recipe", "small", "--data", str(data)]
    CliRunner().invoke(app, ["train", "vae", *common, "--out", str(vae)], catch_exceptions=False)
    return ["bench", "ablate", *common, "--suite", str(data), "--vae", str(vae / "vae"), "--out", str(tmp_path / "out")]


def _run(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_variants_are_trained_measured_and_not_done_twice(words: list[str], tmp_path: Path) -> None:
    chosen = [word for name in ("full", "frozen", "frame_classifier") for word in ("--variant", name)]
    table = _run(*words, "--seeds", "2", *chosen)
    rows = [line for line in table.splitlines() if "±" in line]
    assert [row.split("|")[1].strip() for row in rows] == [VARIANTS[name].title for name in chosen[1::2]]
    assert "| 0.05 |" in rows[0]  # the paper's own figure beside ours
    out = tmp_path / "out"
    runs = sorted(path.parent.name for path in out.glob("*/model"))
    assert runs == [*(f"{name}_{seed}" for name in ("frame_classifier", "frozen", "full") for seed in (0, 1)), "video"]
    figures = json.loads((out / "ablations.json").read_text())["variants"]["full"]
    assert len(figures) == 2
    # Both stand on the same videos; what is frozen stays as it was there, what is not does not.
    video, frozen, full = (load_model(out / run / "model").model.video for run in ("video", "frozen_0", "full_0"))
    name = "blocks.0.attn1.to_q.weight"
    assert (video.state_dict()[name] == frozen.state_dict()[name]).all()
    assert (video.state_dict()[name] != full.state_dict()[name]).any()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert _run(*words, "--seeds", "2", *chosen) == table
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == times


def test_runs_with_other_settings_are_not_mixed(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json").write_text("{}")
    with pytest.raises(DataError, match="other data or settings"):
        _run(*words, "--variant", "full")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--variant", "half"), "no variant 'half'; choose from: full"),
        (("--set", "estimator.model.value_draws=1"), "no setting 'estimator.model.value_draws'"),
        (("--suite", "LABELLESS"), "no labels to measure with"),
        (("--suite", "nowhere"), "nowhere"),
    ],
)
def test_what_would_fail_after_hours_is_refused_at_once(
    words: list[str], tmp_path: Path, more: tuple[str, str], sentence: str
) -> None:
    """The frame classifier, the last of the variants, does not know ``value_draws``."""
    labelless = write_painted_videos(tmp_path / "labelless", [Labels(20)])
    with pytest.raises(DataError, match=sentence):
        _run(*words, more[0], more[1].replace("LABELLESS", str(labelless)))
    assert not (tmp_path / "out").exists()


def test_the_table_gives_mean_and_half_the_spread_over_seeds() -> None:
    def run(*figures: float) -> dict:
        names = ("expert_voc", "hesitation_rmse", "retry_voc")
        return {"metrics": {name: {"mean": figure} for name, figure in zip(names, figures, strict=True)}}

    table = _table({"full": [run(0.9, 0.1, 0.5), run(0.8, 0.2, 0.7)], "scalar": [run(0.9, 0.1, 0.5)]})
    assert table.rows == [
        ["full", "0.850 ± 0.050", "0.95", "0.150 ± 0.050", "0.05", "0.600 ± 0.100", "0.78"],
        ["scalar regression", "0.900", "-", "0.100", "-", "0.500", "-"],
    ]


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_variants_settings_fit_its_recipe(name: str) -> None:
    variant = VARIANTS[name]
    assert all(find_recipe(stage.model or variant.model, "tiny", stage.settings) for stage in variant.stages)
    assert set(ABLATIONS) < set(VARIANTS)
