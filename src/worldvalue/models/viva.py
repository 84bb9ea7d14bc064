"""ViVa, the video-generative value model (arXiv 2604.08168): the value is a latent frame of the video itself.

No second stream and no new layer. The robot's state and the value are made latent frames, and the video transformer
runs over (section 3.2)

    [blank | state now | view 1 .. view V | state in K frames | value]

in which the last two are noised and all see all. At scoring time they are denoised from pure noise, once for each draw.

Axes: B windows, S noise draws, V pictures of a frame, C h w latent channels and pixels, P numbers of a state, L text
tokens, N frames to be denoised (the future state, if it is learned, and the value).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from worldvalue import flow_matching as fm
from worldvalue.backbones.injection import averaged, broadcast, mean_of, repeat_padded
from worldvalue.backbones.joint_attention import KeysValues, StreamBlock, repeated
from worldvalue.backbones.scales import Scale, mean_known
from worldvalue.backbones.text import example_text, own_encoder, states_of
from worldvalue.backbones.video_dit import VideoDiT
from worldvalue.backbones.video_vae import VideoVAE
from worldvalue.models.network import ValueNetwork
from worldvalue.types import Batch, Window


@dataclass(frozen=True)
class ViVaConfig:
    """Everything that makes a ViVa.

    Attributes:
        video: keys of diffusers' ``WanTransformer3DModel``.
        text: keys of transformers' ``UMT5Config``; trained with the model. None: batches carry text states.
        text_length: tokens of an instruction.
        text_pool: neighbouring text states that become one (``TextEncoder``).
        latent_size: height and width of a latent frame.
        states: P, numbers of the robot's proprioception; 0 leaves the state out (the paper's ablation).
        horizon: K, frames of the data to the future state.
        weights: of the losses, by name (lambda in section 3.2). Without "state" the future state is no part of the
            sequence (the paper's ablation).
        shared_level: tell every frame the noise level of the noised ones, as the authors' released code does. By
            default each is told its own, which is 0 for those that are clean: the paper calls them clean, and what a
            pretrained transformer knows of noise levels stays true.
        sigma_shift: flow shift of the training noise levels; 1 draws them uniformly, as the paper does.
    """

    video: Mapping[str, Any]
    text: Mapping[str, Any] | None
    text_length: int
    latent_size: tuple[int, int]
    states: int
    text_pool: int = 1
    horizon: int = 50
    weights: Mapping[str, float] = field(default_factory=lambda: {"state": 0.5, "value": 1.0})
    shared_level: bool = False
    sigma_shift: float = 1.0

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> ViVaConfig:
        """The configuration that ``dataclasses.asdict`` and JSON made ``told`` of."""
        return cls(**{**told, "latent_size": tuple(told["latent_size"])})


class Context(NamedTuple):
    """What is the same for every draw and step.

    Attributes:
        clean: latent frames ``(B, 1 or 2 + V, C, h, w)`` that are not noised.
        text: of the instruction, keys and values per layer.
    """

    clean: Tensor
    text: list[KeysValues]


class ViVa(ValueNetwork):
    """Video transformer over pictures, states and the value; at tiny size with a text encoder.

    Args:
        config: what to build.
        video: a pretrained video transformer in the place of a new one.
    """

    sharded_layers: tuple[type[nn.Module], ...] = (StreamBlock,)
    views_taken: ClassVar[range] = range(1, 4)
    euler_steps: ClassVar[int] = 1

    def __init__(self, config: ViVaConfig, video: VideoDiT | None = None) -> None:
        super().__init__()
        self.config = config
        self.video = video or VideoDiT(**config.video)
        self.frame = (self.video.config.out_channels, *config.latent_size)
        scales = {"value": 1, "state": config.states}
        self.scales = nn.ModuleDict({name: Scale(numbers) for name, numbers in scales.items() if numbers})
        self.text = own_encoder(config.text, config.text_length, config.text_pool)

    @property
    def losses_known(self) -> frozenset[str]:
        """Names of all losses that this configuration can compute."""
        return frozenset({"value", "state"} if self.config.states else {"value"})

    @property
    def window(self) -> Window:
        """One frame, the state there, and the state K frames of the data later to learn from."""
        states = (1, 1 + self.config.horizon) if self._tells_future else (1,)
        known = self.config.states > 0
        return Window(1, (1,), 1, states if known else (), states_seen=int(known), data_rate=True)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Of the latent frames that are denoised: ``(N, C, h, w)``."""
        return (2 if self._tells_future else 1, *self.frame)

    @property
    def _tells_future(self) -> bool:
        return "state" in self.config.weights

    def encode(self, vae: VideoVAE, items: Tensor) -> Tensor:
        """Latents ``(B, V, C, h, w)``, one for each picture of the frame."""
        return vae.per_image(items[:, 0].flatten(0, 1)).unflatten(0, items.shape[:1] + items.shape[2:3])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Flow-matching losses of the future state and the value (section 3.2), those that have a weight.

        Args:
            batch: ``latents`` ``(B, V, C, h, w)``; ``values`` ``(B, 2)``, of which the first, the prefix, is not looked
                at; ``states`` ``(B, 2, P)`` now and in K frames, NaN where unknown; ``text`` ``(B, L, text_dim)``
                states or ``tokens`` ``(B, L)`` ids.
        """
        text = states_of(batch, self.text)
        context = self.observe({**batch, "text": text})
        targets = self._targets(batch)
        sigma, noise = fm.sample_sigma(len(text), self.config.sigma_shift, text.device), torch.randn_like(targets)
        predicted = self._velocity(fm.interpolate(targets, noise, sigma), sigma, context)
        error = (predicted.float() - fm.velocity(targets, noise)).square().mean((2, 3, 4))
        losses = {"value": error[:, -1].mean()}
        if self._tells_future:
            known = batch["states"][:, 1].isfinite().all(-1)
            losses["state"] = mean_known(error[:, 0], known)
        return {name: losses[name] for name in self.config.weights}

    def _targets(self, batch: Batch) -> Tensor:
        """Clean latent frames ``(B, N, C, h, w)`` of the future state and the value."""
        frames = [broadcast(self.scale("value")(batch["values"][:, 1:])[:, 0], self.frame)]
        if self._tells_future:
            frames.insert(0, self._state_frame(batch["states"][:, 1]))
        return torch.stack(frames, dim=1)

    def _state_frame(self, state: Tensor) -> Tensor:
        """Latent frame ``(B, C, h, w)`` of states ``(B, P)``; what is unknown stands in the middle of its range."""
        return repeat_padded(self.scale("state")(state).nan_to_num(), self.frame)

    def observe(self, batch: Batch) -> Context:
        """The frames that stay clean.

        Args:
            batch: ``latents`` ``(B, V, C, h, w)``; ``text`` ``(B, L, text_dim)`` states; ``states`` ``(B, n, P)``, of
                which the first is now.
        """
        views = batch["latents"]
        frames = [torch.zeros_like(views[:, :1])]  # the blank, which a causal autoencoder asks for
        if self.config.states:
            frames.append(self._state_frame(batch["states"][:, 0]).unsqueeze(1).to(views.dtype))
        return Context(torch.cat((*frames, views), dim=1), self.video.read_text(batch["text"]))

    def _velocity(self, noised: Tensor, sigma: Tensor, context: Context) -> Tensor:
        """Velocity ``(B, N, C, h, w)`` of noised frames at noise level ``sigma`` ``(B,)``."""
        sequence = torch.cat((context.clean.to(noised.dtype), noised), dim=1).transpose(1, 2)
        count = noised.shape[1]
        levels = sigma[:, None].expand(-1, sequence.shape[2])
        if not self.config.shared_level:
            levels = torch.cat((torch.zeros_like(levels[:, count:]), levels[:, :count]), dim=1)
        return self.video(sequence, levels, context.text).velocity[:, :, -count:].transpose(1, 2)

    def predict(self, context: Context, prefix: Tensor, noise: Tensor, steps: int = 1) -> Tensor:
        """Values ``(B, S, 1)`` in ``value_range``, one for each noise draw.

        Args:
            context: of B windows, from ``observe``.
            prefix: not looked at.
            noise: ``(B, S, N, C, h, w)`` standard normal draws.
            steps: Euler steps; 1 in the paper.
        """
        del prefix
        value = self.scale("value").inverse(mean_of(self.denoise(context, noise, steps)[:, :, -1])[..., None])
        return value.clamp(*self.value_range)

    def predict_state(self, context: Context, noise: Tensor, steps: int = 1) -> Tensor:
        """States ``(B, S, P)`` in K frames, in their own units; arguments as for ``predict``."""
        vector = averaged(self.denoise(context, noise, steps)[:, :, 0], self.config.states)
        return self.scale("state").inverse(vector)

    def denoise(self, context: Context, noise: Tensor, steps: int = 1) -> Tensor:
        """Latent frames ``(B, S, N, C, h, w)`` that Euler steps from noise of that shape lead to."""
        draws = noise.shape[1]
        context = Context(context.clean.repeat_interleave(draws, 0), repeated(context.text, draws))
        x = fm.integrate(
            noise.flatten(0, 1), steps, lambda x, sigma: self._velocity(x, sigma, context), self.config.sigma_shift
        )
        return x.unflatten(0, noise.shape[:2])

    def example_batch(self, batch_size: int = 2) -> dict[str, Tensor]:
        """A random batch of the right names, shapes and types."""
        config = self.config
        batch = {
            "latents": torch.randn(batch_size, 1, *self.frame),
            "values": torch.rand(batch_size, 2),
            **example_text(self.text, batch_size, config.text_length, self.video.config.text_dim),
        }
        if config.states:
            batch["states"] = torch.rand(batch_size, len(self.window.states), config.states)
        return batch
