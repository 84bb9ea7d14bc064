"""Training runs: a recipe and labelled episodes in, a checkpoint folder out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import default_collate

from worldvalue.backbones.scales import Scale
from worldvalue.backbones.video_vae import FrameVAE, VideoVAE, pictures_to_float
from worldvalue.data import open_episodes
from worldvalue.data.episodes import readable
from worldvalue.data.files import remove_leftovers, replacing
from worldvalue.data.windows import TrainingEpisode, WindowDataset
from worldvalue.models import Estimator, EstimatorConfig, going_on, new_estimator, on_pretrained
from worldvalue.models.estimator import AUTOENCODERS
from worldvalue.recipes import Recipe
from worldvalue.scoring.bar import frames_bar
from worldvalue.scoring.cluster import Work, share
from worldvalue.training.episodes import (
    FrameDataset,
    Pictures,
    codes_folder,
    codes_path,
    sample_frames,
    stored_codes,
    training_episodes,
)
from worldvalue.training.loop import train
from worldvalue.training.parallelize import started_processes
from worldvalue.training.settings import TrainingSettings
from worldvalue.types import Batch, DataError, EpisodeSource, ValueModel

AUTOENCODER_FRAMES = 8192
"""Pictures in memory while an autoencoder is trained (0.4 GB at 128 px)."""

OTHER_RATE = 0.02
"""By how much the frames a second of an episode may differ from what a model takes them for."""

WILD_ACTIONS = 0.01
"""Share of the actions beyond either end of their scale. By their extremes, moves would be small beside the gripper,
which opens and closes all the way."""


def train_autoencoder(recipe: Recipe, sources: Sequence[EpisodeSource], out: Path, resume: bool = False) -> Path:
    """Train the recipe's frame autoencoder on pictures of all episodes; the folder ``out/vae`` that holds it.

    Raises:
        DataError: the recipe takes a pretrained autoencoder; or see ``training.loop.train``.
    """
    config, settings = recipe.estimator, recipe.autoencoder
    if settings is None:
        raise DataError("This recipe takes a pretrained autoencoder; there is none to train.")
    per_episode = max(AUTOENCODER_FRAMES // max(sum(map(len, sources)), 1), 1)
    frames, scene = sample_frames(sources, config.picture, per_episode, settings.seed)
    dataset = FrameDataset(frames, scene, settings.seed)
    torch.manual_seed(settings.seed)
    vae = FrameVAE(config.vae)
    train(vae, vae.weights, dataset, default_collate, settings, out, resume)
    sample = frames[np.random.default_rng(settings.seed).integers(len(frames), size=256)]
    vae.fit_statistics(pictures_to_float(torch.from_numpy(sample)).to(vae.mean.device))
    folder = out / "vae"
    if not started_processes().is_main_process:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "model.safetensors") as partial:
        # Rounded as in a checkpoint: a model that stands on it and one that goes on from there share their codes.
        save_file({name: tensor.bfloat16().contiguous() for name, tensor in vae.state_dict().items()}, partial)
    with replacing(folder / "config.json") as partial:
        partial.write_text(json.dumps(config.vae, indent=2) + "\n", encoding="utf-8")
    return folder


def encode_frames(recipe: Recipe, data: Path, vae: Path, codes: Path, cluster: str | None = None) -> list[str]:
    """Encode the frames of all episodes of a dataset, so that training finds them; what is there is not encoded again.

    Args:
        recipe: of any model: its pictures and autoencoder count.
        data: the dataset.
        vae, codes: as for ``train_value_model``.
        cluster: a Ray cluster whose workers do it, see ``scoring.cluster.connected``; None for this process.

    Returns:
        A sentence for each episode that cannot be read.

    Raises:
        DataError: ``vae`` does not fit the recipe, or its codes are not of single frames; or see
            ``scoring.cluster.share``.
    """
    config, source = recipe.estimator, open_episodes(data)
    folder = codes_folder(source, _autoencoder(vae, config), config.picture, codes)
    start = partial(_start_encoding, data.absolute(), vae.absolute(), config, folder.absolute())
    numbers = range(len(source))
    left_out: list[str] = []
    with frames_bar("Encoding", len(source), 0, Console(stderr=True)) as advance:
        for row in share(numbers, start, cluster) if cluster else map(start(), numbers):
            advance(1, row["frames"])
            left_out += [row["left_out"]] if row["left_out"] else []
    remove_leftovers(folder)
    return left_out


def _start_encoding(data: Path, vae: Path, config: EstimatorConfig, folder: Path) -> Work:
    """Open the dataset and the autoencoder, in a worker: what encodes an episode into ``folder``."""
    source = open_episodes(data)
    autoencoder = _autoencoder(vae, config).to("cuda" if torch.cuda.is_available() else "cpu")

    def encode(number: int) -> dict[str, Any]:
        try:
            episode = source[number]
            path = codes_path(folder, episode)
            new = 0 if path.exists() else episode.length
            stored_codes(path, autoencoder, Pictures(episode, config.picture))
        except DataError as error:
            return {"frames": 0, "left_out": str(error)}
        return {"frames": new, "left_out": ""}

    return encode


def _autoencoder(vae: Path, config: EstimatorConfig) -> VideoVAE:
    autoencoder = AUTOENCODERS[config.vae_class](config.vae)
    if not autoencoder.caches_frames:
        raise DataError("This recipe's autoencoder looks at frames together, not one by one: nothing can be kept.")
    autoencoder.load_state_dict(_trained_weights(vae, config))
    return autoencoder.eval()


def train_value_model(
    recipe: Recipe,
    sources: Sequence[EpisodeSource],
    out: Path,
    vae: Path | None = None,
    pretrained: str | Path | None = None,
    init: str | None = None,
    codes: Path | None = None,
    resume: bool = False,
) -> Path:
    """Train a value model on all episodes that have a target value; the checkpoint folder ``out/model``.

    Args:
        recipe: what to build and how to train it.
        sources: datasets of labelled episodes, or of expert ones without labels.
        out: folder of the run.
        vae: folder of a trained frame autoencoder, as ``train_autoencoder`` leaves it.
        pretrained: a pretrained video model, see ``models.on_pretrained``: the value part starts new.
        init: a shipped model or checkpoint folder to go on from, value part and autoencoder included.
        codes: folder where encoded frames are kept and looked for, ``out/codes`` when None; runs with the same
            autoencoder can share it.
        resume: go on from the newest checkpoint.

    Raises:
        DataError: none of ``vae``, ``pretrained`` and ``init`` fits the recipe, or a part to be frozen is not there; or
            see ``training.loop.train``.
    """
    if sum(start is not None for start in (vae, pretrained, init)) > 1:
        raise DataError("Give one of --vae, --pretrained and --init: the last two bring an autoencoder of their own.")
    processes = started_processes()
    torch.manual_seed(recipe.training.seed)
    if init is not None:
        estimator = going_on(init, recipe.estimator)
    else:
        estimator = on_pretrained(pretrained, recipe.estimator) if pretrained else _on_trained(vae, recipe.estimator)
    freeze(estimator, recipe.frozen)
    show_what_all_have(estimator, sources)
    config, settings, asked = estimator.config, recipe.training, estimator.model.window
    made_of = (estimator.vae, config.picture, codes or out / "codes", recipe.targets, asked)
    with processes.main_process_first():
        cached = [episode for source in sources for episode in training_episodes(source, *made_of)]
    _check_rate(estimator.model, cached)
    _fit_scales(estimator.model, cached)
    dataset = WindowDataset(cached, config.rate, asked, recipe.augmentation, settings.seed)
    unused = set(config.model.weights) != estimator.model.losses_known
    collate = _collate_windows(estimator, cached, settings)
    weights = train(estimator, config.model.weights, dataset, collate, settings, out, resume, unused)
    if processes.is_main_process:
        estimator.save(out / "model", weights)
    processes.wait_for_everyone()
    return out / "model"


def show_what_all_have(estimator: Estimator, sources: Sequence[EpisodeSource]) -> None:
    """Let a model that can do with fewer views see as many as every dataset has: those of a batch are one tensor.

    The first episode that can be read tells which cameras a dataset has.
    """
    firsts = [episode for source in sources if (episode := next(readable(source), None))]
    shown = min((estimator.picture_settings(first).views for first in firsts), default=estimator.config.picture.views)
    estimator.config = replace(estimator.config, picture=replace(estimator.config.picture, views=shown))


def freeze(estimator: Estimator, parts: Sequence[str]) -> None:
    """Let some parts of the model, by name, stay as they are when the rest is trained.

    Raises:
        DataError: there is no such part, or nothing is left to train.
    """
    for part in parts:
        found = dict(estimator.model.named_children())
        if part not in found:
            raise DataError(f"The model has no part '{part}' to be frozen; it has: {', '.join(found)}.")
        found[part].requires_grad_(False).eval()
    if not any(parameter.requires_grad for parameter in estimator.parameters()):
        raise DataError("Every part of the model is frozen; there is nothing to train.")


def _check_rate(model: ValueModel, episodes: Sequence[TrainingEpisode]) -> None:
    """Refuse episodes of another rate than a model takes them to have that tells its video the time between frames."""
    asked = getattr(model.config, "fps", None)
    if asked is None:
        return
    for times in (episode.timestamps for episode in episodes if len(episode.timestamps) > 1):
        rate = (len(times) - 1) / (times[-1] - times[0])
        if abs(rate / asked - 1) > OTHER_RATE:
            raise DataError(
                f"An episode has {rate:.4g} frames a second, the model takes it for {asked:g}; give data of one rate "
                f"and set estimator.model.fps={rate:.4g}."
            )


def _fit_scales(model: ValueModel, episodes: Sequence[TrainingEpisode]) -> None:
    """Fit what scales the model's numbers to those of the episodes; states of another width count as unknown.

    What a model that goes on has fitted before stays as it is.
    """
    for name, scale in model.scales.items():
        assert isinstance(scale, Scale)
        if scale.fitted:
            continue
        numbers = len(scale.centre)
        given = [{"value": e.values[:, None], "state": e.states, "action": e.actions}[name] for e in episodes]
        rows = [array for array in given if array is not None and array.shape[1] == numbers]
        if rows:
            scale.fit(np.concatenate(rows), WILD_ACTIONS if name == "action" else 0.0)
            continue
        if model.video_alone:
            continue
        told = f"No episode has {name}s of {numbers} numbers"
        if model.window.states_seen:
            raise DataError(f"{told}; set estimator.model.{name}s to what the data has.")
        Console(stderr=True).print(f"{told}: the loss '{name}' stays 0; estimator.model.{name}s says how many.")


def _on_trained(vae: Path | None, config: EstimatorConfig) -> Estimator:
    weights = _trained_weights(vae, config)
    estimator = new_estimator(config)
    estimator.vae.load_state_dict(weights)
    return estimator


def _trained_weights(vae: Path | None, config: EstimatorConfig) -> dict[str, Tensor]:
    """Those of the autoencoder in a folder that ``train_autoencoder`` left.

    Raises:
        DataError: there is none, or it is not the recipe's.
    """
    if config.vae_class != "AutoencoderKL":
        raise DataError("This recipe stands on a pretrained video model; give its folder or hub id with --pretrained.")
    if vae is None or not (vae / "model.safetensors").is_file():
        raise DataError(f"{vae or 'Without --vae there'} is no trained autoencoder; run 'worldvalue train vae' first.")
    if json.loads((vae / "config.json").read_text(encoding="utf-8")) != config.vae:
        raise DataError(f"{vae} was trained with another recipe; train an autoencoder with this one.")
    return load_file(vae / "model.safetensors")


def _collate_windows(
    estimator: Estimator, episodes: Sequence[TrainingEpisode], settings: TrainingSettings
) -> Callable[[list[Any]], Batch]:
    """Samples of ``WindowDataset`` to a batch."""
    model = estimator.model
    name, read = _text_reader(estimator, {episode.instruction for episode in episodes}, settings)
    asked = {"states": model.window.states, "actions": model.window.actions}
    unknown = {
        key: torch.full((len(ticks), getattr(model.config, key)), torch.nan) for key, ticks in asked.items() if ticks
    }

    def collate(samples: Sequence[Mapping[str, Any]]) -> Batch:
        batch = {
            "items": torch.stack([sample["items"] for sample in samples]),
            "values": torch.stack([sample["values"] for sample in samples]),
            name: read([sample["instruction"] for sample in samples]),
        }
        for key, nothing in unknown.items():
            told = [sample.get(key, nothing) for sample in samples]
            batch[key] = torch.stack([x if x.shape == nothing.shape else nothing for x in told])
        if model.window.pictures:
            batch["pictures"] = torch.stack([sample["pictures"] for sample in samples])
        return batch

    return collate


def _text_reader(
    estimator: Estimator, instructions: Iterable[str], settings: TrainingSettings
) -> tuple[str, Callable[[Sequence[str]], Tensor]]:
    """How a batch calls its instructions, and what reads them: tokens, or a pretrained encoder's states from disk."""
    distinct = sorted(set(instructions))
    encoder = estimator.model.text
    if encoder is not None:
        tokens = dict(zip(distinct, encoder.tokenize(distinct), strict=True))
        return "tokens", lambda asked: torch.stack([tokens[instruction] for instruction in asked])
    with started_processes().main_process_first():
        estimator.stored_texts.make(distinct, estimator.device)
    dtype = torch.float32 if settings.precision == "no" else torch.bfloat16
    return "text", partial(estimator.stored_texts.stacked, dtype=dtype)
