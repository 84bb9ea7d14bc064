"""A model with all that turns pictures into its values, and the folder it is kept in.

A checkpoint folder holds ``config.json`` and ``model.safetensors`` (bf16), nothing else that scoring needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from worldvalue.backbones.text import TextEncoder
from worldvalue.backbones.video_dit import VideoDiT
from worldvalue.backbones.video_vae import FrameVAE, VideoVAE, WanVAE
from worldvalue.data.files import replacing
from worldvalue.data.pictures import PictureSettings, pictures
from worldvalue.models.frame_classifier import FrameClassifier, FrameClassifierConfig
from worldvalue.models.wvm import WVM, WVMConfig, value_stream
from worldvalue.types import Batch, DataError, Episode, ValueModel

SHIPPED = Path(__file__).parent / "shipped"
AUTOENCODERS: Mapping[str, type[FrameVAE] | type[WanVAE]] = {"AutoencoderKL": FrameVAE, "AutoencoderKLWan": WanVAE}
ModelConfig = WVMConfig | FrameClassifierConfig
MODELS: Mapping[str, tuple[type[ModelConfig], Callable[[Any], ValueModel]]] = {
    "WVM": (WVMConfig, WVM),
    "FrameClassifier": (FrameClassifierConfig, FrameClassifier),
}
"""Configurations and models by the model's class, as a checkpoint's ``config.json`` names it."""


@dataclass(frozen=True)
class EstimatorConfig:
    """Everything that makes an estimator.

    Attributes:
        model: the value model's own configuration.
        vae_class: diffusers class of the autoencoder: ``AutoencoderKL`` (frames alone) or ``AutoencoderKLWan``.
        vae: its keys.
        picture: cameras, layout and size of the pictures.
        rate: frames per second that the model looks at.
        text_folder: where ``text_encoder/`` and ``tokenizer/`` lie, for a model without a text encoder of its own.
        band_margin: by how much the 10-90 % band of the draws is widened at both ends, found on held-out episodes
            (``worldvalue calibrate``).
    """

    model: ModelConfig
    vae_class: str
    vae: Mapping[str, Any]
    picture: PictureSettings
    rate: float = 2.0
    text_folder: str | None = None
    band_margin: float = 0.0


class Estimator(nn.Module):
    """Frozen autoencoder, value model, picture settings and frame rate, together.

    Raises:
        DataError: parts that do not fit together, or weights of losses that the model does not know.
    """

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        self.config = config
        self.vae: VideoVAE = AUTOENCODERS[config.vae_class](config.vae)
        self.vae.requires_grad_(False)
        self.model: ValueModel = _model(config, self.vae)

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
        with torch.no_grad():
            latents = self.model.encode(self.vae, batch["items"])
        return self.model({**batch, "latents": latents})

    def items(self, episode: Episode, indices: NDArray[np.int64], cameras: tuple[str, ...] | None = None) -> Tensor:
        """What the autoencoder makes of single frames of an episode ``(n, V, ...)`` float32 (``VideoVAE.items``).

        Args:
            episode, indices: which frames.
            cameras: instead of those the configuration names.
        """
        return self.vae.items(torch.from_numpy(pictures(episode, indices, self.picture_settings(cameras))))

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

    def observe(self, seen: Batch, text: Tensor) -> Any:
        """What the model computes once of windows: ``items`` and ``states`` as seen, ``text`` ``(B, L, D)``."""
        return self.model.observe({**seen, "latents": self.model.encode(self.vae, seen["items"]), "text": text})

    def picture_settings(self, cameras: tuple[str, ...] | None = None) -> PictureSettings:
        """Size, layout and cameras of the pictures; ``cameras`` instead of those the configuration names."""
        return replace(self.config.picture, cameras=cameras) if cameras else self.config.picture

    @torch.no_grad()
    def text_states(self, instructions: Sequence[str]) -> dict[str, Tensor]:
        """States ``(L, text_dim)`` of each distinct instruction."""
        distinct = sorted(set(instructions))
        if not distinct:
            return {}
        encoder = self.model.text or self._pretrained_text_encoder()
        return dict(zip(distinct, encoder(encoder.tokenize(distinct).to(self.device)), strict=True))

    def _pretrained_text_encoder(self) -> TextEncoder:
        """Loaded for one use: it is larger than the model and is needed once per instruction."""
        if self.config.text_folder is None:
            raise DataError("The model has no text encoder; give the folder that holds text_encoder and tokenizer.")
        folder = Path(self.config.text_folder)
        return TextEncoder.from_pretrained(folder, self.config.model.text_length, torch.bfloat16).to(self.device)

    def save(self, folder: Path) -> None:
        """Write the checkpoint folder; the weights as bf16."""
        folder.mkdir(parents=True, exist_ok=True)
        self.save_config(folder)
        state = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in self.state_dict().items()}
        with replacing(folder / "model.safetensors") as partial:
            save_file(state, partial)

    def save_config(self, folder: Path) -> None:
        """Write the checkpoint folder's ``config.json`` alone."""
        with replacing(folder / "config.json") as partial:
            told = {"model_class": type(self.model).__name__, **asdict(self.config)}
            partial.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def load_model(name_or_folder: str | Path) -> Estimator:
    """A shipped model by its name (``"tiny"``) or one in a checkpoint folder: float32, on the GPU if there is one.

    Raises:
        DataError: no such model; or its files do not fit together.
    """
    folder = _checkpoint_folder(name_or_folder)
    if folder is None:
        shipped = ", ".join(sorted(path.name for path in SHIPPED.glob("*") if path.is_dir())) or "none"
        raise DataError(
            f"{name_or_folder} is neither a shipped model ({shipped}) nor a folder with config.json and "
            "model.safetensors."
        )
    try:
        config = _config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        estimator = Estimator(config)
        estimator.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataError(
            f"{folder} holds no usable checkpoint: {_first_line(error)}; train or copy it again."
        ) from error
    return estimator.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _checkpoint_folder(name_or_folder: str | Path) -> Path | None:
    """Where a shipped model's or another checkpoint's files are, if there is one."""
    candidates = (SHIPPED / str(name_or_folder), Path(name_or_folder))
    return next((folder for folder in candidates if (folder / "config.json").is_file()), None)


def on_pretrained(name_or_folder: str | Path, config: EstimatorConfig) -> Estimator:
    """A new estimator on a pretrained video model: its video stream, autoencoder and text encoder; the rest starts new.

    Args:
        name_or_folder: a Wan model in diffusers layout (``transformer/``, ``vae/``, ``text_encoder/``,
            ``tokenizer/``), whose shapes replace those of the configuration; or a model as ``load_model`` takes it.
        config: of the estimator.

    Raises:
        DataError: the configuration has no video stream, a part is missing, or shapes do not fit.
    """
    if not isinstance(config.model, WVMConfig):
        raise DataError("This recipe has no video stream that could be pretrained; leave --pretrained out.")
    if _checkpoint_folder(name_or_folder):
        return _on_checkpoint(name_or_folder, config)
    folder = Path(name_or_folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is neither a folder nor a shipped model; give --pretrained a video model's folder.")
    return _on_wan(folder, config, config.model)


def _on_checkpoint(name_or_folder: str | Path, config: EstimatorConfig) -> Estimator:
    kept = load_model(name_or_folder)
    if not isinstance(kept.model, WVM):
        raise DataError(f"{name_or_folder} has no video stream; give a World Value Model or a Wan model.")
    estimator = Estimator(replace(config, text_folder=kept.config.text_folder))
    assert isinstance(estimator.model, WVM)
    try:
        estimator.vae.load_state_dict(kept.vae.state_dict())
        estimator.model.video.load_state_dict(kept.model.video.state_dict())
        if estimator.model.text is not None and kept.model.text is not None:
            estimator.model.text.load_state_dict(kept.model.text.state_dict())
    except RuntimeError as error:
        raise DataError(f"{name_or_folder} has not the recipe's shape; use the recipe it was trained with.") from error
    return estimator


def _on_wan(folder: Path, config: EstimatorConfig, model: WVMConfig) -> Estimator:
    if config.vae_class != "AutoencoderKLWan":
        raise DataError("This recipe has an autoencoder of its own; a pretrained Wan model needs a recipe made for it.")
    for part in ("transformer", "vae", "text_encoder", "tokenizer"):
        if not (folder / part).is_dir():
            raise DataError(f"{folder} has no folder '{part}'; give a Wan model in diffusers layout.")
    video = VideoDiT.from_pretrained(folder, subfolder="transformer")
    autoencoder = AutoencoderKLWan.from_pretrained(folder, subfolder="vae")
    model = replace(model, video=_public(video.config))
    if (model.value.layers, model.value.heads, model.value.head_dim) != (
        video.config.num_layers,
        video.config.num_attention_heads,
        video.config.attention_head_dim,
    ):
        raise DataError(f"{folder}/transformer has another depth or head shape than the recipe's value stream.")
    config = replace(config, model=model, vae=_public(autoencoder.config), text_folder=str(folder))
    with torch.device("meta"):
        estimator = Estimator(config)
    assert isinstance(estimator.model, WVM)
    estimator.model.video, estimator.vae.autoencoder = video, autoencoder.requires_grad_(False)
    estimator.model.value, estimator.model.head = value_stream(model)
    return estimator


def _model(config: EstimatorConfig, vae: VideoVAE) -> ValueModel:
    """The value model of a configuration, after a look at whether it fits the rest."""
    if isinstance(config.model, FrameClassifierConfig):
        side = (config.picture.height // vae.scale, config.picture.width // vae.scale)
        if config.model.latent_size != side:
            raise DataError(f"The pictures make codes of {side}; set estimator.model.latent_size to that.")
    made = next(model(config.model) for known, model in MODELS.values() if isinstance(config.model, known))
    if config.picture.views > made.max_views:
        told = f"{type(made).__name__} sees {made.max_views} picture(s) of a frame, not {config.picture.views}"
        raise DataError(f"{told}; set estimator.picture.views, and tile cameras with rows and columns.")
    unknown = sorted(set(config.model.weights) - made.losses_known)
    if unknown or not config.model.weights:
        told = f"There is no loss '{unknown[0]}'" if unknown else "No loss has a weight"
        raise DataError(f"{told}; give a weight to one or more of: {', '.join(sorted(made.losses_known))}.")
    return made


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _config(told: dict[str, Any]) -> EstimatorConfig:
    known, _ = MODELS[told.pop("model_class", "WVM")]  # those written before there was another do not say
    model = known.read(told.pop("model"))
    shown = told.pop("picture")
    shown["cameras"] = tuple(shown["cameras"]) if shown["cameras"] else None
    return EstimatorConfig(model=model, picture=PictureSettings(**shown), **told)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".:")
