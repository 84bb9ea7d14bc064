"""WAV, the World-Value-Action model (arXiv 2604.14732): video first, then its value, then actions that know both.

Three streams of equal depth (section 4.2). The video transformer continues several views from sparse memory frames and
the current one. Value tokens read its hidden states layer by layer; action tokens do too and see the value's:

    video    sees  video of all views
    value    sees  value, and reads the video
    action   sees  the robot's state, actions and value, and reads the video

The video's hidden states are computed once and serve every draw of values and actions. That is what planning needs
(section 4.3): it draws video noise and value noise apart, and scores a draw by mean over deviation of its value chunk.

Axes: B windows, S noise draws, V views, C h w latent channels and pixels, M memory frames, K future latent frames, T
values and actions of a chunk, A numbers of an action, P of a state, L text tokens, N video tokens, D width of the video
stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_ltx import LTXVideoTransformerBlock
from torch import Tensor, nn

from worldvalue import flow_matching as fm
from worldvalue.backbones.experts import Expert, ExpertConfig, in_line
from worldvalue.backbones.joint_attention import KeysValues, StreamBlock, repeated
from worldvalue.backbones.ltx_video import LTXVideoDiT
from worldvalue.backbones.scales import Scale, mean_known
from worldvalue.backbones.text import example_text, own_encoder, states_of
from worldvalue.backbones.video_vae import VideoVAE
from worldvalue.models.network import ValueNetwork
from worldvalue.types import Batch, DataError, Window

TINIEST_DEVIATION = 1e-6


@dataclass(frozen=True)
class WAVConfig:
    """Everything that makes a WAV.

    Attributes:
        video: keys of diffusers' ``LTXVideoTransformer3DModel``.
        stream: shape of the value stream and of the action stream; its ``text_dim`` is D, since hidden states of the
            video are what they read.
        text: keys of transformers' ``UMT5Config``; trained with the model. None: batches carry text states.
        text_length: tokens of an instruction.
        text_pool: neighbouring text states that become one (``TextEncoder``).
        latent_size: height and width of a latent frame.
        views: V.
        states: P, numbers of the robot's proprioception.
        actions: A, numbers of an action.
        fold: frames of a latent frame, those of the autoencoder.
        chunk: T, frames of the data whose values and actions are told together, a multiple of ``fold``.
        memory: M, frames from before.
        memory_gap: frames of the data from one memory frame to the next, and from the last one to now.
        fps: frames per second of the data, by which the video stream knows the time between them.
        weights: of the losses, by name. The paper trains in three stages: "video"; then "value" with the video frozen;
            then all. With "action" alone in the last one the value would not be the value any more: the blocks move and
            what reads them out does not.
        value_draws: noised copies of a window's values and actions in one training step, 1 in the paper. The video is
            read once for all, so that further ones cost little and make the streams' gradients less noisy.
        sigma_shift: flow shift of the video's noise levels; 1 draws them uniformly. At use the streams read a video
            that is still noise, or one imagined; with a larger shift they seldom learn from one that is all but known.
    """

    video: Mapping[str, Any]
    stream: ExpertConfig
    text: Mapping[str, Any] | None
    text_length: int
    latent_size: tuple[int, int]
    states: int
    actions: int
    text_pool: int = 1
    views: int = 3
    fold: int = 8
    chunk: int = 32
    memory: int = 4
    memory_gap: int = 10
    fps: float = 10.0
    weights: Mapping[str, float] = field(default_factory=lambda: {"video": 1.0, "value": 1.0, "action": 1.0})
    value_draws: int = 1
    sigma_shift: float = 1.0

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> WAVConfig:
        """The configuration that ``dataclasses.asdict`` and JSON made ``told`` of."""
        return cls(**{**told, "stream": ExpertConfig(**told["stream"]), "latent_size": tuple(told["latent_size"])})


class Context(NamedTuple):
    """What is given.

    Attributes:
        clean: latent frames ``(B, V, C, M + 1, h, w)``, the memory and now.
        state: ``(B, 1, P)`` in [-1, 1].
        text: ``(B, L, text_dim)`` states.
    """

    clean: Tensor
    state: Tensor
    text: Tensor


class Imagined(NamedTuple):
    """A future of the video.

    Attributes:
        latents: ``(B, V, C, K, h, w)``.
        hidden: states ``(B, N, D)`` after every layer, for the other streams to read.
    """

    latents: Tensor
    hidden: list[Tensor]


class WAV(ValueNetwork):
    """Video, value and action stream; at tiny size with a text encoder.

    Args:
        config: what to build.
        video: a pretrained video stream in the place of a new one.

    Raises:
        DataError: the chunk is no whole number of latent frames, or the streams do not fit together.
    """

    sharded_layers: tuple[type[nn.Module], ...] = (StreamBlock, LTXVideoTransformerBlock)
    losses_known: frozenset[str] = frozenset({"video", "value", "action"})
    euler_steps: ClassVar[int] = 5

    def __init__(self, config: WAVConfig, video: LTXVideoDiT | None = None) -> None:
        super().__init__()
        if config.chunk % config.fold:
            raise DataError(f"estimator.model.chunk must be a multiple of {config.fold}, the frames of a latent frame.")
        self.config = config
        self.video = video or LTXVideoDiT(**config.video)
        if config.stream.layers != self.video.config.num_layers:
            raise DataError(
                "The value and action streams have another depth than the video stream; give them the same."
            )
        self.value = Expert(config.stream, dim=1)
        self.action = Expert(config.stream, dim=config.actions)
        self.state_in = nn.Linear(config.states, config.stream.width)
        numbers = {"state": config.states, "action": config.actions, "value": 1}
        self.scales = nn.ModuleDict({name: Scale(count) for name, count in numbers.items()})
        self.text = own_encoder(config.text, config.text_length, config.text_pool)

    @property
    def views_taken(self) -> range:
        """V, no more and no fewer."""
        return range(self.config.views, 1 + self.config.views)

    @property
    def window(self) -> Window:
        """Memory frames, a frame, and those that the chunk's actions lead to; the values along the chunk."""
        config, chunk = self.config, range(1, 1 + self.config.chunk)
        before = (1 - config.memory_gap * age for age in range(config.memory, 0, -1))
        shown = (*before, 1, *(tick + 1 for tick in chunk))
        return Window(1, shown, 1 + config.memory, (1,), 1, tuple(chunk), ahead=config.chunk - 1, data_rate=True)

    @property
    def video_shape(self) -> tuple[int, ...]:
        """Of the future latent frames: ``(V, C, K, h, w)``."""
        config = self.config
        return (config.views, self.video.channels, config.chunk // config.fold, *config.latent_size)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Numbers of a draw: those of the video, then those of the value chunk."""
        return (math.prod(self.video_shape) + self.config.chunk,)

    @property
    def acting_noise_shape(self) -> tuple[int, ...]:
        """Those numbers, then those of the action chunk."""
        return (self.noise_shape[0] + self.config.chunk * self.config.actions,)

    def encode(self, vae: VideoVAE, items: Tensor) -> Tensor:
        """Latents ``(B, V, C, M + 1 + K, h, w)``: memory frames one by one, then the clip; K is 0 without a future."""
        views, memory = items.shape[2], self.config.memory
        frames = items.transpose(1, 2).flatten(0, 1)
        alone = vae.per_clip(frames[:, :memory].flatten(0, 1).unsqueeze(1)).squeeze(2)
        latents = torch.cat((alone.unflatten(0, (-1, memory)).transpose(1, 2), vae.per_clip(frames[:, memory:])), dim=2)
        return latents.unflatten(0, (-1, views))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Flow-matching losses of video, value chunk and actions (section 4.2), those that have a weight.

        Each stream has a noise level of its own; value and action learn from videos of any noise level, since at use
        they read hidden states of whatever step the video was last at.

        Args:
            batch: ``latents`` ``(B, V, C, M + 1 + K, h, w)``; ``states`` ``(B, 1, P)``; ``actions`` ``(B, T, A)``, NaN
                where there is none; ``values`` ``(B, 1 + T)``, of which the first, the prefix, is not looked at;
                ``text`` ``(B, L, text_dim)`` states or ``tokens`` ``(B, L)`` ids.
        """
        given, future = batch["latents"].split((1 + self.config.memory, self.video_shape[2]), dim=3)
        text = states_of(batch, self.text)
        context = self.observe({**batch, "latents": given, "text": text})
        noise, sigma = torch.randn_like(future), fm.sample_sigma(len(text), self.config.sigma_shift, text.device)
        told, imagined = self._see(fm.interpolate(future, noise, sigma), sigma, context)
        losses = {"video": F.mse_loss(told.float(), fm.velocity(future, noise))}
        if not self.config.weights.keys() <= {"video"}:
            losses |= self._losses_of_streams(batch, imagined, context)
        return {name: losses[name] for name in self.config.weights}

    def _losses_of_streams(self, batch: Batch, imagined: Imagined, context: Context) -> dict[str, Tensor]:
        draws = self.config.value_draws
        values = self.scale("value")(batch["values"][:, 1:, None]).repeat_interleave(draws, 0)
        noise, sigma = torch.randn_like(values), fm.sample_sigma(len(values), device=values.device)
        read = repeated(self.value.read_layers(imagined.hidden), draws)
        told, seen = self._value(fm.interpolate(values, noise, sigma), sigma, read)
        losses = {"value": F.mse_loss(told.float(), fm.velocity(values, noise))}
        if "action" in self.config.weights:
            actions = self.scale("action")(batch["actions"]).repeat_interleave(draws, 0)
            known, actions = actions.isfinite(), actions.nan_to_num()
            noise, sigma = torch.randn_like(actions), fm.sample_sigma(len(actions), device=actions.device)
            read = repeated(self.action.read_layers(imagined.hidden), draws)
            told = self._action(fm.interpolate(actions, noise, sigma), sigma, read, seen, _several(context, draws))
            error = (told.float() - fm.velocity(actions, noise)).square()
            losses["action"] = mean_known(error, known)
        return losses

    def observe(self, batch: Batch) -> Context:
        """What is given.

        Args:
            batch: ``latents`` ``(B, V, C, M + 1, h, w)``; ``states`` ``(B, 1, P)``; ``text`` ``(B, L, text_dim)``.
        """
        return Context(batch["latents"], self.scale("state")(batch["states"]).nan_to_num(), batch["text"])

    def _see(self, noised: Tensor, sigma: Tensor, context: Context) -> tuple[Tensor, Imagined]:
        """Velocity of future frames ``(B, V, C, K, h, w)`` at noise levels ``(B or 1,)``, and the hidden states."""
        config, future = self.config, noised.shape[3]
        clip = torch.cat((context.clean.to(noised.dtype), noised), dim=3)
        levels = F.pad(sigma[:, None].expand(clip.shape[0], future), (1 + config.memory, 0))
        before = -config.memory_gap * torch.arange(config.memory, -1, -1, device=sigma.device)
        after = config.fold * torch.arange(1, 1 + future, device=sigma.device)
        times = (torch.cat((before, after)) / config.fps).expand(clip.shape[0], -1)
        told = self.video(clip, levels, times, context.text, self._words(context.text))
        return told.velocity[:, :, :, -future:], Imagined(noised, told.hidden)

    def _words(self, text: Tensor) -> Tensor | None:
        """Which text states ``(B, L, text_dim)`` are words ``(B, L)``: a pretrained stream knows no padding.

        One that learns together with its text encoder sees all of them.
        """
        return text.ne(0).any(-1) if self.text is None else None

    def _value(self, noised: Tensor, sigma: Tensor, read: list[KeysValues]) -> tuple[Tensor, list[KeysValues]]:
        """Velocity of value chunks ``(B, T, 1)``, and the value tokens' keys and values."""
        stream = self.value
        places = in_line(torch.arange(1, 1 + noised.shape[1], device=sigma.device), stream.config.head_dim)
        levels = sigma[:, None].expand(-1, noised.shape[1])
        hidden, own = stream.run(stream.proj_in(noised), levels, read, places)
        return stream.proj_out(hidden), own

    def _action(
        self, noised: Tensor, sigma: Tensor, read: list[KeysValues], values: list[KeysValues], context: Context
    ) -> Tensor:
        """Velocity of actions ``(B, T, A)`` that see the value tokens."""
        stream = self.action
        tokens = torch.cat((self.state_in(context.state.to(noised.dtype)), stream.proj_in(noised)), dim=1)
        places = in_line(torch.arange(tokens.shape[1], device=sigma.device), stream.config.head_dim)
        levels = F.pad(sigma[:, None].expand(-1, noised.shape[1]), (1, 0))
        hidden, _ = stream.run(tokens, levels, read, places, values)
        return stream.proj_out(hidden[:, 1:])

    def imagine(self, context: Context, noise: Tensor, steps: int) -> Imagined:
        """The future that Euler steps from noise ``(B, V, C, K, h, w)`` lead to, as the last step saw it."""
        seen: list[Imagined] = []

        def velocity(x: Tensor, sigma: Tensor) -> Tensor:
            told, imagined = self._see(x, sigma, context)
            seen[:] = [imagined]
            return told

        latents = fm.integrate(noise, steps, velocity, self.config.sigma_shift)
        return seen[0]._replace(latents=latents)

    def values(self, imagined: Imagined, noise: Tensor, steps: int) -> tuple[Tensor, list[KeysValues]]:
        """Value chunks ``(B, S, T)`` from noise of that shape, and the value tokens' keys and values, ``B * S`` rows.

        The video is read once for all S draws.
        """
        read, seen = repeated(self.value.read_layers(imagined.hidden), noise.shape[1]), list[list[KeysValues]]()

        def velocity(x: Tensor, sigma: Tensor) -> Tensor:
            told, own = self._value(x, sigma, read)
            seen[:] = [own]
            return told

        chunk = fm.integrate(noise.flatten(0, 1).unsqueeze(-1), steps, velocity)
        return self.scale("value").inverse(chunk)[..., 0].unflatten(0, noise.shape[:2]), seen[0]

    def actions(
        self, context: Context, imagined: Imagined, values: list[KeysValues], noise: Tensor, steps: int
    ) -> Tensor:
        """Actions ``(B, T, A)`` in their own units, from noise of that shape and one draw of values for each window."""
        read = self.action.read_layers(imagined.hidden)
        actions = fm.integrate(noise, steps, lambda x, sigma: self._action(x, sigma, read, values, context))
        return self.scale("action").inverse(actions)

    def predict(self, context: Context, prefix: Tensor, noise: Tensor, steps: int = 1) -> Tensor:
        """Values ``(B, S, 1)`` now, the first of each chunk, in ``value_range``.

        Args:
            context: of B windows, from ``observe``.
            prefix: not looked at.
            noise: ``(B, S, *noise_shape)``; each draw imagines a future of its own.
            steps: Euler steps of video and value.
        """
        del prefix
        _, _, chunks, _ = self._draw(context, noise, steps)
        return chunks[:, 0, :1].clamp(*self.value_range).unflatten(0, noise.shape[:2])

    def act(self, context: Context, noise: Tensor, steps: int = 5) -> Tensor:
        """Actions ``(B, S, T, A)`` in their own units, without planning.

        Args:
            context: of B windows, from ``observe``.
            noise: ``(B, S, *acting_noise_shape)``; each draw imagines a future of its own.
            steps: Euler steps of video, value and actions.
        """
        ours, last = noise.split((self.noise_shape[0], noise.shape[-1] - self.noise_shape[0]), dim=-1)
        several, imagined, _, seen = self._draw(context, ours, steps)
        last = last.flatten(0, 1).unflatten(-1, (self.config.chunk, self.config.actions))
        return self.actions(several, imagined, seen, last, steps).unflatten(0, noise.shape[:2])

    def _draw(self, context: Context, noise: Tensor, steps: int) -> tuple[Context, Imagined, Tensor, list[KeysValues]]:
        """A future and a value chunk for each draw ``(B, S, *noise_shape)``, as ``B * S`` rows."""
        video, value = noise.flatten(0, 1).split((math.prod(self.video_shape), self.config.chunk), dim=-1)
        several = _several(context, noise.shape[1])
        imagined = self.imagine(several, video.unflatten(-1, self.video_shape), steps)
        return several, imagined, *self.values(imagined, value[:, None], steps)

    def example_batch(self, batch_size: int = 2) -> dict[str, Tensor]:
        """A random batch of the right names, shapes and types."""
        config = self.config
        views, channels, future, height, width = self.video_shape
        return {
            "latents": torch.randn(batch_size, views, channels, config.memory + 1 + future, height, width),
            "values": torch.rand(batch_size, 1 + config.chunk),
            "states": torch.rand(batch_size, 1, config.states),
            "actions": torch.rand(batch_size, config.chunk, config.actions),
            **example_text(self.text, batch_size, config.text_length, self.video.config.caption_channels),
        }


def _several(context: Context, times: int) -> Context:
    """What is given to each window, ``times`` times in a row."""
    return Context(*(x.repeat_interleave(times, 0) for x in context))


def signal_to_noise(values: Tensor) -> Tensor:
    """Score ``(...)`` of value chunks ``(..., T)``: mean over deviation along the chunk (section 4.3)."""
    return values.mean(-1) / (values.std(-1, correction=0) + TINIEST_DEVIATION)
