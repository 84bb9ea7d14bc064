"""The real classes with the smallest numbers that still make sense, for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from worldvalue.backbones.experts import ExpertConfig
from worldvalue.data import ManifestRow, encode_video, write_manifest
from worldvalue.data.augment import Augmentation
from worldvalue.data.pictures import PictureSettings
from worldvalue.data.windows import TrainingEpisode, WindowDataset
from worldvalue.models import Estimator, EstimatorConfig
from worldvalue.models.frame_classifier import FrameClassifierConfig
from worldvalue.models.mv_wam import MVWAMConfig
from worldvalue.models.viva import ViVaConfig
from worldvalue.models.wav import WAVConfig
from worldvalue.models.wvm import WVMConfig
from worldvalue.recipes import Recipe
from worldvalue.training.loop import train
from worldvalue.training.settings import TrainingSettings
from worldvalue.types import DataError, Episode, Labels, ValueCurve, Window

PIXELS = 64


def small_config() -> EstimatorConfig:
    """Two layers of width 24, 64-pixel pictures, 4 tokens a latent frame."""
    video = {
        "patch_size": (1, 4, 4),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 16,
        "freq_dim": 32,
        "ffn_dim": 48,
        "num_layers": 2,
    }
    value = ExpertConfig(
        width=16,
        ffn_width=32,
        cross_heads=2,
        cross_head_dim=8,
        layers=2,
        heads=2,
        head_dim=12,
        text_dim=16,
        freq_dim=32,
    )
    text = {"vocab_size": 384, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    vae = {
        "in_channels": 12,
        "out_channels": 12,
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "block_out_channels": [8, 8, 8],
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "mid_block_add_attention": False,
    }
    model = WVMConfig(video=video, value=value, text=text, text_length=32, text_pool=4, latent_size=(8, 8))
    return EstimatorConfig(model, "AutoencoderKL", vae, PictureSettings(PIXELS, PIXELS))


def small_viva_config(states: int = 3) -> EstimatorConfig:
    """A ViVa as wide and deep on the same pictures, codes and instructions; horizon 5."""
    config = small_config()
    base = config.model
    weights = {"state": 0.5, "value": 1.0} if states else {"value": 1.0}
    model = ViVaConfig(base.video, base.text, 32, (8, 8), text_pool=4, states=states, horizon=5, weights=weights)
    return replace(config, model=model)


def small_mv_wam_config() -> EstimatorConfig:
    """An MV-WAM as wide and deep on the same pictures, codes and instructions; 8 actions of 2 numbers."""
    config = small_config()
    base = config.model
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    model = MVWAMConfig(
        base.video,
        base.value,
        base.text,
        32,
        vision,
        (8, 8),
        states=3,
        actions=2,
        text_pool=4,
        unified=8,
        chunk=8,
    )
    return replace(config, model=model)


def small_wav_config() -> EstimatorConfig:
    """A WAV as wide and deep on the same pictures, codes and instructions; two memory frames, chunks of 8."""
    config = small_config()
    base = config.model
    video = {
        "in_channels": 16,
        "out_channels": 16,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "cross_attention_dim": 24,
        "num_layers": 2,
        "caption_channels": 16,
    }
    model = WAVConfig(
        video,
        replace(base.value, text_dim=24),
        base.text,
        32,
        (8, 8),
        states=3,
        actions=2,
        text_pool=4,
        views=1,
        fold=4,
        chunk=8,
        memory=2,
        memory_gap=5,
    )
    return replace(config, model=model)


def small_classifier_config() -> EstimatorConfig:
    """A frame classifier of one layer on the same pictures, codes and instructions."""
    config = small_config()
    model = FrameClassifierConfig(
        width=16,
        layers=1,
        heads=2,
        patch=4,
        code_channels=16,
        latent_size=(8, 8),
        text=config.model.text,
        text_length=32,
        text_pool=4,
    )
    return replace(config, model=model)


def small_recipe(config: EstimatorConfig | None = None) -> Recipe:
    """Three steps of training for both parts."""
    training = TrainingSettings(steps=3, batch=2, warmup=1, save_every=2, log_every=1)
    return Recipe(config or small_config(), training, autoencoder=training)


def small_estimator(seed: int = 0, views: int = 1, fewest_views: int | None = None) -> Estimator:
    """A small estimator whose new layers, zero at the start of training, are random, so that everything shows.

    How many views it sees is no part of the weights.
    """
    config = small_config()
    torch.manual_seed(seed)
    shown = replace(config.picture, views=views)
    estimator = Estimator(replace(config, picture=shown, fewest_views=fewest_views)).eval()
    torch.nn.init.normal_(estimator.model.value.proj_out.weight, std=0.5)
    return estimator


class PaintedFrames:
    """A white square that moves over grey noise: frames computed when asked for; upside down at the wrist."""

    def __init__(self, length: int, seed: int = 0) -> None:
        self.length = length
        self.seed = seed

    def read(self, camera: str, indices: object) -> np.ndarray:
        """Frames ``(n, 64, 64, 3)``."""
        pictures = np.random.default_rng(self.seed).integers(0, 80, (1, PIXELS, PIXELS, 3), dtype=np.uint8)
        pictures = np.repeat(pictures, len(indices), axis=0)
        for picture, index in zip(pictures, indices, strict=True):
            left = int(index / max(self.length - 1, 1) * (PIXELS - 8))
            picture[20:28, left : left + 8] = 255
        return pictures[:, ::-1] if camera == "wrist" else pictures


def painted_episode(
    length: int = 60,
    index: int = 0,
    fps: float = 10.0,
    labels: Labels | None = None,
    cameras: tuple[str, ...] = ("front",),
) -> Episode:
    """An episode of ``PaintedFrames``."""
    return Episode(
        index=index,
        name=f"painted {index}",
        instruction="push the square to the right",
        fps=fps,
        timestamps=np.arange(length) / fps,
        cameras=cameras,
        reader=PaintedFrames(length, index),
        labels=labels,
    )


def write_painted_videos(folder: Path, labels: Sequence[Labels]) -> Path:
    """A folder with a painted video for each of the labels, as long as they say, and ``labels.jsonl``."""
    folder.mkdir()
    rows = []
    for index, label in enumerate(labels):
        encode_video(folder / f"{index}.mp4", painted_episode(label.length, index).frames(), fps=10)
        rows.append(ManifestRow("push the square", 10, label, video=f"{index}.mp4"))
    write_manifest(folder / "labels.jsonl", rows)
    return folder


class RandomCodes:
    """Codes of an episode of 40 frames that were never pictures."""

    def __init__(self) -> None:
        self.codes = torch.randn(40, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def read(self, indices: np.ndarray) -> torch.Tensor:
        """Codes ``(n, 1, 4, 8, 8)``."""
        return self.codes[torch.from_numpy(indices)]


def train_small(
    out: Path,
    settings: TrainingSettings,
    resume: bool = False,
    weights: Mapping[str, float] | None = None,
    frozen: str | None = None,
    dataset: type[WindowDataset] = WindowDataset,
) -> dict[str, torch.Tensor]:
    """Train a small WVM, the same one each time, on windows of one episode; its weights.

    Args:
        out, settings, resume: see ``training.loop.train``.
        weights: of the losses, instead of the model's own.
        frozen: a part that stays as it is.
        dataset: what makes samples of the episode.
    """
    config = small_config()
    weights = weights or config.model.weights
    torch.manual_seed(0)
    estimator = Estimator(replace(config, model=replace(config.model, weights=weights)))
    if frozen is not None:
        estimator.model.get_submodule(frozen).requires_grad_(False)
    episode = TrainingEpisode(np.arange(40) / 10, np.linspace(0, 1, 40), "push the square", RandomCodes())
    window = Window(chunk=4, shown=tuple(range(9)), seen=5)
    tokens = estimator.model.text.tokenize(["push the square"])[0]

    def collate(samples: list[dict]) -> dict[str, torch.Tensor]:
        return {
            "items": torch.stack([s["items"] for s in samples]),
            "values": torch.stack([s["values"] for s in samples]),
            "tokens": torch.stack([tokens] * len(samples)),
        }

    windows = dataset([episode], 2.0, window, Augmentation(), seed=0)
    return train(estimator, weights, windows, collate, settings, out, resume, unused="video" not in weights)


@dataclass(frozen=True)
class AtWork:
    """A function of groups of episodes as a ``ScoreGroup``; it decodes for itself."""

    score: Callable[[Sequence[Episode]], Sequence[ValueCurve | DataError]]

    def decoded(self, episode: Episode) -> Episode:
        return episode

    def __call__(self, episodes: Sequence[Episode]) -> Sequence[ValueCurve | DataError]:
        return self.score(episodes)
