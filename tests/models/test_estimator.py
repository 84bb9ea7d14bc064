import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.small import painted_episode, small_estimator, small_viva_config, small_wav_config

from worldvalue.models import Estimator, EstimatorConfig, load_model
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
    with pytest.raises(DataError, match=r"model.safetensors cannot be read as safetensors .*; train or copy it again"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="no usable checkpoint"):
        load_model(tmp_path)


def test_layers_in_bfloat16_give_the_same_values_in_half_the_memory(tmp_path: Path) -> None:
    small_estimator().save(tmp_path)
    exact, half = load_model(tmp_path), load_model(tmp_path, torch.bfloat16)
    assert half.model.video.blocks[0].ffn.net[2].weight.dtype == torch.bfloat16
    expected, found = (score(model, painted_episode(30), ScoreSettings(draws=2, steps=1)) for model in (exact, half))
    np.testing.assert_array_equal(found.mean, expected.mean)
    np.testing.assert_array_equal(found.std, expected.std)


def test_half_of_the_training_batches_show_the_fewest_views_alone() -> None:
    """For every seed the losses are those of the whole batch or of the cut one, and both come up."""
    cutting, whole, one_view = small_estimator(views=2, fewest_views=1), small_estimator(views=2), small_estimator()
    items = torch.randn(2, 9, 2, 4, 8, 8)
    batch = {**whole.model.example_batch(2), "items": items}
    cut = []
    for seed in range(8):
        torch.manual_seed(seed)
        found = cutting(batch)["value"]
        torch.manual_seed(seed)
        torch.rand(())
        after = torch.get_rng_state()
        full = whole(batch)["value"]
        torch.set_rng_state(after)
        alone = one_view({**batch, "items": items[:, :, :1]})["value"]
        assert found in (full, alone)
        assert full != alone
        cut.append(bool(found == alone))
    assert 0 < sum(cut) < 8


@pytest.mark.parametrize(
    ("config", "views", "fewest", "sentence"),
    [
        (small_viva_config(), 2, 3, "ViVa sees 1 to 2 picture.s. of a frame here, not 3; set"),
        (small_viva_config(), 2, 0, "ViVa sees 1 to 2 picture.s. of a frame here, not 0; set"),
        (small_wav_config(), 2, None, "WAV sees 1 picture.s. of a frame here, not 2; set"),
    ],
)
def test_views_that_the_model_does_not_take_are_refused(
    config: EstimatorConfig, views: int, fewest: int | None, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        Estimator(replace(config, picture=replace(config.picture, views=views), fewest_views=fewest))
