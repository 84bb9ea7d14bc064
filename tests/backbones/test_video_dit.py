from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from tests.pretrained import WAN_VIDEO as CONFIG

from worldvalue.backbones.video_dit import VideoDiT, places


@torch.no_grad()
def test_weights_that_diffusers_wrote_give_what_diffusers_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = WanTransformer3DModel(**CONFIG).eval()
    theirs.save_pretrained(tmp_path / "transformer")
    ours = VideoDiT.from_pretrained(tmp_path, subfolder="transformer").eval()
    latents, sigma, text = torch.randn(2, 4, 2, 6, 8), torch.tensor([0.2, 0.9]), torch.randn(2, 5, 16)
    expected = theirs(latents, sigma * 1000, text).sample
    torch.testing.assert_close(ours(latents, sigma, ours.read_text(text)).velocity, expected)


@torch.no_grad()
def test_two_groups_with_handed_on_keys_equal_one_pass_with_a_noise_level_per_token() -> None:
    """diffusers lets every token see every other; the last group of ours sees the same, so it must agree there."""
    torch.manual_seed(0)
    config = {**CONFIG, "num_layers": 1}  # with one layer, what the first group sees of the second cannot come back
    theirs = WanTransformer3DModel(**config).eval()
    ours = VideoDiT(**config).eval()
    ours.load_state_dict(theirs.state_dict())
    latents, text = torch.randn(2, 4, 2, 6, 8), torch.randn(2, 5, 16)
    clean, noised = torch.zeros(2), torch.tensor([0.4, 0.7])
    tokens = 3 * 4
    levels = torch.cat((clean[:, None].expand(-1, tokens), noised[:, None].expand(-1, tokens)), dim=1)
    expected = theirs(latents, levels * 1000, text).sample[:, :, 1:]
    states = ours.read_text(text)
    seen = ours(latents[:, :, :1], clean, states).keys_values
    found = ours(latents[:, :, 1:], noised, states, first_frame=1, context=seen).velocity
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_a_noise_level_for_each_frame_is_that_of_all_its_tokens() -> None:
    torch.manual_seed(0)
    theirs = WanTransformer3DModel(**CONFIG).eval()
    ours = VideoDiT(**CONFIG).eval()
    ours.load_state_dict(theirs.state_dict())
    latents, text = torch.randn(2, 4, 3, 6, 8), torch.randn(2, 5, 16)
    sigma = torch.tensor([[0.0, 0.3, 0.9], [0.0, 0.6, 0.1]])
    expected = theirs(latents, sigma.repeat_interleave(3 * 4, 1) * 1000, text).sample
    torch.testing.assert_close(ours(latents, sigma, ours.read_text(text)).velocity, expected)


@torch.no_grad()
def test_reading_stops_at_the_last_keys_which_are_those_of_the_whole_pass_to_the_bit() -> None:
    torch.manual_seed(0)
    ours = VideoDiT(**CONFIG).eval()
    last = ours.blocks[-1].ffn
    seen: list[object] = []
    last.register_forward_hook(lambda *_: seen.append(1))
    latents, sigma, text = torch.randn(2, 4, 2, 6, 8), torch.zeros(2), ours.read_text(torch.randn(2, 5, 16))
    read = ours.read(latents, sigma, text)
    assert not seen
    for quick, whole in zip(read, ours(latents, sigma, text).keys_values, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(quick, whole, strict=True))


def test_what_diffusers_reads_back_is_what_was_written(tmp_path: Path) -> None:
    ours = VideoDiT(**CONFIG)
    ours.save_pretrained(tmp_path)
    again = WanTransformer3DModel.from_pretrained(tmp_path)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


@torch.no_grad()
def test_only_a_transformer_that_is_shown_places_tells_the_patches_of_an_even_picture_apart() -> None:
    torch.manual_seed(0)
    latents, sigma, text = torch.ones(1, 4, 1, 6, 8), torch.zeros(1), torch.randn(1, 5, 16)

    def spread(dit: VideoDiT) -> float:
        _, values = dit(latents, sigma, dit.read_text(text)).keys_values[0]
        return float(values.std(2).max())

    assert spread(VideoDiT(**CONFIG)) < 1e-6
    assert spread(VideoDiT(**{**CONFIG, "in_channels": 12})) > 1e-2


def test_places_are_sines_and_cosines_of_row_and_column() -> None:
    shown = places(8, 4, 6)
    assert shown.shape == (8, 4, 6)
    row, column = torch.tensor(1.5 / 4) * torch.pi, torch.tensor(4.5 / 4) * torch.pi
    sines = [row.sin(), (2 * row).sin(), column.sin(), (2 * column).sin()]
    cosines = [row.cos(), (2 * row).cos(), column.cos(), (2 * column).cos()]
    torch.testing.assert_close(shown[:, 1, 4], torch.stack(sines + cosines))


def test_a_picture_beside_another_has_the_places_it_has_alone() -> None:
    assert torch.equal(places(16, 8, 16)[:, :, :8], places(16, 8, 8))
