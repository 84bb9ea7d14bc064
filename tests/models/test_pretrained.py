import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from tests.pretrained import (
    WAN_VIDEO,
    ltx_folder,
    mv_wam_on_wan,
    siglip_folder,
    viva_on_wan,
    wan_folder,
    wav_on_ltx,
    wvm_on_wan,
)
from tests.small import painted_episode, small_classifier_config, small_config, small_estimator, small_wav_config
from torch import nn
from transformers import SiglipVisionModel

from worldvalue.backbones.video_dit import VideoDiT
from worldvalue.backbones.video_vae import pictures_to_float
from worldvalue.flow_matching import interpolate, velocity
from worldvalue.models import Estimator, EstimatorConfig, going_on, load_model, on_pretrained
from worldvalue.models.heads import spread
from worldvalue.scoring.sliding_windows import ScoreSettings, score
from worldvalue.types import DataError, Episode

QUICK = ScoreSettings(draws=2, steps=1)


def same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def painted(states: int = 3) -> Episode:
    numbers = np.random.default_rng(0).random((30, states), dtype=np.float32)
    return replace(painted_episode(30), proprioception=numbers)


def trains_and_scores(estimator: Estimator) -> None:
    """All losses are finite and reach the model, nothing of the autoencoder learns, and every frame gets a value."""
    model = estimator.model
    batch = dict(model.example_batch())
    losses = model(batch)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert any(parameter.grad is not None for parameter in model.video.parameters())
    assert not any(parameter.requires_grad for parameter in estimator.vae.parameters())
    assert np.isfinite(score(estimator.eval(), painted(), QUICK).mean).all()


@pytest.mark.parametrize(("config", "shard"), [(wvm_on_wan, "20KB"), (viva_on_wan, "10GB"), (mv_wam_on_wan, "10GB")])
def test_a_wan_folder_becomes_an_estimator_that_trains_and_scores(
    tmp_path: Path, config: Callable[[], EstimatorConfig], shard: str
) -> None:
    folder = wan_folder(tmp_path / "wan", shard=shard)
    files = [len(list((folder / part).glob("*.safetensors"))) for part in ("transformer", "vae", "text_encoder")]
    assert all((count > 1) == (shard == "20KB") for count in files)
    estimator = on_pretrained(folder, config())
    same_weights(estimator.model.video, WanTransformer3DModel.from_pretrained(folder, subfolder="transformer"))
    same_weights(estimator.vae.autoencoder, AutoencoderKLWan.from_pretrained(folder, subfolder="vae"))
    trains_and_scores(estimator)


def test_an_ltx_video_folder_becomes_a_wav_that_trains_and_scores(tmp_path: Path) -> None:
    folder = ltx_folder(tmp_path / "ltx", shard="20KB")
    estimator = on_pretrained(folder, wav_on_ltx())
    same_weights(estimator.model.video, LTXVideoTransformer3DModel.from_pretrained(folder, subfolder="transformer"))
    same_weights(estimator.vae.autoencoder, AutoencoderKLLTXVideo.from_pretrained(folder, subfolder="vae"))
    trains_and_scores(estimator)


def test_what_stands_on_a_pretrained_model_is_saved_and_loaded_with_its_statistics(tmp_path: Path) -> None:
    for name, folder, config in (("wan", wan_folder, wvm_on_wan), ("ltx", ltx_folder, wav_on_ltx)):
        made = on_pretrained(folder(tmp_path / name), config())
        made.save(tmp_path / name / "model")
        loaded = load_model(tmp_path / name / "model")
        assert loaded.config.text_folder == str(tmp_path / name)
        frames = torch.rand(1, 9, 3, 64, 64) * 2 - 1
        coarse = {key: tensor.bfloat16().float() for key, tensor in made.vae.state_dict().items()}
        coarse |= {key: buffer for key, buffer in made.vae.named_buffers() if key in coarse}
        made.vae.load_state_dict(coarse)
        with torch.no_grad():
            assert torch.equal(loaded.vae.per_window(frames), made.vae.per_window(frames))


@pytest.mark.parametrize("take", [going_on, on_pretrained], ids=["init", "pretrained"])
@pytest.mark.parametrize("name", ["wan", "ltx"])
def test_a_checkpoint_on_a_pretrained_model_lends_it_to_a_recipe_that_knows_only_its_kind(
    tmp_path: Path, take: Callable, name: str
) -> None:
    """A recipe has neither the statistics of the autoencoder nor the place of the text encoder."""
    folder, recipe = {"wan": (wan_folder, wvm_on_wan()), "ltx": (ltx_folder, wav_on_ltx())}[name]
    first = on_pretrained(folder(tmp_path / "theirs"), recipe)
    first.save(tmp_path / "first")
    second = take(tmp_path / "first", replace(recipe, rate=5.0))
    assert second.config.rate == 5.0
    assert second.config.text_folder == first.config.text_folder
    assert json.dumps(second.config.vae) == json.dumps(first.config.vae)
    for key, tensor in second.state_dict().items():
        if take is going_on or key.startswith(("vae.", "model.video.")):
            assert torch.equal(tensor.bfloat16(), first.state_dict()[key].bfloat16()), key
    assert second.training
    trains_and_scores(second)


def test_a_model_of_the_hub_is_taken_by_its_id_and_kept_as_that(tmp_path: Path, hub: Callable[[str], Path]) -> None:
    wan_folder(hub("somebody/some-wan"))
    estimator = on_pretrained("somebody/some-wan", wvm_on_wan())
    assert estimator.config.text_folder == "somebody/some-wan"
    trains_and_scores(estimator)


def test_siglip2_becomes_the_vision_encoder_of_a_new_mv_wam_with_its_shape(
    tmp_path: Path, hub: Callable[[str], Path]
) -> None:
    folder, siglip = wan_folder(tmp_path / "wan"), siglip_folder(hub("somebody/some-siglip"))
    config = mv_wam_on_wan()
    config = replace(config, model=replace(config.model, vision_folder="somebody/some-siglip"))
    first = on_pretrained(folder, config)
    theirs = SiglipVisionModel.from_pretrained(siglip).state_dict()
    for name, tensor in first.model.vision.encoder.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    assert first.config.model.vision["hidden_size"] == 24
    trains_and_scores(first)
    first.save(tmp_path / "first")
    for path in siglip.iterdir():
        path.unlink()  # a trained model brings its own
    for again in (load_model(tmp_path / "first"), going_on(tmp_path / "first", config)):
        name = "model.vision.encoder.embeddings.patch_embedding.weight"
        assert torch.equal(again.state_dict()[name].bfloat16(), first.state_dict()[name].bfloat16())
    with pytest.raises(DataError, match=r"The vision encoder, estimator.model.vision_folder: .* holds no SigLIP"):
        on_pretrained(tmp_path / "first", config)


@torch.no_grad()
def test_latents_of_wan_are_normalized_as_in_diffusers_pipeline_for_this_autoencoder(tmp_path: Path) -> None:
    estimator = on_pretrained(wan_folder(tmp_path), wvm_on_wan())
    coder = estimator.vae.autoencoder
    nothing = dict.fromkeys(("tokenizer", "text_encoder", "scheduler", "transformer", "image_processor"))
    pipeline = WanImageToVideoPipeline(**nothing, image_encoder=None, vae=coder, expand_timesteps=True)
    pictures = torch.from_numpy(painted_episode(3).frames())
    image = pictures_to_float(pictures[:1])
    _, expected, _ = pipeline.prepare_latents(image, 1, 4, 64, 64, 1, torch.float32, torch.device("cpu"))
    found = estimator.vae.per_image(estimator.vae.items(pictures[:1, None])[:, 0])
    torch.testing.assert_close(found, expected[:, :, 0])
    raw = coder.encode(image.unsqueeze(2)).latent_dist.mode()[0, :, 0]
    by_hand = torch.stack([(raw[0] - 0.1) / 1.5, (raw[1] + 0.2) / 0.5, (raw[2] - 0.3) / 2.0, raw[3]])
    torch.testing.assert_close(found[0], by_hand)


@torch.no_grad()
def test_latents_of_ltx_video_are_normalized_as_in_diffusers_pipeline(tmp_path: Path) -> None:
    vae = on_pretrained(ltx_folder(tmp_path), wav_on_ltx()).vae
    coder = vae.autoencoder
    statistics = (coder.latents_mean, coder.latents_std, coder.config.scaling_factor)
    frames = torch.rand(1, 9, 3, 64, 64) * 2 - 1
    raw = coder.encode(frames.transpose(1, 2)).latent_dist.mode()
    found = vae.per_clip(frames)
    torch.testing.assert_close(found, LTXPipeline._normalize_latents(raw, *statistics))
    torch.testing.assert_close(found[0, 1], (raw[0, 1] + 0.2) * 2.0 / 0.5)
    twice = torch.cat((found[:, :, 1:], found[:, :, 1:]), dim=2)
    expected = coder.decode(LTXPipeline._denormalize_latents(twice, *statistics)).sample[:, :, 1:]
    torch.testing.assert_close(vae.decode(found[:, :, 1:]), expected.transpose(1, 2))


def first_losses(model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """A batch of so many windows that losses are near their expectations, and its losses."""
    torch.manual_seed(0)
    batch = dict(model.example_batch(2048))
    return batch, {name: float(loss) for name, loss in model(batch).items()}


@pytest.mark.parametrize("head", ["flow", "scalar", "hl_gaussian", "categorical"])
@torch.no_grad()
def test_the_first_value_loss_of_a_wvm_is_the_trivial_predictors(tmp_path: Path, head: str) -> None:
    """Noise - data or data found to be 0, or all bins as likely."""
    config = wvm_on_wan()
    model = on_pretrained(wan_folder(tmp_path), replace(config, model=replace(config.model, head=head))).model
    batch, losses = first_losses(model)
    data = float(spread(batch["values"][:, 1:]).square().mean())
    trivial = {"flow": 1.0 + data, "scalar": data, "hl_gaussian": math.log(51), "categorical": math.log(201)}
    assert losses["value"] == pytest.approx(trivial[head], rel=0.03)


@torch.no_grad()
def test_the_first_losses_of_an_mv_wams_new_expert_are_the_trivial_predictors(tmp_path: Path) -> None:
    """It puts out the data themselves."""
    batch, losses = first_losses(on_pretrained(wan_folder(tmp_path), mv_wam_on_wan()).model)
    assert losses["value"] == pytest.approx(float(spread(batch["values"][:, 1:]).square().mean()))
    assert losses["action"] == pytest.approx(float(batch["actions"].square().mean()))


@torch.no_grad()
def test_the_first_losses_of_a_wavs_new_streams_are_the_trivial_predictors(tmp_path: Path) -> None:
    """They put out noise - data."""
    batch, losses = first_losses(on_pretrained(ltx_folder(tmp_path), wav_on_ltx()).model)
    assert losses["value"] == pytest.approx(1.0 + float(batch["values"][:, 1:].square().mean()), rel=0.03)
    assert losses["action"] == pytest.approx(1.0 + float(batch["actions"].square().mean()), rel=0.03)


def test_a_viva_on_a_video_model_that_can_take_noise_off_starts_better_than_the_trivial_predictor(
    tmp_path: Path,
) -> None:
    """It has no new layer: its first losses are what the video model makes of frames such as it never saw."""
    video = VideoDiT.from_pretrained(wan_folder(tmp_path), subfolder="transformer")
    optimizer = torch.optim.Adam(video.parameters(), 3e-3)
    torch.manual_seed(0)
    for _ in range(60):
        data, noise, sigma = 0.5 * torch.randn(8, 4, 4, 4, 4), torch.randn(8, 4, 4, 4, 4), torch.rand(8)
        told = video(interpolate(data, noise, sigma), sigma, video.read_text(torch.randn(8, 4, 16))).velocity
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(told, velocity(data, noise)).backward()
        optimizer.step()
    video.save_pretrained(tmp_path / "transformer")
    estimator = on_pretrained(tmp_path, viva_on_wan())
    same_weights(estimator.model, nn.ModuleDict({"video": video, "scales": estimator.model.scales}))
    with torch.no_grad():
        batch, losses = first_losses(estimator.model)
    assert losses["value"] < 1.0 + float(batch["values"][:, 1:].square().mean())
    assert losses["state"] < 1.0 + float(batch["states"][:, 1].square().mean())


@pytest.mark.parametrize(
    ("change", "config", "sentence"),
    [
        (
            lambda folder: wan_folder(folder, {"in_channels": 9}),
            wvm_on_wan,
            r"transformer is an image-to-video model \(9 channels in, 4 out\); give a text-to-video one such as Wan",
        ),
        (
            lambda folder: wan_folder(folder, {"added_kv_proj_dim": 24, "image_dim": 16}),
            viva_on_wan,
            r"transformer.config.json makes no model \(VideoDiT needs a Wan text-to-video .* no image branch\)\); give",
        ),
        (
            wan_folder,
            wav_on_ltx,
            "holds a WanTransformer3DModel; give a model such as Lightricks/LTX-Video",
        ),
        (ltx_folder, mv_wam_on_wan, "transformer holds a LTXVideoTransformer3DModel; give a model such as Wan-AI/"),
        (lambda folder: without(folder, "vae"), wvm_on_wan, "no folder 'vae'; give a model in diffusers layout"),
        (
            lambda folder: edited(folder, {"ffn_dim": 49}),
            wvm_on_wan,
            r"diffusion_pytorch_model.safetensors has 'blocks.0.ffn.net.0.proj.weight' of shape \(48, 24\), "
            r"\(49, 24\) is needed; copy the folder again",
        ),
        (
            lambda folder: edited(folder, {"num_layers": 3}),
            wvm_on_wan,
            "diffusion_pytorch_model.safetensors lacks the weight 'blocks.2.",
        ),
        (wan_folder, small_config, "is neither a shipped model nor a checkpoint folder, and this recipe stands on"),
        (wan_folder, small_classifier_config, "takes no pretrained video model; leave --pretrained out"),
        (
            lambda folder: Estimator(small_classifier_config()).save(folder),
            small_config,
            "has no video stream; give a model that has one",
        ),
        (
            lambda folder: small_estimator().save(folder),
            small_wav_config,
            "model.safetensors .* 'model.video.*; it has not the recipe's shape: use the recipe it was trained with",
        ),
    ],
)
def test_what_a_recipe_cannot_stand_on_gets_a_sentence(
    tmp_path: Path, change: Callable, config: Callable[[], EstimatorConfig], sentence: str
) -> None:
    change(tmp_path)
    with pytest.raises(DataError, match=sentence) as told:
        on_pretrained(tmp_path, config())
    assert "\n" not in str(told.value)


def without(folder: Path, part: str) -> None:
    """A Wan folder that lacks a part."""
    shutil.rmtree(wan_folder(folder) / part)


def edited(folder: Path, keys: dict[str, int]) -> None:
    """A Wan folder whose transformer's configuration is that of other weights."""
    told = wan_folder(folder) / "transformer" / "config.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), **keys}))


def test_a_checkpoint_whose_text_encoder_is_gone_says_where_it_looked(tmp_path: Path) -> None:
    on_pretrained(wan_folder(tmp_path / "wan"), wvm_on_wan()).save(tmp_path / "model")
    shutil.rmtree(tmp_path / "wan")
    with pytest.raises(DataError, match=r"The text encoder, text_folder in the model's config.json: .*wan is neither"):
        score(load_model(tmp_path / "model"), painted_episode(30), QUICK)


def test_a_checkpoint_of_ours_lends_all_but_its_value_part(tmp_path: Path) -> None:
    kept = small_estimator(seed=5)
    kept.save(tmp_path)
    config = small_config()
    made = on_pretrained(tmp_path, replace(config, model=replace(config.model, head="hl_gaussian")))
    for name, tensor in made.state_dict().items():
        if not name.startswith("model.value."):
            assert torch.equal(tensor, kept.state_dict()[name].bfloat16().float()), name
    assert not made.model.value.proj_out.weight.any()  # as a new stream starts
    with pytest.raises(DataError, match="not the recipe's shape"):
        on_pretrained(tmp_path, replace(config, model=replace(config.model, video={**WAN_VIDEO, "num_layers": 2})))
