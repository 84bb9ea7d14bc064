from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel
from tests.pretrained import LTX_VAE as VAE
from torch import Tensor

from worldvalue.backbones.ltx_video import LTXVAE, LTXVideoDiT
from worldvalue.flow_matching import interpolate, velocity

CONFIG = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "cross_attention_dim": 32,
    "num_layers": 5,  # layers 0 and 3 join the views
    "caption_channels": 12,
}
FRAMES, HEIGHT, WIDTH = 3, 2, 4
RATE = 25.0
TIMES = (8 / RATE * torch.arange(FRAMES)).expand(2, -1)


def small_dit() -> LTXVideoDiT:
    torch.manual_seed(0)
    return LTXVideoDiT(**CONFIG).eval()


def diffusers_twin(ours: LTXVideoDiT) -> LTXVideoTransformer3DModel:
    theirs = LTXVideoTransformer3DModel(**CONFIG).eval()
    theirs.load_state_dict(ours.state_dict())
    return theirs


def small_latents(views: int) -> Tensor:
    return torch.randn(2, views, 4, FRAMES, HEIGHT, WIDTH)


def pack(video: Tensor) -> Tensor:
    """``(B, C, T, H, W)`` to the tokens ``(B, T H W, C)`` that diffusers' class takes."""
    return video.flatten(2).transpose(1, 2)


@torch.no_grad()
def test_one_view_at_one_noise_level_gives_what_diffusers_gives() -> None:
    ours = small_dit()
    latents, text, sigma = small_latents(views=1), torch.randn(2, 5, 12), torch.tensor([0.2, 0.9])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    theirs = diffusers_twin(ours)
    hidden: list[Tensor] = []
    for block in theirs.transformer_blocks:
        block.register_forward_hook(lambda _block, _inputs, output: hidden.append(output))
    expected = theirs(
        pack(latents[:, 0]),
        text,
        sigma * 1000,
        mask,
        num_frames=FRAMES,
        height=HEIGHT,
        width=WIDTH,
        rope_interpolation_scale=(8 / RATE, 32, 32),
    ).sample
    found = ours(latents, sigma[:, None].expand(-1, FRAMES), TIMES, text, mask)
    assert found.velocity.shape == latents.shape
    torch.testing.assert_close(pack(found.velocity[:, 0]), expected)
    torch.testing.assert_close(found.hidden, hidden)


@torch.no_grad()
def test_a_noise_level_and_a_time_per_frame_give_what_diffusers_gives_for_each_token() -> None:
    ours = small_dit()
    latents, text = small_latents(views=1), torch.randn(2, 5, 12)
    sigma = torch.tensor([[0.0, 0.0, 0.7], [0.0, 0.3, 0.4]])
    times = torch.tensor([[0.0, 3.5, 4.0], [-2.0, 0.1, 9.0]])
    tokens = [(frame, row, column) for frame in range(FRAMES) for row in range(HEIGHT) for column in range(WIDTH)]
    places = [[[seconds[f], 32.0 * row, 32.0 * column] for f, row, column in tokens] for seconds in times.tolist()]
    expected = diffusers_twin(ours)(
        pack(latents[:, 0]),
        text,
        torch.stack([sigma[:, frame] for frame, _, _ in tokens], dim=1) * 1000,
        None,
        video_coords=torch.tensor(places).transpose(1, 2),
    ).sample
    torch.testing.assert_close(pack(ours(latents, sigma, times, text).velocity[:, 0]), expected)


@torch.no_grad()
def test_only_differences_of_times_count() -> None:
    dit, latents, text, sigma = small_dit(), small_latents(views=2), torch.randn(2, 5, 12), torch.rand(2, FRAMES)
    before = dit(latents, sigma, TIMES, text).velocity
    torch.testing.assert_close(dit(latents, sigma, TIMES + 5.0, text).velocity, before, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(dit(latents, sigma, TIMES * 5.0, text).velocity, before, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_the_last_hidden_states_give_the_velocity() -> None:
    dit, latents, text, sigma = small_dit(), small_latents(views=2), torch.randn(2, 5, 12), torch.rand(2, FRAMES)
    found = dit(latents, sigma, TIMES, text)
    tokens = 2 * FRAMES * HEIGHT * WIDTH
    assert [tuple(states.shape) for states in found.hidden] == [(2, tokens, 32)] * 5
    for view in range(2):
        for frame in range(FRAMES):
            first = (view * FRAMES + frame) * HEIGHT * WIDTH
            states = found.hidden[-1][:, first : first + HEIGHT * WIDTH]
            _, time = dit.time_embed(sigma[:, frame] * 1000, hidden_dtype=torch.float32)
            shift, scale = dit.scale_shift_table[0] + time, dit.scale_shift_table[1] + time
            expected = dit.proj_out(dit.norm_out(states) * (1 + scale[:, None]) + shift[:, None])
            torch.testing.assert_close(found.velocity[:, view, :, frame].flatten(2).transpose(1, 2), expected)


@torch.no_grad()
def test_equal_views_give_what_one_of_them_gives_alone() -> None:
    dit, latents, text, sigma = small_dit(), small_latents(views=1), torch.randn(2, 5, 12), torch.rand(2, FRAMES)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    alone = dit(latents, sigma, TIMES, text, mask).velocity
    both = dit(latents.expand(-1, 2, -1, -1, -1, -1), sigma, TIMES, text, mask).velocity
    torch.testing.assert_close(both, alone.expand_as(both))


@torch.no_grad()
def test_views_see_each_other_and_their_order_does_not_matter() -> None:
    dit, latents, text, sigma = small_dit(), small_latents(views=3), torch.randn(2, 5, 12), torch.rand(2, FRAMES)
    found = dit(latents, sigma, TIMES, text).velocity
    order = [2, 0, 1]
    torch.testing.assert_close(dit(latents[:, order], sigma, TIMES, text).velocity, found[:, order])
    changed = latents.clone()
    changed[:, 2] += 1.0
    assert not torch.allclose(dit(changed, sigma, TIMES, text).velocity[:, :2], found[:, :2], atol=1e-4)


@torch.no_grad()
def test_every_third_layer_joins_the_views_into_one_sequence() -> None:
    dit, latents, text, sigma = small_dit(), small_latents(views=3), torch.randn(2, 5, 12), torch.rand(2, FRAMES)
    sequences: list[int] = []
    for block in dit.transformer_blocks:
        block.register_forward_hook(lambda _block, _inputs, output: sequences.append(len(output)))
    dit(latents, sigma, TIMES, text)
    assert sequences == [2, 6, 6, 2, 6]


@torch.no_grad()
def test_a_token_belongs_to_its_view() -> None:
    """Were all layers joined, two views that swap one latent pixel would only swap its velocity."""
    dit, latents, text, sigma = small_dit(), small_latents(views=2), torch.randn(2, 5, 12), torch.rand(2, FRAMES)
    found = dit(latents, sigma, TIMES, text).velocity
    swapped = latents.clone()
    swapped[..., 2, 1, 3] = latents[..., 2, 1, 3].flip(1)
    velocities = dit(swapped, sigma, TIMES, text).velocity
    assert not torch.allclose(velocities[..., 2, 1, 3], found[..., 2, 1, 3].flip(1), atol=1e-4)


def test_the_scheduler_that_ltx_runs_on_steps_along_noise_minus_data() -> None:
    """So what the transformer puts out is this library's velocity, sign and all."""
    torch.manual_seed(0)
    data, noise = torch.randn(2, 4), torch.randn(2, 4)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    sigma, below = scheduler.sigmas[1], scheduler.sigmas[2]
    stepped = scheduler.step(velocity(data, noise), scheduler.timesteps[1], interpolate(data, noise, sigma))
    torch.testing.assert_close(stepped.prev_sample, interpolate(data, noise, below))


def test_diffusers_and_we_read_each_others_files(tmp_path: Path) -> None:
    ours = small_dit()
    ours.save_pretrained(tmp_path / "ours")
    diffusers_twin(ours).save_pretrained(tmp_path / "theirs" / "transformer")
    for again in (
        LTXVideoTransformer3DModel.from_pretrained(tmp_path / "ours"),
        LTXVideoDiT.from_pretrained(tmp_path / "theirs", subfolder="transformer"),
    ):
        assert again.state_dict().keys() == ours.state_dict().keys()
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name])


def test_a_configuration_that_folds_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="patch_size_t"):
        LTXVideoDiT(**CONFIG, patch_size_t=2)


@torch.no_grad()
def test_patches_are_tokens_and_come_back_to_where_they_were() -> None:
    """A token that sees itself alone puts out what lies in its own patch."""
    channels = 4
    dit = LTXVideoDiT(**{**CONFIG, "in_channels": 4 * channels, "out_channels": 4 * channels}, patch_size=2).eval()
    assert dit.channels == channels
    latents, times = torch.randn(1, 1, channels, 2, 8, 6), torch.tensor([[0.0, 0.5]])
    tokens = dit._tokens(latents)
    assert tokens.shape == (1, 1, 2, 4, 3, 4 * channels)
    patch = tokens[0, 0, 1, 2, 1].unflatten(0, (channels, 2, 2))
    assert torch.equal(patch, latents[0, 0, :, 1, 4:6, 2:4])
    dit._read_out = lambda hidden, time: tokens.flatten(2, 4)  # as if it put out what it was given
    text = torch.randn(1, 5, CONFIG["caption_channels"])
    assert torch.equal(dit(latents, torch.zeros(1, 2), times, text).velocity, latents)


@torch.no_grad()
@pytest.mark.parametrize("more", [0, 8])
def test_with_more_channels_in_than_out_it_is_told_where_something_stands(more: int) -> None:
    """Rotary embeddings tell how far apart tokens are: on an empty picture all are the same."""
    torch.manual_seed(0)
    dit = LTXVideoDiT(**{**CONFIG, "in_channels": 4 + more, "out_channels": 4}).eval()
    text = torch.randn(1, 5, CONFIG["caption_channels"])
    (tokens,) = dit(torch.zeros(1, 1, 4, 1, 8, 8), torch.zeros(1, 1), torch.zeros(1, 1), text).hidden[-1]
    assert torch.allclose(tokens, tokens[:1].expand_as(tokens), atol=1e-4) == (more == 0)


def test_the_papers_size_is_ltx_video_2b() -> None:
    with torch.device("meta"):
        dit = LTXVideoDiT(num_layers=28, num_attention_heads=32, attention_head_dim=64, caption_channels=4096)
    assert dit.config.in_channels == dit.config.out_channels == 128
    assert sum(parameter.numel() for parameter in dit.parameters()) == 1_923_385_472


@torch.no_grad()
def test_the_autoencoder_has_the_interface_of_the_others_with_latents_of_eight_frames() -> None:
    torch.manual_seed(0)
    vae = LTXVAE(VAE).eval()
    vae.autoencoder.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    vae.autoencoder.latents_std.copy_(torch.tensor([1.5, 0.5, 2.0, 1.0]))
    frames = torch.rand(2, 17, 3, 32, 32) * 2 - 1
    clip = vae.per_clip(vae.per_frame(frames))
    assert clip.shape == (2, 4, 3, 1, 1)
    assert torch.equal(vae.per_window(frames), clip[:, :, 1:])
    raw = vae.autoencoder.encode(frames.transpose(1, 2)).latent_dist.mode()
    mean, std = (x.view(-1, 1, 1, 1) for x in (vae.autoencoder.latents_mean, vae.autoencoder.latents_std))
    torch.testing.assert_close(clip, (raw - mean) * 2.0 / std)
    torch.testing.assert_close(vae.per_image(frames[:, 0]), clip[:, :, 0])
    assert vae.decode(clip[:, :, 1:]).shape == (2, 16, 3, 32, 32)
    with pytest.raises(ValueError, match="1 \\+ 8k frames, not 12"):
        vae.per_clip(frames[:, :12])
