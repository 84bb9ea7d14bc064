"""The baseline looks at one frame and the instruction, at nothing else."""

from dataclasses import replace

import pytest
import torch
from tests.backbones.test_video_vae import WAN
from tests.small import small_classifier_config

from worldvalue.data.pictures import PictureSettings
from worldvalue.models import Estimator
from worldvalue.models.frame_classifier import FrameClassifier
from worldvalue.types import DataError, ValueModel


def _model() -> FrameClassifier:
    torch.manual_seed(0)
    return Estimator(small_classifier_config()).eval().model


@torch.no_grad()
def test_a_frames_outputs_depend_on_that_frame_and_the_instruction_alone() -> None:
    model = _model()
    current = torch.randn(1, 16, 1, 8, 8)
    text = model.text(model.text.tokenize(["lift the cube"]))
    before = model.observe(current, text)
    codes = current.unflatten(1, (4, 4)).clone()
    codes[:, 2] += 1.0  # the third of the chunk's four frames
    after = model.observe(codes.flatten(1, 2), text)
    changed = (before != after).any(-1)[0]
    assert changed.tolist() == [False, False, True, False]
    assert not torch.allclose(before, model.observe(current, text + 1.0))


@torch.no_grad()
def test_neither_the_prefix_nor_the_steps_matter_and_the_future_is_not_looked_at() -> None:
    model = _model()
    batch = model.example_batch(2)
    other = {**batch, "latents": batch["latents"].clone(), "values": batch["values"].clone()}
    other["latents"][:, :, 1] += 1.0
    other["values"][:, 0] = 0.0
    assert torch.equal(model.losses(batch)["value"], model.losses(other)["value"])
    context = model.observe(batch["latents"][:, :, :1], model.text(batch["tokens"]))
    noise = torch.randn(2, 3, 4)
    assert torch.equal(
        model.predict(context, torch.zeros(2, 3), noise, 1), model.predict(context, torch.ones(2, 3), noise, 5)
    )


def test_it_learns_to_tell_two_frames_apart() -> None:
    model = _model().train()
    batch = {**model.example_batch(2), "latents": torch.randn(2, 16, 2, 8, 8)}
    batch["values"] = torch.tensor([[0.0] * 5, [0.9] * 5])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.losses(batch)["value"].backward()
        optimizer.step()
    with torch.no_grad():
        context = model.observe(batch["latents"][:, :, :1], model.text(batch["tokens"]))
        values = model.predict(context, torch.zeros(2, 1), torch.zeros(2, 1, 4))[:, 0]
    torch.testing.assert_close(values, batch["values"][:, 1:], atol=0.02, rtol=0)


def test_it_is_a_value_model_and_refuses_an_autoencoder_of_whole_windows() -> None:
    assert isinstance(_model(), ValueModel)
    config = small_classifier_config()
    with pytest.raises(DataError, match="reads single frames"):
        Estimator(replace(config, vae_class="AutoencoderKLWan", vae=WAN))
    with pytest.raises(DataError, match="another head than flow"):
        Estimator(replace(config, model=replace(config.model, head="flow")))
    with pytest.raises(DataError, match=r"codes of \(4, 8\)"):
        Estimator(replace(config, picture=PictureSettings(32, 64)))


@torch.no_grad()
def test_scoring_sees_what_training_sees() -> None:
    """torch takes another way through its layers when nothing is trained."""
    model = _model()
    current, text = torch.randn(2, 16, 1, 8, 8), torch.randn(2, 8, 16)
    quick = model.eval().observe(current, text)
    with torch.enable_grad():
        plain = model.train().observe(current, text)
    torch.testing.assert_close(quick, plain.detach(), atol=1e-5, rtol=1e-4)
