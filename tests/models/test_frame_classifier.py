"""The baseline looks at one frame and the instruction, at nothing else."""

from dataclasses import replace

import pytest
import torch
from tests.small import small_classifier_config

from worldvalue.data.pictures import PictureSettings
from worldvalue.models import Estimator
from worldvalue.models.frame_classifier import FrameClassifier
from worldvalue.types import DataError, ValueModel


def _model() -> FrameClassifier:
    torch.manual_seed(0)
    return Estimator(small_classifier_config()).eval().model


def _observe(model: FrameClassifier, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model.observe({"latents": batch["latents"], "text": model.text(batch["tokens"])})


@torch.no_grad()
def test_a_frames_outputs_depend_on_that_frame_and_the_instruction_alone() -> None:
    model = _model()
    latents = torch.randn(1, 4, 16, 8, 8)
    text = model.text(model.text.tokenize(["lift the cube"]))
    before = model.observe({"latents": latents, "text": text})
    other = latents.clone()
    other[:, 2] += 1.0  # the third of the chunk's four frames
    after = model.observe({"latents": other, "text": text})
    changed = (before != after).any(-1)[0]
    assert changed.tolist() == [False, False, True, False]
    assert not torch.allclose(before, model.observe({"latents": latents, "text": text + 1.0}))


@torch.no_grad()
def test_it_is_told_where_in_the_frame_something_stands() -> None:
    model = _model()
    latents, text = torch.zeros(2, 1, 16, 8, 8), torch.zeros(2, 8, 16)
    latents[0, 0, :, :4, :4] = latents[1, 0, :, 4:, 4:] = 1.0  # the same patch, at opposite corners
    first, second = model.observe({"latents": latents, "text": text})
    assert not torch.allclose(first, second, atol=1e-4)


@torch.no_grad()
def test_neither_the_prefix_nor_the_steps_matter() -> None:
    model = _model()
    batch = model.example_batch(2)
    other = {**batch, "values": batch["values"].clone()}
    other["values"][:, 0] = 0.0
    assert torch.equal(model.losses(batch)["value"], model.losses(other)["value"])
    context = _observe(model, batch)
    noise = torch.randn(2, 3, 4)
    assert torch.equal(
        model.predict(context, torch.zeros(2, 3), noise, 1), model.predict(context, torch.ones(2, 3), noise, 5)
    )


def test_it_learns_to_tell_two_frames_apart() -> None:
    model = _model().train()
    batch = model.example_batch(2)
    batch["values"] = torch.tensor([[0.0] * 5, [0.9] * 5])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(90):
        optimizer.zero_grad()
        model.losses(batch)["value"].backward()
        optimizer.step()
    with torch.no_grad():
        context = _observe(model, batch)
        values = model.predict(context, torch.zeros(2, 1), torch.zeros(2, 1, 4))[:, 0]
    torch.testing.assert_close(values, batch["values"][:, 1:], atol=0.02, rtol=0)


def test_it_is_a_value_model_and_refuses_what_does_not_fit() -> None:
    assert isinstance(_model(), ValueModel)
    config = small_classifier_config()
    with pytest.raises(DataError, match="another head than flow"):
        Estimator(replace(config, model=replace(config.model, head="flow")))
    with pytest.raises(DataError, match=r"latents of \(4, 8\)"):
        Estimator(replace(config, picture=PictureSettings(32, 64)))


@torch.no_grad()
def test_scoring_sees_what_training_sees() -> None:
    """torch takes another way through its layers when nothing is trained."""
    model = _model()
    seen = {"latents": torch.randn(2, 4, 16, 8, 8), "text": torch.randn(2, 8, 16)}
    quick = model.eval().observe(seen)
    with torch.enable_grad():
        plain = model.train().observe(seen)
    torch.testing.assert_close(quick, plain.detach(), atol=1e-5, rtol=1e-4)
