"""WVM, the World Value Model (arXiv 2606.24742): a value stream that reads a video transformer layer by layer.

A window is ``[1 prefix | h current | h future]`` frames. The VAE makes three latent frames of it; the prefix latent
is dropped, the current one stays clean, the future one is noised (section 3.2). Attention is asymmetric:

    current video   sees  current video
    future video    sees  current and future video
    value           sees  current video and value

so the video never sees the value, the current video never sees the future, and at scoring time the future is not
computed at all: one pass over the current latent gives every layer's keys and values, and the value tokens are
denoised against those.

Axes: B windows, S noise draws, h chunk length, C h w latent channels and pixels, L text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldvalue import flow_matching as fm
from worldvalue.backbones.experts import Expert, ExpertConfig
from worldvalue.backbones.joint_attention import KeysValues, StreamBlock
from worldvalue.backbones.scales import Scale, mean_known
from worldvalue.backbones.text import example_text, own_encoder, states_of
from worldvalue.backbones.video_dit import VideoDiT
from worldvalue.backbones.video_vae import FOLD, VideoVAE
from worldvalue.models.heads import Stream, ValueHead, spread, value_head
from worldvalue.models.network import ValueNetwork
from worldvalue.types import Batch, DataError, Window


@dataclass(frozen=True)
class WVMConfig:
    """Everything that makes a WVM.

    Attributes:
        video: keys of diffusers' ``WanTransformer3DModel``.
        value: shape of the value stream.
        text: keys of transformers' ``UMT5Config``; trained with the model. None: batches carry text states.
        text_length: tokens of an instruction.
        text_pool: neighbouring text states that become one (``TextEncoder``).
        latent_size: height and width of a latent frame of one view; those of several stand side by side.
        chunk: h, frames whose values are predicted together; 4 per latent frame.
        weights: of the losses, by name (eq. 7: lambda is ``weights["video"]``); one that is left out is not computed.
        sigma_shift: flow shift of the training noise levels; 1 draws them uniformly.
        head: how the value stream's outputs become values; a name of ``heads.value_head``.
        value_draws: noised copies of a window's values in one training step, 1 in the paper. The video is read once for
            all of them, so that more of them make the value's gradient less noisy at little cost.
        states: P, numbers of the robot's proprioception that the value stream tells beside each value while it is
            trained (the loss "state"), 0 in the paper. Nothing reads them at scoring time.
    """

    video: Mapping[str, Any]
    value: ExpertConfig
    text: Mapping[str, Any] | None
    text_length: int
    latent_size: tuple[int, int]
    text_pool: int = 1
    chunk: int = 4
    weights: Mapping[str, float] = field(default_factory=lambda: {"value": 1.0, "video": 1.0})
    sigma_shift: float = 1.0
    head: str = "flow"
    value_draws: int = 1
    states: int = 0

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> WVMConfig:
        """The configuration that ``dataclasses.asdict`` and JSON made ``told`` of."""
        return cls(**{**told, "value": ExpertConfig(**told["value"]), "latent_size": tuple(told["latent_size"])})


class Context(NamedTuple):
    """What is computed once of a batch of windows and read by every draw and step, as keys and values per layer.

    Attributes:
        video: of the current video tokens.
        value_text: of the instruction, in the value stream.
        video_text: of the instruction, in the video stream.
    """

    video: list[KeysValues]
    value_text: list[KeysValues]
    video_text: list[KeysValues]


class WVM(ValueNetwork):
    """World Value Model: video stream, value stream with its head, and (at tiny size) the text encoder.

    Args:
        config: what to build.
        video: a pretrained video stream in the place of a new one.

    Raises:
        DataError: the streams do not fit together, or there is no such head.
    """

    sharded_layers: tuple[type[nn.Module], ...] = (StreamBlock,)
    views_taken: ClassVar[range] = range(1, 4)
    euler_steps: ClassVar[int] = 4

    def __init__(self, config: WVMConfig, video: VideoDiT | None = None) -> None:
        super().__init__()
        if config.chunk % FOLD:
            raise ValueError(f"chunk must be a multiple of {FOLD} frames, the length of a latent frame.")
        self.config = config
        self.video = video or VideoDiT(**config.video)
        self.value, self.head = value_stream(config)
        self.scales = nn.ModuleDict({"state": Scale(config.states)} if config.states else {})
        self.text = own_encoder(config.text, config.text_length, config.text_pool)
        theirs, ours = self.video.config, config.value
        shape = (theirs.num_layers, theirs.num_attention_heads, theirs.attention_head_dim)
        if (ours.layers, ours.heads, ours.head_dim) != shape:
            raise DataError("The value stream has another depth or head shape than the video stream; give it the same.")

    @property
    def losses_known(self) -> frozenset[str]:
        """Names of all losses that this configuration can compute."""
        return frozenset({"value", "video", "state"} if self.config.states else {"value", "video"})

    @property
    def window(self) -> Window:
        """``[1 prefix | h current | h future]`` frames, the future only to learn from (section 3.2)."""
        h = self.config.chunk
        told = tuple(range(1, 1 + h)) if self.config.states else ()
        return Window(chunk=h, shown=tuple(range(1 + 2 * h)), seen=1 + h, states=told)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """A number for each value of the chunk."""
        return (self.config.chunk,)

    def encode(self, vae: VideoVAE, items: Tensor) -> Tensor:
        """Latents ``(B, C, K, h, V w)`` of a window's frames, the views side by side; the prefix latent is dropped."""
        return torch.cat([vae.per_window(view) for view in items.unbind(2)], dim=-1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Flow-matching losses of the value chunk and of the future latent (eqs. 5 and 6), and the squared error of the
        states told beside the values: those that have a weight.

        Args:
            batch: ``latents`` ``(B, C, 2K, h, w)``, current then future; ``values`` ``(B, 1 + chunk)`` in [0, 1],
                the prefix first; ``text`` ``(B, L, text_dim)`` states or ``tokens`` ``(B, L)`` ids; ``states``
                ``(B, chunk, P)`` for the loss "state", NaN where unknown.
        """
        current, future = batch["latents"].chunk(2, dim=2)
        text = states_of(batch, self.text)
        context = self.observe({"latents": current, "text": text})
        made = {
            "value": lambda: self._value_loss(batch["values"], context),
            "video": lambda: self._video_loss(future, context, first_frame=current.shape[2]),
            "state": lambda: self._state_loss(batch["states"], batch["values"][:, :1], context),
        }
        return {name: made[name]() for name in self.config.weights}

    def _value_loss(self, values: Tensor, context: Context) -> Tensor:
        copies = values[:, None].expand(-1, self.config.value_draws, -1)
        return self.head.loss(self.stream(context, copies[..., 0]), copies[..., 1:])

    def _video_loss(self, future: Tensor, context: Context, first_frame: int) -> Tensor:
        noise = torch.randn_like(future)
        sigma = fm.sample_sigma(len(future), self.config.sigma_shift, future.device)
        noised = fm.interpolate(future, noise, sigma)
        predicted = self.video(noised, sigma, context.video_text, first_frame, context.video).velocity
        return F.mse_loss(predicted.float(), fm.velocity(future, noise))

    def _state_loss(self, states: Tensor, prefix: Tensor, context: Context) -> Tensor:
        """Of what the stream tells from pure noise, so from the video alone; each number in [-1, 1]."""
        told = self._outputs(context, prefix)(torch.randn_like(states[:, None, :, :1]), torch.ones_like(prefix))
        known = states.isfinite()
        error = told[:, 0, :, self.head.outputs :].float() - self.scale("state")(states).nan_to_num()
        return mean_known(error.square(), known)

    def stream(self, context: Context, prefix: Tensor) -> Stream:
        """The value stream as its head sees it; ``prefix`` ``(B, S)``: value before the chunk, in [0, 1]."""
        outputs = self._outputs(context, prefix)
        return lambda tokens, sigma: outputs(tokens, sigma)[..., : self.head.outputs]

    def _outputs(self, context: Context, prefix: Tensor) -> Stream:
        """All that the value stream puts out for a token: its head's numbers, then the state's."""
        clean = spread(prefix)[..., None, None]

        def outputs(tokens: Tensor, sigma: Tensor) -> Tensor:
            # The prefix is seen clean, its output dropped.
            levels = F.pad(sigma[..., None].expand(-1, -1, tokens.shape[2]), (1, 0))
            tokens = torch.cat((clean, tokens), dim=2)
            return self.value(tokens, levels, context.value_text, context.video)[:, :, 1:]

        return outputs

    def observe(self, batch: Batch) -> Context:
        """One pass of the video stream over current ``latents`` ``(B, C, K, h, w)``; ``text`` is ``(B, L, D)``."""
        current, text = batch["latents"], batch["text"]
        video_text = self.video.read_text(text)
        seen = self.video.read(current, current.new_zeros(1), video_text)
        return Context(seen, self.value.read_text(text), video_text)

    def predict(self, context: Context, prefix: Tensor, noise: Tensor, steps: int = 1) -> Tensor:
        """Value chunks ``(B, S, h)`` in [0, 1], one for each noise draw.

        Args:
            context: of B windows, from ``observe``.
            prefix: ``(B, S)`` value at the frame before the chunk, in [0, 1].
            noise: ``(B, S, h)`` standard normal draws.
            steps: Euler steps of a head that takes any.
        """
        return self.head.predict(self.stream(context, prefix), noise, steps)

    def predict_future(self, current: Tensor, text: Tensor, noise: Tensor, steps: int = 10) -> Tensor:
        """The future latents ``(B, C, K, h, w)`` that the video stream expects, from noise of that shape."""
        context = self.observe({"latents": current, "text": text})

        def velocity(x: Tensor, sigma: Tensor) -> Tensor:
            return self.video(x, sigma, context.video_text, current.shape[2], context.video).velocity

        return fm.integrate(noise, steps, velocity, self.config.sigma_shift)

    def example_batch(self, batch_size: int = 2) -> dict[str, Tensor]:
        """A random batch of the right names, shapes and types."""
        config = self.config
        frames = 2 * config.chunk // FOLD
        batch = {
            "latents": torch.randn(batch_size, self.video.config.out_channels, frames, *config.latent_size),
            "values": torch.rand(batch_size, 1 + config.chunk),
            **example_text(self.text, batch_size, config.text_length, config.value.text_dim),
        }
        if config.states:
            batch["states"] = torch.randn(batch_size, config.chunk, config.states)
        return batch


def value_stream(config: WVMConfig) -> tuple[Expert, ValueHead]:
    """A new value stream, and the head that reads it.

    Raises:
        DataError: there is no such head.
    """
    head = value_head(config.head, config.sigma_shift)
    return Expert(config.value, dim=1, outputs=head.outputs + config.states), head
