"""From labelled videos to a checkpoint that scores, through the command line, at the smallest size."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from tests.small import (
    painted_episode,
    small_classifier_config,
    small_config,
    small_estimator,
    small_mv_wam_config,
    small_recipe,
    small_viva_config,
    small_wav_config,
    write_painted_videos,
)
from worldvalue.cli import app
from worldvalue.data import open_episodes
from worldvalue.data.pictures import PictureSettings
from worldvalue.models import load_model, read_config
from worldvalue.models.frame_classifier import FrameClassifier
from worldvalue.recipes import RECIPES
from worldvalue.recipes.recipe import like_mv_wam, like_viva, like_wav
from worldvalue.runs import freeze, show_what_all_have
from worldvalue.scoring.sliding_windows import ScoreSettings, score
from worldvalue.training.episodes import StoredCodes, outcome_values, progress_values, training_episodes
from worldvalue.types import DataError, Labels


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three short videos: an expert, a hesitation, and a failure that no value can be learned from."""
    monkeypatch.setitem(RECIPES["wvm"], "small", small_recipe)
    monkeypatch.setitem(RECIPES["frame-classifier"], "small", lambda: small_recipe(small_classifier_config()))
    labels = [
        Labels(50, "expert", success=True),
        Labels(50, "hesitation", m=10, n=25, success=True),
        Labels(50, "failure", success=False),
    ]
    return write_painted_videos(tmp_path / "videos", labels)


def _invoke(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_videos_become_an_autoencoder_then_a_model_that_scores(data: Path, tmp_path: Path) -> None:
    _invoke("train", "vae", "--recipe", "small", "--data", data, "--out", tmp_path / "vae")
    vae = tmp_path / "vae" / "vae"
    _invoke("train", "wvm", "--recipe", "small", "--data", data, "--vae", vae, "--out", tmp_path / "wvm")
    with (tmp_path / "wvm" / "log.csv").open() as log:
        rows = list(csv.DictReader(log))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert all(np.isfinite(float(row["value"])) for row in rows)
    curve = score(load_model(tmp_path / "wvm" / "model"), open_episodes(data)[0], ScoreSettings(draws=2, steps=1))
    assert len(curve.mean) == 50


SAMPLE = Path(__file__).parent / "data" / "lerobot_v3_sample"


@pytest.mark.parametrize("name", ["viva", "mv-wam", "wav"])
def test_a_model_that_asks_for_states_learns_from_a_dataset_that_has_them_and_scores_it(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {
        "viva": like_viva(small_recipe(small_viva_config())),
        "mv-wam": like_mv_wam(small_recipe(small_mv_wam_config())),
        "wav": like_wav(small_recipe(small_wav_config()), horizon=8),
    }[name]
    monkeypatch.setitem(RECIPES[name], "small", lambda: recipe)
    _invoke("train", "vae", "--recipe", "small", "--data", data, "--out", tmp_path / "vae")
    words = ["train", name, "--recipe", "small", "--data", SAMPLE, "--vae", tmp_path / "vae" / "vae"]
    if name != "viva":
        words += ["--set", "estimator.model.actions=7"]
    words += ["--set", "estimator.model.states=7"]
    _invoke(*words, "--out", tmp_path / "run")
    _stopped_after_two_steps(tmp_path / "run", tmp_path / "stopped")
    _invoke(*words, "--out", tmp_path / "stopped", "--resume")
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("run", "stopped")]
    assert weights[0] == weights[1]
    model = load_model(tmp_path / "run" / "model")
    rows = np.concatenate([episode.proprioception for episode in open_episodes(SAMPLE)])
    scale = model.model.scales["state"]
    np.testing.assert_allclose(scale.centre, (rows.min(0) + rows.max(0)) / 2, rtol=1e-6, atol=1e-6)
    scored = ("--model", tmp_path / "run" / "model", "--out", tmp_path / "scored", "--draws", 2)
    _invoke("score", SAMPLE, *scored)
    told = pq.read_table(tmp_path / "scored" / "worldvalue_progress.parquet")["progress_sparse"].to_numpy()
    assert len(told) == len(rows)
    assert np.isfinite(told).all()
    if name == "wav":
        with pytest.raises(DataError, match=r"10 frames a second, the model takes it for 30.*model.fps=10\."):
            _invoke(*words, "--out", tmp_path / "rate", "--set", "estimator.model.fps=30")
    with pytest.raises(DataError, match="No episode has states of 5 numbers"):
        _invoke(*words, "--out", tmp_path / "five", "--set", "estimator.model.states=5")


def _stopped_after_two_steps(run: Path, copy: Path) -> None:
    """A copy of a run of three steps, as it was when the second had been kept."""
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("model", "step_00000003"))
    assert (copy / "checkpoints" / "step_00000002").is_dir()


def test_a_wvm_does_without_the_states_it_would_tell(data: Path, tmp_path: Path) -> None:
    settings = ("--set", "estimator.model.states=7", "--set", 'estimator.model.weights={"value": 1, "state": 4}')
    _invoke("train", "vae", "--recipe", "small", "--data", data, "--out", tmp_path / "vae")
    words = ("train", "wvm", "--recipe", "small", "--vae", tmp_path / "vae" / "vae", *settings)
    losses = {}
    for name, source in (("without", data), ("with", SAMPLE)):
        _invoke(*words, "--data", source, "--out", tmp_path / name)
        with (tmp_path / name / "log.csv").open() as log:
            losses[name] = [float(row["state"]) for row in csv.DictReader(log)]
    assert losses["without"] == [0.0, 0.0, 0.0]
    assert min(losses["with"]) > 0.0


def test_viva_counts_failures_below_zero_and_wvm_leaves_them_out(data: Path) -> None:
    success, _, failure = open_episodes(data)
    assert progress_values(failure) is None
    np.testing.assert_allclose(outcome_values(success), np.arange(1, 51) / 50)
    np.testing.assert_allclose(outcome_values(failure), np.arange(1, 51) / 50 - 1)


def test_the_recipes_settings_can_be_changed_and_a_finished_run_resumed(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "vae"
    _invoke("train", "vae", "--recipe", "small", "--data", data, "--out", out, "--set", "autoencoder.steps=1")
    assert (out / "checkpoints" / "step_00000001").is_dir()
    _invoke("train", "vae", "--recipe", "small", "--data", data, "--out", out, "--resume")
    assert (out / "checkpoints" / "step_00000003").is_dir()


def test_a_model_goes_on_from_a_checkpoint_with_its_autoencoder(data: Path, tmp_path: Path) -> None:
    small_estimator(seed=3).save(tmp_path / "old")
    start = ("train", "wvm", "--recipe", "small", "--data", data, "--init", tmp_path / "old")
    _invoke(*start, "--out", tmp_path / "new", "--set", "training.peak_rate=0.0")
    old, new = (load_model(tmp_path / name).state_dict() for name in ("old", "new/model"))
    assert all(torch.equal(old[name], new[name]) for name in old)
    with pytest.raises(DataError, match="not the recipe's shape: use the recipe"):
        _invoke(*start, "--out", tmp_path / "other", "--set", "estimator.model.head=hl_gaussian")


def test_a_model_that_goes_on_stays_what_it_is_and_makes_do_with_the_cameras_there_are(
    data: Path, tmp_path: Path
) -> None:
    """The recipe has one view and another rate; a band's width is measured anew after training."""
    old = small_estimator(views=2, fewest_views=1)
    old.config = replace(old.config, rate=3.0, band_margin=0.1)
    old.save(tmp_path / "old")
    start = ("train", "wvm", "--recipe", "small", "--data", data, "--init", tmp_path / "old")
    _invoke(*start, "--out", tmp_path / "new", "--set", "estimator.model.sigma_shift=2.0")
    kept, new = (read_config(tmp_path / name) for name in ("old", "new/model"))
    model = replace(kept.model, sigma_shift=2.0)
    assert new == replace(kept, picture=replace(kept.picture, views=1), band_margin=0.0, model=model)


@pytest.mark.parametrize(("fewest", "cameras", "views"), [(1, 2, 2), (1, 1, 1), (None, 1, 2)])
def test_training_shows_as_many_views_as_all_datasets_have(fewest: int | None, cameras: int, views: int) -> None:
    estimator = small_estimator(views=2, fewest_views=fewest)
    sources = [[painted_episode(cameras=("front", "wrist")[:count])] for count in (2, cameras)]
    show_what_all_have(estimator, sources)
    assert estimator.config.picture.views == views


@pytest.mark.parametrize("head", ["hl_gaussian", "scalar"])
def test_other_heads_are_a_setting_and_train_save_and_score(data: Path, tmp_path: Path, head: str) -> None:
    common = ("--recipe", "small", "--data", data)
    _invoke("train", "vae", *common, "--out", tmp_path / "vae", "--set", "autoencoder.steps=1")
    vae, setting = tmp_path / "vae" / "vae", f"estimator.model.head={head}"
    _invoke("train", "wvm", *common, "--vae", vae, "--out", tmp_path / "wvm", "--set", setting)
    curve = score(load_model(tmp_path / "wvm" / "model"), open_episodes(data)[0], ScoreSettings(draws=2))
    assert np.isfinite(curve.mean).all()


def test_a_frame_classifier_trains_saves_and_scores(data: Path, tmp_path: Path) -> None:
    common = ("--recipe", "small", "--data", data)
    _invoke("train", "vae", *common, "--out", tmp_path / "vae", "--set", "autoencoder.steps=1")
    _invoke("train", "frame-classifier", *common, "--vae", tmp_path / "vae" / "vae", "--out", tmp_path / "run")
    model = load_model(tmp_path / "run" / "model")
    assert isinstance(model.model, FrameClassifier)
    curve = score(model, open_episodes(data)[0], ScoreSettings(draws=2))
    assert np.isfinite(curve.mean).all()


def test_frozen_parts_stay_and_losses_without_weight_are_left_out(data: Path, tmp_path: Path) -> None:
    small_estimator(seed=3).save(tmp_path / "old")
    start = ("train", "wvm", "--recipe", "small", "--data", data, "--out", tmp_path / "new", "--init", tmp_path / "old")
    _invoke(*start, "--set", 'frozen=["video"]', "--set", 'estimator.model.weights={"value": 1.0}')
    old, new = (load_model(tmp_path / name).model for name in ("old", "new/model"))
    pairs = zip(old.video.parameters(), new.video.parameters(), strict=True)
    assert all(torch.equal(before, after) for before, after in pairs)
    assert not torch.equal(old.value.proj_out.weight, new.value.proj_out.weight)
    header = (tmp_path / "new" / "log.csv").read_text().splitlines()[0]
    assert header == "step,seconds,learning_rate,waiting,value"


def test_losses_that_depend_on_nothing_that_is_trained_get_a_sentence(data: Path, tmp_path: Path) -> None:
    small_estimator().save(tmp_path / "old")
    words = ["train", "wvm", "--recipe", "small", "--data", str(data), "--init", str(tmp_path / "old")]
    words += ["--out", str(tmp_path / "out"), "--set", 'frozen=["video", "text"]']
    words += ["--set", 'estimator.model.weights={"video": 1.0}']
    with pytest.raises(DataError, match="depend on no part that is trained"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_a_frozen_text_encoder_is_still() -> None:
    """It has dropout, which must not go on."""
    estimator = small_estimator().train()
    freeze(estimator, ["text"])
    tokens = estimator.model.text.tokenize(["push the square"])
    assert torch.equal(estimator.model.text(tokens), estimator.model.text(tokens))
    assert estimator.model.value.training


def test_several_datasets_are_learned_from_together(data: Path, tmp_path: Path) -> None:
    more, both = tmp_path / "more", ("--recipe", "small", "--data", data, "--data", tmp_path / "more")
    shutil.copytree(data, more, copy_function=shutil.copy)  # new times make it another dataset
    _invoke("train", "vae", *both, "--out", tmp_path / "vae")
    _invoke("train", "wvm", *both, "--vae", tmp_path / "vae" / "vae", "--out", tmp_path / "wvm")
    folders = [[file.name for file in sorted(codes.iterdir())] for codes in (tmp_path / "wvm" / "codes").iterdir()]
    assert folders == [["episode_000000.npy", "episode_000001.npy"]] * 2


def test_codes_are_what_the_autoencoder_gives_and_are_made_once(data: Path, tmp_path: Path) -> None:
    from worldvalue.backbones.video_vae import FrameVAE

    vae, settings = FrameVAE(small_config().vae).eval(), PictureSettings(64, 64)
    episodes = training_episodes(open_episodes(data), vae, settings, tmp_path / "codes")
    assert len(episodes) == 2  # not the failure
    assert isinstance(episodes[0].items, StoredCodes)
    files = sorted((tmp_path / "codes").rglob("*.npy"))
    times = [file.stat().st_mtime_ns for file in files]
    training_episodes(open_episodes(data), vae, settings, tmp_path / "codes")
    assert [file.stat().st_mtime_ns for file in files] == times
    assert episodes[0].items.read(np.array([3, 3, 7])).shape == (3, 1, 4, 8, 8)


def test_targets_follow_the_labels(data: Path) -> None:
    expert, hesitation, failure = (progress_values(open_episodes(data)[index]) for index in range(3))
    np.testing.assert_allclose(expert, np.arange(50) / 49)
    assert set(np.diff(hesitation)[10:25].round(9)) == {0.0}
    assert failure is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--recipe", "nothing"), "choose from"),
        (("--recipe", "small"), "train vae"),
        (("--recipe", "small", "--vae", "nowhere"), "no trained autoencoder"),
        (("--recipe", "wan22_5b"), "--pretrained"),
        (("--recipe", "small", "--vae", "nowhere", "--init", "tiny"), "Give one of"),
        (("--init", "tiny", "--set", 'frozen=["audio"]'), "no part 'audio'.* it has: video, value, scales, text"),
        (("--init", "tiny", "--set", "frozen=video"), "'frozen' takes a list"),
        (("--init", "tiny", "--set", 'frozen=["video", "value", "text"]'), "Every part of the model is frozen"),
        (
            ("--init", "tiny", "--set", 'estimator.model.weights={"valu": 1.0}'),
            "no loss 'valu'; .*: state, value, video",
        ),
        (("--init", "tiny", "--set", "estimator.model.weights={}"), "No loss has a weight"),
        (("--pretrained", "nowhere"), "nowhere is neither a shipped model nor a checkpoint folder"),
    ],
)
def test_what_cannot_be_trained_gets_a_sentence(data: Path, tmp_path: Path, words: tuple, sentence: str) -> None:
    arguments = ["train", "wvm", "--data", str(data), "--out", str(tmp_path / "out"), *words]
    with pytest.raises(DataError, match=sentence):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not (tmp_path / "out").exists()
