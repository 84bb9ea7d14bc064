"""MV-WAM, the manifold-aware world action model: video, actions and a value in one transformer of two experts.

A clip of video latents, the first one clean, runs through the video expert. The action-value expert, narrower and as
deep, reads the video's keys and values layer by layer (section 3.1):

    video               sees  video
    state and actions   see   video, state and actions
    value               sees  video, state, actions and value

Of several views the video is the first; the vision encoder sees all of them. An action stands at the time of the latent
frame that it leads to: positions in the expert count quarters of a latent frame. Video is trained to put out its
velocity, actions and value their data (equations 2 and 3). When the model is used, all three are denoised together from
noise, at the same noise levels as in training.

Axes: B windows, S noise draws, V pictures of a frame, C h w latent channels and pixels, K future latent frames, T
actions of a chunk, A numbers of an action, P of a state, U of the space that both are padded to, L text tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldvalue import flow_matching as fm
from worldvalue.backbones.experts import ExpertConfig, ExpertStream, silent
from worldvalue.backbones.joint_attention import KeysValues, StreamBlock, repeated
from worldvalue.backbones.scales import Scale, mean_known
from worldvalue.backbones.text import example_text, own_encoder, states_of
from worldvalue.backbones.video_dit import VideoDiT, VideoOutput
from worldvalue.backbones.video_vae import FOLD, VideoVAE
from worldvalue.backbones.vision import VisionEncoder
from worldvalue.flow_matching import Parameterization
from worldvalue.models.heads import spread, unspread
from worldvalue.models.network import ValueNetwork
from worldvalue.types import Batch, DataError, Window


def _as_published() -> dict[str, str]:
    return {"video": "velocity", "action": "data", "value": "data"}


@dataclass(frozen=True)
class MVWAMConfig:
    """Everything that makes an MV-WAM.

    Attributes:
        video: keys of diffusers' ``WanTransformer3DModel``.
        expert: shape of the action-value expert.
        text: keys of transformers' ``UMT5Config``; trained with the model. None: batches carry text states.
        text_length: tokens of an instruction.
        text_pool: neighbouring text states that become one (``TextEncoder``).
        vision: keys of transformers' ``SiglipVisionConfig``.
        latent_size: height and width of a latent frame.
        states: P, numbers of the robot's proprioception.
        actions: A, numbers of an action.
        unified: U, width of the space that states and actions are padded to with zeros (section 2.2).
        chunk: T, actions that are predicted together; frames of the data, 4 per latent frame.
        weights: of the losses, by name (section 3.1). With that of the video alone, only the video expert is trained:
            the paper's first stage.
        parameterizations: what is put out, by the loss's name; a value of ``Parameterization``.
        vision_folder: folder or hub id of the SigLIP2 that a new model's vision encoder is, shape and weights, in the
            place of one that ``vision`` describes; None starts a new one. A trained model brings its own.
    """

    video: Mapping[str, Any]
    expert: ExpertConfig
    text: Mapping[str, Any] | None
    text_length: int
    vision: Mapping[str, Any]
    latent_size: tuple[int, int]
    states: int
    actions: int
    text_pool: int = 1
    unified: int = 128
    chunk: int = 32
    weights: Mapping[str, float] = field(default_factory=lambda: {"video": 1.0, "action": 1.0, "value": 1.0})
    parameterizations: Mapping[str, str] = field(default_factory=_as_published)
    vision_folder: str | None = None

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> MVWAMConfig:
        """The configuration that ``dataclasses.asdict`` and JSON made ``told`` of."""
        return cls(**{**told, "expert": ExpertConfig(**told["expert"]), "latent_size": tuple(told["latent_size"])})


class Parts(NamedTuple):
    """Something of each modality: data, noise or what a network puts out.

    Attributes:
        video: ``(B, C, K, h, w)`` future latent frames.
        action: ``(B, T, U)``.
        value: ``(B, 1, 1)``, spread to [-1, 1].
    """

    video: Tensor
    action: Tensor
    value: Tensor


class Context(NamedTuple):
    """What is the same for every draw and step.

    Attributes:
        current: latent frame ``(B, C, 1, h, w)``.
        state: ``(B, 1, U)``.
        video_text: of the instruction, in the video expert, keys and values per layer.
        read: in the action-value expert, of the instruction in odd layers and of the pictures in even ones.
    """

    current: Tensor
    state: Tensor
    video_text: list[KeysValues]
    read: list[KeysValues]


MAX_VIEWS = 3
"""Pictures of a frame that the expert can tell apart."""


class ActionValueExpert(ExpertStream):
    """The narrow expert: one way in and out for states and actions, another for the value.

    Args:
        config: shape of the stream.
        unified: U.
        vision_dim: width of the pictures' features.
    """

    def __init__(self, config: ExpertConfig, unified: int, vision_dim: int) -> None:
        super().__init__(config)
        self.action_in, self.action_out = nn.Linear(unified, config.width), silent(nn.Linear(config.width, unified))
        self.value_in, self.value_out = nn.Linear(1, config.width), silent(nn.Linear(config.width, 1))
        self.view_embedder = nn.Linear(vision_dim, config.width)
        self.view_marks = nn.Parameter(torch.zeros(MAX_VIEWS, 1, config.width))

    def read(self, text: Tensor, views: Tensor) -> list[KeysValues]:
        """Per layer, keys and values: odd ones of text ``(B, L, text_dim)``, even ones of features ``(B, V, n, dim)``,
        each view's marked as its own."""
        seen = self.view_embedder(views) + self.view_marks[: views.shape[1]]
        told = (seen.flatten(1, 2), self.text_embedder(text))
        return [cast(StreamBlock, block).read_text(told[layer % 2]) for layer, block in enumerate(self.blocks)]


class MVWAM(ValueNetwork):
    """Video expert, action-value expert and vision encoder; at tiny size with a text encoder.

    Args:
        config: what to build.
        video: a pretrained video expert in the place of a new one.

    Raises:
        DataError: the chunk is no whole number of latent frames, or a parameterization is unknown.
    """

    sharded_layers: tuple[type[nn.Module], ...] = (StreamBlock,)
    views_taken: ClassVar[range] = range(1, 1 + MAX_VIEWS)
    euler_steps: ClassVar[int] = 5
    losses_known: ClassVar[frozenset[str]] = frozenset(Parts._fields)

    def __init__(self, config: MVWAMConfig, video: VideoDiT | None = None) -> None:
        super().__init__()
        if config.chunk % FOLD:
            raise DataError(f"estimator.model.chunk must be a multiple of {FOLD}, the frames of a latent frame.")
        self.config = config
        self.put_out = _parameterizations(config.parameterizations)
        self.video = video or VideoDiT(**config.video)
        self.vision = VisionEncoder(config.vision)
        self.expert = ActionValueExpert(config.expert, config.unified, self.vision.dim)
        self.scales = nn.ModuleDict({"state": Scale(config.states), "action": Scale(config.actions)})
        self.text = own_encoder(config.text, config.text_length, config.text_pool)

    @property
    def window(self) -> Window:
        """A frame and those that the chunk's actions lead to; the state and the picture before them.

        In the first stage the frames alone.
        """
        chunk = range(1, 1 + self.config.chunk)
        shown = (1, *(tick + 1 for tick in chunk))
        if self.video_alone:
            return Window(1, shown, 1, data_rate=True)
        return Window(1, shown, 1, (1,), 1, actions=tuple(chunk), pictures=(1,), data_rate=True)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one draw's ``Parts``."""
        config = self.config
        video = (self.video.config.out_channels, config.chunk // FOLD, *config.latent_size)
        return {"video": video, "action": (config.chunk, config.unified), "value": (1, 1)}

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Numbers of a draw: those of ``shapes``, one after another."""
        return (sum(math.prod(shape) for shape in self.shapes.values()),)

    @property
    def acting_noise_shape(self) -> tuple[int, ...]:
        """The same: everything is denoised together."""
        return self.noise_shape

    def encode(self, vae: VideoVAE, items: Tensor) -> Tensor:
        """Latents ``(B, C, 1 + K, h, w)`` of the first view, the first of the first frame alone; K is 0 of one."""
        return vae.per_clip(items[:, :, 0])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Squared errors of what the experts put out (equations 2 and 3), those that have a weight.

        One noise level serves all of a window, as when the model is used.

        Args:
            batch: ``latents`` ``(B, C, 1 + K, h, w)``; ``states`` ``(B, 1, P)``; ``actions`` ``(B, T, A)``, NaN where
                there is none; ``values`` ``(B, 2)`` in [0, 1], of which the first, the prefix, is not looked at;
                ``pictures`` ``(B, 1, V, 3, H, W)`` in [-1, 1]; ``text`` ``(B, L, text_dim)`` states or ``tokens``
                ``(B, L)`` ids.
        """
        text = states_of(batch, self.text)
        sigma = fm.sample_sigma(len(text), device=text.device)
        current, future = batch["latents"][:, :, :1], batch["latents"][:, :, 1:]
        if self.video_alone:
            noise = torch.randn_like(future)
            seen = self._see(current, fm.interpolate(future, noise, sigma), sigma, self.video.read_text(text))
            return {"video": self._errors("video", _future(seen), future, noise).mean()}
        context = self.observe({**batch, "latents": current, "text": text})
        action = self._unified("action", batch["actions"])
        data = Parts(future, action.nan_to_num(), spread(batch["values"][:, 1:, None]))
        noises = self._within(Parts(*(torch.randn_like(part) for part in data)))
        noised = Parts(*(fm.interpolate(x, y, sigma) for x, y in zip(data, noises, strict=True)))
        told = self._outputs(noised, sigma, context)._asdict()
        errors = {name: self._errors(name, told[name], getattr(data, name), getattr(noises, name)) for name in told}
        means = {name: error.mean() for name, error in errors.items()}
        means["action"] = mean_known(errors["action"], action.isfinite())
        return {name: means[name] for name in self.config.weights}

    def _errors(self, name: str, told: Tensor, data: Tensor, noise: Tensor) -> Tensor:
        """Squared errors of what is put out for a part."""
        return (told.float() - self.put_out[name].target(data, noise)).square()

    def _unified(self, name: str, numbers: Tensor) -> Tensor:
        """States or actions ``(B, n, P or A)`` in [-1, 1] and padded to ``(B, n, U)`` with NaN."""
        return F.pad(self.scale(name)(numbers), (0, self.config.unified - numbers.shape[-1]), value=torch.nan)

    def _within(self, noise: Parts) -> Parts:
        """The noise without that on the padding of actions, which stays 0."""
        used = torch.arange(self.config.unified, device=noise.action.device) < self.config.actions
        return noise._replace(action=noise.action * used)

    def observe(self, batch: Batch) -> Context:
        """What is given.

        Args:
            batch: ``latents`` ``(B, C, 1, h, w)`` of the current frame; ``states`` ``(B, 1, P)``; ``pictures``
                ``(B, 1, V, 3, H, W)``; ``text`` ``(B, L, text_dim)`` states.
        """
        text, state = batch["text"], self._unified("state", batch["states"]).nan_to_num()
        read = self.expert.read(text, self.vision(batch["pictures"][:, 0]))
        return Context(batch["latents"], state, self.video.read_text(text), read)

    def _see(self, current: Tensor, noised: Tensor, sigma: Tensor, text: list[KeysValues]) -> VideoOutput:
        """What the video expert makes of a clean frame ``(B, C, 1, h, w)`` and noised ones after it."""
        clip = torch.cat((current.to(noised.dtype), noised), dim=2)
        levels = sigma[:, None].expand(-1, clip.shape[2]).clone()
        levels[:, 0] = 0.0
        return self.video(clip, levels, text)

    def _outputs(self, noised: Parts, sigma: Tensor, context: Context) -> Parts:
        """What the experts put out at noise levels ``sigma`` ``(B,)``."""
        seen = self._see(context.current, noised.video, sigma, context.video_text)
        tokens = torch.cat((context.state.to(noised.action.dtype), noised.action), dim=1)
        levels = sigma[:, None].expand(-1, tokens.shape[1]).clone()
        levels[:, 0] = 0.0
        rotary = self.video.rotary_in_time(torch.arange(tokens.shape[1], device=sigma.device) / FOLD)
        acting, own = self.expert.run(self.expert.action_in(tokens), levels, context.read, rotary, seen.keys_values)
        now = self.video.rotary_in_time(torch.zeros(1, device=sigma.device))
        value, _ = self.expert.run(
            self.expert.value_in(noised.value), sigma[:, None], context.read, now, _both(seen.keys_values, own)
        )
        return Parts(_future(seen), self.expert.action_out(acting[:, 1:]), self.expert.value_out(value))

    def denoise(self, context: Context, noise: Tensor, steps: int) -> Parts:
        """Video, actions and value that Euler steps lead to, ``(B * S, ...)`` each.

        Args:
            context: of B windows, from ``observe``.
            noise: ``(B, S, *noise_shape)`` standard normal draws.
            steps: Euler steps; 1, 3 and 5 in the paper, 5 by default there.
        """
        context = _repeated(context, noise.shape[1])

        def velocity(flat: Tensor, sigma: Tensor) -> Tensor:
            x = self._parts(flat)
            told = self._outputs(x, sigma, context)
            velocities = (
                self.put_out[name].velocity(getattr(x, name), getattr(told, name).float(), sigma)
                for name in Parts._fields
            )
            return _flat(Parts(*velocities))

        return self._parts(fm.integrate(_flat(self._within(self._parts(noise.flatten(0, 1)))), steps, velocity))

    def _parts(self, flat: Tensor) -> Parts:
        """The parts of draws ``(B, *noise_shape)``."""
        cut = flat.split([math.prod(shape) for shape in self.shapes.values()], dim=-1)
        return Parts(*(part.unflatten(-1, shape) for part, shape in zip(cut, self.shapes.values(), strict=True)))

    def predict(self, context: Context, prefix: Tensor, noise: Tensor, steps: int = 5) -> Tensor:
        """Values ``(B, S, 1)`` in [0, 1]; the prefix is not looked at, other arguments as for ``denoise``."""
        del prefix
        return unspread(self.denoise(context, noise, steps).value[..., 0]).clamp(0.0, 1.0).unflatten(0, noise.shape[:2])

    def act(self, context: Context, noise: Tensor, steps: int = 5) -> Tensor:
        """Action chunks ``(B, S, T, A)`` in their own units; arguments as for ``denoise``."""
        actions = self.denoise(context, noise, steps).action[..., : self.config.actions]
        return self.scale("action").inverse(actions).unflatten(0, noise.shape[:2])

    def example_batch(self, batch_size: int = 2) -> dict[str, Tensor]:
        """A random batch of the right names, shapes and types."""
        config = self.config
        channels, frames, height, width = self.shapes["video"]
        side = self.vision.encoder.config.image_size
        return {
            "latents": torch.randn(batch_size, channels, 1 + frames, height, width),
            "values": torch.rand(batch_size, 2),
            "states": torch.rand(batch_size, 1, config.states),
            "actions": torch.rand(batch_size, config.chunk, config.actions),
            "pictures": torch.rand(batch_size, 1, 1, 3, side, side) * 2 - 1,
            **example_text(self.text, batch_size, config.text_length, config.expert.text_dim),
        }


def _flat(parts: Parts) -> Tensor:
    """Parts one after another ``(B, *noise_shape)``."""
    return torch.cat([part.flatten(1) for part in parts], dim=-1)


def _parameterizations(told: Mapping[str, str]) -> dict[str, Parameterization]:
    try:
        return {name: Parameterization(told[name]) for name in Parts._fields}
    except (KeyError, ValueError) as error:
        known = ", ".join(Parameterization)
        raise DataError(f"parameterizations gives each of {', '.join(Parts._fields)} one of: {known}.") from error


def _future(seen: VideoOutput) -> Tensor:
    """What is put out for the frames after the first."""
    return seen.velocity[:, :, 1:]


def _both(one: Sequence[KeysValues], other: Sequence[KeysValues]) -> list[KeysValues]:
    """Per layer, keys and values of two groups of tokens as of one."""
    return [
        (torch.cat((a.to(c.dtype), c), dim=2), torch.cat((b.to(d.dtype), d), dim=2))
        for (a, b), (c, d) in zip(one, other, strict=True)
    ]


def _repeated(context: Context, times: int) -> Context:
    """Every window ``times`` times in a row."""
    current, state = (x.repeat_interleave(times, 0) for x in (context.current, context.state))
    return Context(current, state, repeated(context.video_text, times), repeated(context.read, times))
