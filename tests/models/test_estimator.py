import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from tests.backbones.test_text import CONFIG as TEXT
from tests.backbones.test_video_dit import CONFIG as VIDEO
from tests.backbones.test_video_vae import WAN
from tests.small import painted_episode, small_config, small_estimator, small_viva_config
from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

from worldvalue.data.pictures import PictureSettings
from worldvalue.models import load_model, on_pretrained
from worldvalue.scoring.sliding_windows import ScoreSettings, score
from worldvalue.types import DataError


def test_a_saved_checkpoint_loads_with_its_configuration_and_bf16_weights(tmp_path: Path) -> None:
    saved = small_estimator()
    saved.save(tmp_path)
    loaded = load_model(tmp_path)
    # JSON has no tuples: the same settings, written down again, must be the same text.
    assert json.dumps(loaded.config, default=vars) == json.dumps(saved.config, default=vars)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.bfloat16().float())


def test_names_that_are_no_model_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a shipped model"):
        load_model("no_such_model")
    small_estimator().save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(DataError, match="no usable checkpoint"):
        load_model(tmp_path)


def _wan_folder(folder: Path) -> Path:
    """What diffusers and transformers themselves write, with small numbers."""
    torch.manual_seed(0)
    WanTransformer3DModel(**{**VIDEO, "num_layers": 2}).save_pretrained(folder / "transformer")
    AutoencoderKLWan(**WAN).save_pretrained(folder / "vae")
    UMT5EncoderModel(UMT5Config(**TEXT)).save_pretrained(folder / "text_encoder")
    ByT5Tokenizer().save_pretrained(folder / "tokenizer")
    return folder


def _wan_config():
    config = small_config()
    model = replace(config.model, text=None, text_length=24, text_pool=1, latent_size=(4, 4))
    return replace(config, model=model, vae_class="AutoencoderKLWan", picture=PictureSettings(64, 64))


def test_a_wan_folder_in_diffusers_layout_becomes_an_estimator_that_scores_and_trains(tmp_path: Path) -> None:
    folder = _wan_folder(tmp_path / "wan")
    estimator = on_pretrained(folder, _wan_config()).eval()
    theirs = WanTransformer3DModel.from_pretrained(folder, subfolder="transformer").state_dict()
    for name, tensor in estimator.model.video.state_dict().items():
        assert torch.equal(tensor, theirs[name])
    curve = score(estimator, painted_episode(30), ScoreSettings(draws=2, steps=1))
    assert np.isfinite(curve.mean).all()
    batch = {
        "items": torch.rand(2, 9, 1, 3, 64, 64) * 2 - 1,
        "values": torch.rand(2, 5),
        "text": torch.randn(2, 24, 16),
    }
    losses = estimator(batch)
    (losses["value"] + losses["video"]).backward()
    assert not any(p.requires_grad for p in estimator.vae.parameters())


def test_viva_on_a_wan_folder_is_that_transformer_and_scores_with_states(tmp_path: Path) -> None:
    config = small_viva_config()
    model = replace(config.model, text=None, text_length=24, text_pool=1, latent_size=(4, 4))
    folder = _wan_folder(tmp_path / "wan")
    config = replace(config, model=model, vae_class="AutoencoderKLWan", picture=PictureSettings(64, 64))
    estimator = on_pretrained(folder, config).eval()
    theirs = WanTransformer3DModel.from_pretrained(folder, subfolder="transformer").state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in estimator.model.video.state_dict().items())
    states = np.random.default_rng(0).random((30, 3), dtype=np.float32)
    episode = replace(painted_episode(30), proprioception=states)
    curve = score(estimator, episode, ScoreSettings(draws=2, steps=1))
    assert np.isfinite(curve.mean).all()
    with pytest.raises(DataError, match="proprioception of 3 numbers, the data has none"):
        score(estimator, painted_episode(30), ScoreSettings(draws=2, steps=1))


def test_a_trained_estimator_on_wan_saves_and_loads(tmp_path: Path) -> None:
    on_pretrained(_wan_folder(tmp_path / "wan"), _wan_config()).save(tmp_path / "model")
    assert load_model(tmp_path / "model").config.text_folder == str(tmp_path / "wan")


def test_a_checkpoint_of_ours_lends_all_but_its_value_part(
    tmp_path: Path,
) -> None:
    kept = small_estimator(seed=5)
    kept.save(tmp_path)
    config = small_config()
    made = on_pretrained(tmp_path, replace(config, model=replace(config.model, head="hl_gaussian")))
    for name, tensor in made.state_dict().items():
        if not name.startswith("model.value."):
            assert torch.equal(tensor, kept.state_dict()[name].bfloat16().float()), name
    assert not made.model.value.proj_out.weight.any()  # as a new stream starts
    with pytest.raises(DataError, match="not the recipe's shape"):
        on_pretrained(tmp_path, replace(config, model=replace(config.model, video={**VIDEO, "num_layers": 2})))


def test_a_wan_folder_without_a_part_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    with pytest.raises(DataError, match="no folder 'vae'"):
        on_pretrained(tmp_path, _wan_config())
