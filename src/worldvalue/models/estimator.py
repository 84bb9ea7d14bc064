"""A model with all that turns pictures into its values, and the folder it is kept in.

A checkpoint folder holds ``config.json`` and ``model.safetensors`` (bf16), nothing else that scoring needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from worldvalue.backbones.ltx_video import LTXVAE
from worldvalue.backbones.video_vae import FrameVAE, VideoVAE, WanVAE, pictures_to_float
from worldvalue.backbones.weights import fill, unfilled
from worldvalue.data.files import replacing
from worldvalue.data.pictures import PictureSettings, pictures
from worldvalue.models.frame_classifier import FrameClassifier, FrameClassifierConfig
from worldvalue.models.mv_wam import MVWAM, MVWAMConfig
from worldvalue.models.text_states import TextStates
from worldvalue.models.viva import ViVa, ViVaConfig
from worldvalue.models.wav import WAV, WAVConfig
from worldvalue.models.wvm import WVM, WVMConfig
from worldvalue.types import Batch, DataError, Episode, ValueModel, in_short

SHIPPED = Path(__file__).parent / "shipped"
WEIGHTS = "model.safetensors"
CUT_SHARE = 0.5
"""Share of training batches that show the fewest views, of a model that has learned to make do with fewer."""
OTHER_RECIPE = "it has not the recipe's shape: use the recipe it was trained with"
AUTOENCODERS: Mapping[str, Callable[[Mapping[str, Any]], VideoVAE]] = {
    "AutoencoderKL": FrameVAE,
    "AutoencoderKLWan": WanVAE,
    "AutoencoderKLLTXVideo": LTXVAE,
}
ModelConfig = WVMConfig | ViVaConfig | MVWAMConfig | WAVConfig | FrameClassifierConfig
MODELS: Mapping[str, tuple[type[ModelConfig], Callable[..., ValueModel]]] = {
    "WVM": (WVMConfig, WVM),
    "ViVa": (ViVaConfig, ViVa),
    "MVWAM": (MVWAMConfig, MVWAM),
    "WAV": (WAVConfig, WAV),
    "FrameClassifier": (FrameClassifierConfig, FrameClassifier),
}
"""Configurations and models by the model's class, as a checkpoint's ``config.json`` names it."""


@dataclass(frozen=True)
class EstimatorConfig:
    """Everything that makes an estimator.

    Attributes:
        model: the value model's own configuration.
        vae_class: diffusers class of the autoencoder, one of ``AUTOENCODERS``; ``AutoencoderKL`` for frames alone.
        vae: its keys.
        picture: cameras, layout and size of the pictures.
        fewest_views: pictures of a frame that are enough: half of the training batches are cut to the first so many,
            and an episode with fewer cameras than ``picture`` has views can be scored. None: it takes them all.
        rate: frames per second that the model looks at.
        text_folder: folder or hub id of what has ``text_encoder/`` and ``tokenizer/``, for a model without a text
            encoder of its own.
        band_margin: by how much the 10-90 % band of the draws is widened at both ends, found on held-out episodes
            (``worldvalue calibrate``).
    """

    model: ModelConfig
    vae_class: str
    vae: Mapping[str, Any]
    picture: PictureSettings
    fewest_views: int | None = None
    rate: float = 2.0
    text_folder: str | None = None
    band_margin: float = 0.0


class Estimator(nn.Module):
    """Frozen autoencoder, value model, picture settings and frame rate, together.

    Args:
        config: what to build.
        autoencoder: a pretrained one in the place of a new one.
        video: a pretrained video stream in the place of a new one.

    Raises:
        DataError: parts that do not fit together, or weights of losses that the model does not know.
    """

    def __init__(
        self, config: EstimatorConfig, autoencoder: VideoVAE | None = None, video: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.vae: VideoVAE = autoencoder or AUTOENCODERS[config.vae_class](config.vae)
        self.vae.requires_grad_(False)
        made = MODELS[_name(config.model)][1]
        self.model: ValueModel = made(config.model) if video is None else made(config.model, video)
        _check(config, self.vae, self.model)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The model's losses of a batch of windows.

        Args:
            batch: ``items`` ``(B, n, V, ...)`` of the frames shown (``VideoVAE.items``), ``values`` ``(B, 1 + h)``,
                ``tokens`` or ``text``, and ``states`` where the model asks for them.
        """
        fewest = self.config.fewest_views
        if fewest is not None and torch.rand(()) < CUT_SHARE:
            batch = {**batch, **{name: batch[name][:, :, :fewest] for name in ("items", "pictures") if name in batch}}
        with torch.no_grad():
            latents = self.model.encode(self.vae, batch["items"])
        return self.model({**batch, "latents": latents})

    def items(self, episode: Episode, indices: NDArray[np.int64], cameras: tuple[str, ...] | None = None) -> Tensor:
        """What the autoencoder makes of single frames of an episode ``(n, V, ...)`` float32 (``VideoVAE.items``).

        Args:
            episode, indices: which frames.
            cameras: instead of those the configuration names.
        """
        return self.vae.items(torch.from_numpy(pictures(episode, indices, self.picture_settings(episode, cameras))))

    def states(self, episode: Episode, indices: NDArray[np.int64]) -> Tensor | None:
        """The robot's proprioception at frames of an episode ``(n, P)`` float32; None where the model sees none.

        Raises:
            DataError: the episode has none, or one of other numbers than the model was trained with.
        """
        if not self.model.window.states_seen:
            return None
        asked, told = self.model.config.states, episode.proprioception
        if told is None or told.shape[1] != asked:
            has = "none" if told is None else f"{told.shape[1]} numbers"
            raise DataError(f"{episode.name}: the model reads a proprioception of {asked} numbers, the data has {has}.")
        return torch.from_numpy(told[indices]).to(self.device)

    def pixels(
        self, episode: Episode, indices: NDArray[np.int64], cameras: tuple[str, ...] | None = None
    ) -> Tensor | None:
        """Pictures of frames of an episode ``(n, V, 3, H, W)`` in [-1, 1]; None where the model sees none as pixels."""
        if not self.model.window.pictures:
            return None
        shown = torch.from_numpy(pictures(episode, indices, self.picture_settings(episode, cameras)))
        return pictures_to_float(shown.to(self.device))

    def observe(self, seen: Batch, text: Tensor) -> Any:
        """What the model computes once of windows: ``items`` and ``states`` as seen, ``text`` ``(B, L, D)``."""
        return self.model.observe({**seen, "latents": self.model.encode(self.vae, seen["items"]), "text": text})

    def values(self, seen: Batch, text: Tensor, prefix: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Value chunks ``(B, S, h)`` of windows: ``observe``, then the model's ``predict``."""
        return self.model.predict(self.observe(seen, text), prefix, noise, steps)

    def compile_layers(self) -> None:
        """Let torch compile the model's layers, from their next call on."""
        for layer in self.modules():
            if isinstance(layer, self.model.sharded_layers):
                layer.compile()

    def picture_settings(self, episode: Episode, cameras: tuple[str, ...] | None = None) -> PictureSettings:
        """Size, layout and cameras of an episode's pictures; ``cameras`` instead of those the configuration names.

        Of fewer cameras than there are views to be filled as many views are shown as can be, if they are enough.
        """
        settings = self.config.picture
        settings = replace(settings, cameras=cameras or settings.cameras)
        filled = len(settings.cameras or episode.cameras) // (settings.rows * settings.columns)
        fewest = self.config.fewest_views or settings.views
        return replace(settings, views=min(max(filled, fewest), settings.views))

    @torch.no_grad()
    def text_states(self, instructions: Sequence[str]) -> dict[str, Tensor]:
        """States ``(L, text_dim)`` of each distinct instruction."""
        distinct = sorted(set(instructions))
        if not distinct:
            return {}
        if self.model.text is None:
            self.stored_texts.make(distinct, self.device)
            return dict(zip(distinct, self.stored_texts.stacked(distinct).to(self.device), strict=True))
        encoder = self.model.text
        return dict(zip(distinct, encoder(encoder.tokenize(distinct).to(self.device)), strict=True))

    @cached_property
    def stored_texts(self) -> TextStates:
        """What a pretrained text encoder makes of instructions, for a model that has none of its own.

        Raises:
            DataError: the configuration names no text encoder, or it is not there.
        """
        if self.config.text_folder is None:
            raise DataError("The model has no text encoder; give the folder that holds text_encoder and tokenizer.")
        try:
            return TextStates(self.config.text_folder, self.config.model.text_length)
        except DataError as error:
            raise DataError(f"The text encoder, text_folder in the model's config.json: {error}") from error

    def save(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write the checkpoint folder; weights as bf16, measured statistics as they are.

        Args:
            folder: where to.
            weights: instead of its own, by the same names; training hands them out whole when it has left the model
                sharded.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.save_config(folder)
        measured = dict(self.named_buffers())
        state = {
            name: (tensor if name in measured else tensor.to(torch.bfloat16)).contiguous()
            for name, tensor in (weights or self.state_dict()).items()
        }
        with replacing(folder / WEIGHTS) as partial:
            save_file(state, partial)

    def save_config(self, folder: Path) -> None:
        """Write the checkpoint folder's ``config.json`` alone."""
        with replacing(folder / "config.json") as partial:
            told = {"model_class": _name(self.config.model), **asdict(self.config)}
            partial.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def load_model(
    name_or_folder: str | Path, dtype: torch.dtype = torch.float32, config: EstimatorConfig | None = None
) -> Estimator:
    """A shipped model by its name (``"tiny"``) or one in a checkpoint folder, on the GPU if there is one.

    Args:
        name_or_folder: see there.
        dtype: of linear and convolution layers. bfloat16 halves the memory and gives the same values, since scoring
            computes those layers in bfloat16 anyway; training needs float32.
        config: what to build, in the place of what the checkpoint says; its weights have to fit.

    Raises:
        DataError: no such model; or its files do not fit together, or not the configuration.
    """
    folder = _found(name_or_folder)
    try:
        with unfilled():
            estimator = Estimator(config or read_config(folder))
    except (KeyError, TypeError, RuntimeError) as error:
        raise _unusable(folder, error) from error
    remedy = "train or copy it again" if config is None else OTHER_RECIPE
    fill(estimator, [folder / WEIGHTS], default_device(), dtype, remedy=remedy)
    return estimator.eval()


def read_config(name_or_folder: str | Path) -> EstimatorConfig:
    """The configuration of a model that ``load_model`` would load.

    Raises:
        DataError: there is none, or it is not one of ours.
    """
    folder = _found(name_or_folder)
    try:
        return _config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _unusable(folder, error) from error


def default_device() -> torch.device:
    """The GPU if there is one; with several, that of this process."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def checkpoint_folder(name_or_folder: str | Path) -> Path | None:
    """Where a shipped model's or another checkpoint's files are, if there is one."""
    candidates = (SHIPPED / str(name_or_folder), Path(name_or_folder))
    return next((folder for folder in candidates if (folder / "config.json").is_file()), None)


def _found(name_or_folder: str | Path) -> Path:
    folder = checkpoint_folder(name_or_folder)
    if folder is None:
        shipped = ", ".join(sorted(path.name for path in SHIPPED.glob("*") if path.is_dir())) or "none"
        raise DataError(
            f"{name_or_folder} is neither a shipped model ({shipped}) nor a folder with config.json and "
            "model.safetensors."
        )
    return folder


def _name(config: ModelConfig) -> str:
    """The class of model that a configuration makes."""
    return next(name for name, (known, _) in MODELS.items() if isinstance(config, known))


def _check(config: EstimatorConfig, vae: VideoVAE, model: ValueModel) -> None:
    """Refuse parts that do not fit together."""
    side = (config.picture.height // vae.scale, config.picture.width // vae.scale)
    if config.model.latent_size != side:
        raise DataError(f"The pictures make latents of {side}; set estimator.model.latent_size to that.")
    taken, most = model.views_taken, config.picture.views
    for views in (most, most if config.fewest_views is None else config.fewest_views):
        if views not in taken or views > most:
            few, many = taken[0], max(taken[0], min(taken[-1], most))
            told = f"{few}" if few == many else f"{few} to {many}"
            raise DataError(
                f"{_name(config.model)} sees {told} picture(s) of a frame here, not {views}; set "
                "estimator.picture.views and fewest_views, and tile cameras with rows and columns."
            )
    unknown = sorted(set(config.model.weights) - model.losses_known)
    if unknown or not config.model.weights:
        told = f"There is no loss '{unknown[0]}'" if unknown else "No loss has a weight"
        raise DataError(f"{told}; give a weight to one or more of: {', '.join(sorted(model.losses_known))}.")


def _config(told: dict[str, Any]) -> EstimatorConfig:
    known, _ = MODELS[told.pop("model_class", "WVM")]  # those written before there was another do not say
    model = known.read(told.pop("model"))
    shown = told.pop("picture")
    shown["cameras"] = tuple(shown["cameras"]) if shown["cameras"] else None
    return EstimatorConfig(model=model, picture=PictureSettings(**shown), **told)


def _unusable(folder: Path, error: Exception) -> DataError:
    return DataError(f"{folder} holds no usable checkpoint: {in_short(error)}; train or copy it again.")
