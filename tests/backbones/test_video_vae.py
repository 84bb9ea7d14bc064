import numpy as np
import torch
from tests.pretrained import WAN_VAE as WAN
from tests.small import small_config, small_estimator

from worldvalue.backbones.video_vae import FrameVAE, WanVAE, float_to_pictures, pictures_to_float


def test_pictures_survive_the_way_to_floats_and_back() -> None:
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8))
    floats = pictures_to_float(pictures)
    assert floats.shape == (3, 3, 4, 5)
    assert floats.min() >= -1
    assert floats.max() <= 1
    assert torch.equal(float_to_pictures(floats), pictures)


@torch.no_grad()
def test_a_latent_frame_is_four_frame_codes_and_decodes_to_these_frames() -> None:
    vae = small_estimator().vae
    frames = torch.rand(9, 3, 64, 64) * 2 - 1
    codes = vae.per_frame(frames)
    latents = vae.per_window(codes[None])
    assert latents.shape == (1, 16, 2, 8, 8)
    for latent in range(2):
        for place in range(4):
            expected = codes[1 + 4 * latent + place]
            assert torch.equal(latents[0, 4 * place : 4 * place + 4, latent], expected)
    alone = vae.decode(vae.per_window(codes[[0, 5, 5, 5, 5]][None]))[0]
    torch.testing.assert_close(vae.decode(latents)[0, 4], alone[0])


@torch.no_grad()
def test_fitted_statistics_make_codes_of_zero_mean_and_unit_spread() -> None:
    vae = FrameVAE(small_config().vae)
    frames = torch.rand(32, 3, 64, 64) * 2 - 1
    vae.fit_statistics(frames)
    codes = vae.per_frame(frames)
    torch.testing.assert_close(codes.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(codes.std((0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_video_autoencoder_has_the_same_interface() -> None:
    vae = WanVAE(WAN).eval()
    frames = torch.rand(2, 9, 3, 32, 32) * 2 - 1
    latents = vae.per_window(vae.per_frame(frames))
    assert latents.shape == (2, 4, 2, 2, 2)
    assert vae.decode(latents).shape == (2, 8, 3, 32, 32)
    raw = vae.autoencoder.encode(frames.transpose(1, 2)).latent_dist.mode()[:, :, 1:]
    expected = (raw - torch.tensor(WAN["latents_mean"]).view(-1, 1, 1, 1)) / torch.tensor(WAN["latents_std"]).view(
        -1, 1, 1, 1
    )
    torch.testing.assert_close(latents, expected)


@torch.no_grad()
def test_a_single_picture_becomes_a_latent_that_is_that_of_a_video_of_one_frame() -> None:
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 2, 32, 32, 3), dtype=np.uint8))
    vae = WanVAE(WAN).eval()
    items = vae.items(pictures)
    assert items.shape == (3, 2, 3, 32, 32)
    latents = vae.per_image(items[:, 1])
    torch.testing.assert_close(latents[0], vae._encode(items[0, 1][None, :, None])[0, :, 0])
    assert latents.shape[1] == vae.channels
    frames = small_estimator().vae
    codes = frames.items(pictures)
    assert torch.equal(frames.per_image(codes[:, 1]), codes[:, 1].repeat(1, 4, 1, 1))
    torch.testing.assert_close(codes[2, 0], frames.per_frame(pictures_to_float(pictures[2, :1]))[0])
    assert frames.per_image(codes[:, 1]).shape[1] == frames.channels


@torch.no_grad()
def test_the_current_latent_of_the_video_autoencoder_does_not_depend_on_the_future() -> None:
    vae = WanVAE(WAN).eval()
    frames = torch.rand(1, 9, 3, 32, 32) * 2 - 1
    short, long = vae.per_window(frames[:, :5]), vae.per_window(frames)
    torch.testing.assert_close(short, long[:, :, :1])
