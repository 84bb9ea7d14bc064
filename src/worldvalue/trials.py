"""Models put to the test: benchmark runs, the calibration of a band, rollouts of policies, two scenes compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from worldvalue.analysis.features import pooled_features
from worldvalue.analysis.picture import draw_comparison
from worldvalue.analysis.scenes import Comparison, Moment, compare_scenes, paired_moments
from worldvalue.benchmark.calibration import Calibration, calibrate
from worldvalue.benchmark.predictions import Contender, Predictions
from worldvalue.benchmark.report import draw_examples, write_results
from worldvalue.benchmark.suite import Suite, own_predictions, run_suite
from worldvalue.benchmark.tables import Results
from worldvalue.data import encode_video, open_episodes
from worldvalue.data.files import claim_folder, replacing
from worldvalue.data.identity import weights_identity
from worldvalue.data.pictures import PictureSettings
from worldvalue.models import load_model
from worldvalue.models.policy import ModelPolicy
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings
from worldvalue.simulation.tasks import TASKS
from worldvalue.types import DataError, EpisodeSource


def bench(suites: Sequence[Path], models: Sequence[tuple[str, str]], out: Path, settings: ScoreSettings) -> Results:
    """Measure every model on every suite; figures, tables, pictures and predictions go to ``out``.

    Args:
        suites: datasets with labels.
        models: what the tables are to call each model, and its shipped name or checkpoint folder.
        out: folder; a run that was stopped finds its predictions there.
        settings: how the models score.

    Returns:
        By model, then by the suite's folder name: what ``run_suite`` returns.

    Raises:
        DataError: a name comes twice, a suite or model cannot be used, or a suite has nothing to measure.
    """
    opened = [Suite.of(open_episodes(path)) for path in suites]
    names = [path.resolve().name for path in suites]
    titles = [title for title, _ in models]
    repeated = [name for name, times in Counter([*names, *titles]).items() if times > 1]
    if repeated:
        raise DataError(f"'{repeated[0]}' is there more than once; give each suite and model once, under its own name.")
    results: dict[str, dict[str, Any]] = {title: {} for title in titles}
    pictures: dict[str, Path] = {}
    with Progress(console=Console(stderr=True)) as progress:
        for number, (title, model) in enumerate(models):
            at_work = contender(model, settings, [suite.source for suite in opened])
            for name, suite in zip(names, opened, strict=True):
                both = f"{title} on {name}"
                bar = progress.add_task(both, total=suite.videos)
                result = run_suite(suite, at_work, out, partial(progress.advance, bar))
                curves, folder = own_predictions(suite, at_work, out), out / "pictures" / f"{number}_{name}"
                pictures |= draw_examples(suite.source, result, curves, folder, both)
                results[title][name] = result
    write_results(out, asdict(settings), results, pictures)
    return results


def calibrate_band(data: Path, model: Path, settings: ScoreSettings) -> Calibration:
    """Widen a checkpoint's 10-90 % band by what held-out episodes ask for: its ``config.json`` takes the margin.

    Predictions are kept in ``model/calibration``, so that a calibration that was stopped goes on.

    Args:
        data: labelled episodes that were neither trained on nor will be measured on.
        model: the checkpoint folder.
        settings: how the model will score.

    Raises:
        DataError: ``model`` is no checkpoint folder, or no episode has a ground truth.
    """
    if not (model / "config.json").is_file():
        raise DataError(f"{model} is no checkpoint folder; give one that 'train' wrote, as RUN/model.")
    source, network = open_episodes(data), load_model(model)
    network.config = replace(network.config, band_margin=0.0)
    scorer = Scorer(network, settings)
    scorer.check(source)
    at_work = Contender(str(model), scorer, settings.group, scorer.identity())
    predictions = Predictions.of(at_work, "calibration", source, model / "calibration")
    with Progress(console=Console(stderr=True)) as progress:
        predictions.make(partial(progress.advance, progress.add_task("Scoring", total=len(source))))
    found = calibrate(source, predictions)
    network.config = replace(network.config, band_margin=found.margin)
    network.save_config(model)
    return found


@dataclass(frozen=True)
class Rollouts:
    """How a policy is tried.

    Attributes:
        task: name of a robosuite task.
        episodes: number of rollouts.
        first: number of the first scene. What settings are chosen on is not what is reported.
        size: width and height of the simulator's pictures, those of the data the policy learned from. A picture drawn
            small is another than one drawn large and made small.
        steps: Euler steps of a chunk.
        execute, limit: see ``simulation.rollouts.roll_out``.
    """

    task: str = "lift"
    episodes: int = 50
    first: int = 0
    size: int = 128
    steps: int = 5
    execute: int = 8
    limit: int = 400


def try_policy(model: str, rollouts: Rollouts, out: Path) -> int:
    """Let a model move the simulated robot in scenes that no collection holds; how often it succeeded.

    Args:
        model: shipped name or checkpoint folder.
        rollouts: see there.
        out: each leaves ``rollout_NNNN.mp4`` and ``rollout_NNNN.json`` there; what is there is not run again.

    Raises:
        DataError: there is no such model or task, the model tells no actions, or ``out`` holds rollouts of others.
    """
    from worldvalue.simulation.camera import Camera
    from worldvalue.simulation.environment import CAMERAS, CONTROL_HZ, Environment
    from worldvalue.simulation.rollouts import roll_out

    network = load_model(model)
    if rollouts.task not in TASKS:
        raise DataError(f"There is no task '{rollouts.task}'; choose from: {', '.join(TASKS)}.")
    scenes = range(rollouts.first, rollouts.first + rollouts.episodes)
    policies = {scene: ModelPolicy(network, rollouts.steps, scene) for scene in scenes}  # refuses before any is made
    told = {name: value for name, value in asdict(rollouts).items() if name not in ("episodes", "first")}
    told["model"] = weights_identity(network)
    claim_folder(out, json.dumps(told, indent=2) + "\n", "rollouts of another model or with other settings")
    environment = Environment(TASKS[rollouts.task])
    camera = Camera(environment.model, rollouts.size)
    succeeded = 0
    with Progress(console=Console(stderr=True)) as progress:
        for scene in progress.track(scenes, description=f"{model} at {rollouts.task}"):
            path = out / f"rollout_{scene:04d}.json"
            if not path.is_file():
                went = roll_out(environment, camera, policies[scene], scene, rollouts.execute, rollouts.limit)
                encode_video(path.with_suffix(".mp4"), went.seen.frames(camera=CAMERAS[0]), CONTROL_HZ)
                with replacing(path) as partial_file:
                    partial_file.write_text(json.dumps({"success": went.success, "frames": went.seen.length}) + "\n")
            succeeded += json.loads(path.read_text(encoding="utf-8"))["success"]
    return succeeded


def compare_two_scenes(plain: Path, changed: Path, out: Path, model: str | None = None) -> Comparison:
    """How curved pictures and actions are between two scenes of the same tasks, and whether a model tells the scenes
    apart; ``out`` gets ``manifold.json`` and ``manifold.png``.

    Args:
        plain, changed: datasets of the same instructions, with actions.
        out: folder.
        model: shipped name or checkpoint folder of an MV-WAM; without one the data alone are compared.

    Raises:
        DataError: the datasets have too little in common, or the model cannot be used.
    """
    policy = ModelPolicy(load_model(model), steps=1, seed=0) if model else None
    settings = policy.estimator.config.picture if policy else PictureSettings(128, 128)
    pairs = paired_moments(open_episodes(plain), open_episodes(changed))

    def features(moment: Moment) -> Mapping[str, NDArray[np.float32]]:
        return pooled_features(policy, moment.episode, moment.frame) if policy else {}

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("Comparing", total=2 * len(pairs))
        found = compare_scenes(pairs, settings, features, partial(progress.advance, bar))
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "manifold.json") as partial_file:
        partial_file.write_text(json.dumps(found.told(), indent=2) + "\n", encoding="utf-8")
    draw_comparison(out / "manifold.png", found)
    return found


def contender(name: str, settings: ScoreSettings, sources: Sequence[EpisodeSource]) -> Contender:
    """A model at work.

    Raises:
        DataError: there is no such model, or the data lack its cameras.
    """
    scorer = Scorer.of(name, settings)
    for source in sources:
        scorer.check(source)
    return Contender(name, scorer, settings.group, scorer.identity(), scorer.estimator.model.value_range)
