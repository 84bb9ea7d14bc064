"""The sequence of latent frames, who is clean and who is noised, and that numbers come back in their own units."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.small import small_viva_config

from worldvalue.backbones.injection import broadcast, repeat_padded
from worldvalue.data.augment import Augmentation
from worldvalue.data.windows import TrainingEpisode, WindowDataset
from worldvalue.models import Estimator
from worldvalue.models.viva import ViVa
from worldvalue.recipes.published import viva_wan22_5b
from worldvalue.types import DataError, ValueModel


def _model(**changes: object) -> ViVa:
    torch.manual_seed(0)
    config = small_viva_config()
    model = Estimator(replace(config, model=replace(config.model, **changes))).eval().model
    model.scales["value"].fit(np.array([[-1.0], [1.0]]))
    if "state" in model.scales:
        model.scales["state"].fit(np.array([[0.0, -2.0, 5.0], [1.0, 2.0, 6.0]]))
    return model


def _observed(model: ViVa, batch: dict[str, torch.Tensor]):
    return model.observe({**batch, "text": model.text(batch["tokens"])})


def _caught(model: ViVa, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The sequence ``(B, T, C, h, w)`` and the noise levels that the transformer gets in a training step."""
    caught = []
    hook = model.video.register_forward_pre_hook(lambda _, given: caught.append(given))
    torch.manual_seed(0)
    model.losses(batch)
    hook.remove()
    ((sequence, levels, _),) = caught
    return sequence.transpose(1, 2), levels


def test_the_sequence_is_blank_state_views_then_noised_future_state_and_value() -> None:
    model = _model()
    batch = {**model.example_batch(2), "latents": torch.randn(2, 3, 16, 8, 8)}
    sequence, levels = _caught(model, batch)
    assert sequence.shape == (2, 7, 16, 8, 8)
    assert not sequence[:, 0].any()
    scaled = model.scales["state"](batch["states"])
    assert torch.equal(sequence[:, 1], repeat_padded(scaled[:, 0], model.frame))
    assert torch.equal(sequence[:, 2:5], batch["latents"])
    sigma = levels[:, -1].view(-1, 1, 1, 1)
    assert not levels[:, :5].any()
    assert torch.equal(levels[:, 5], levels[:, 6])
    # What is left of a noised frame without its data is noise, of the same size at every level.
    for frame, clean in (
        (5, repeat_padded(scaled[:, 1], model.frame)),
        (6, broadcast(batch["values"][:, 1], model.frame)),
    ):
        noise = (sequence[:, frame] - (1 - sigma) * clean) / sigma
        assert noise.std() == pytest.approx(1.0, abs=0.15)
        assert noise.mean() == pytest.approx(0.0, abs=0.15)


def test_one_shared_level_is_told_to_the_clean_frames_too() -> None:
    batch = _model().example_batch(2)
    _, levels = _caught(_model(shared_level=True), batch)
    assert (levels == levels[:, :1]).all()
    assert levels[0, 0] > 0


def test_losses_are_those_of_the_frames_velocities() -> None:
    model = _model()
    batch = model.example_batch(2)
    sequence, levels = _caught(model, batch)
    torch.manual_seed(0)
    losses = model.losses(batch)
    with torch.no_grad():
        told = model.video(sequence.transpose(1, 2), levels, _observed(model, batch).text).velocity
    sigma = levels[:, -1].view(-1, 1, 1, 1)
    value = broadcast(batch["values"][:, 1], model.frame)
    noise = (sequence[:, -1] - (1 - sigma) * value) / sigma
    torch.testing.assert_close(
        losses["value"], (told[:, :, -1] - (noise - value)).square().mean(), rtol=1e-3, atol=1e-4
    )
    assert losses.keys() == model.config.weights.keys()


def test_an_unknown_future_state_teaches_nothing_and_breaks_nothing() -> None:
    model = _model()
    batch = model.example_batch(2)
    batch["states"][:, 1] = torch.nan
    losses = model.losses(batch)
    assert losses["state"] == 0
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_a_perfect_transformer_gives_back_value_and_future_state_in_their_units() -> None:
    model = _model()
    batch = model.example_batch(2)
    batch["states"] = torch.tensor([[[0.2, 1.0, 5.5], [0.9, -2.0, 5.1]]]).repeat(2, 1, 1)
    batch["values"] = torch.tensor([[0.0, 0.3], [0.0, -0.8]])
    targets = model._targets(batch)
    model._velocity = lambda noised, sigma, context: (
        (noised - targets.repeat_interleave(3, 0)) / sigma.view(-1, 1, 1, 1, 1)
    )
    noise = torch.randn(2, 3, *model.noise_shape)
    context = _observed(model, batch)
    for steps in (1, 4):
        values = model.predict(context, torch.zeros(2, 3), noise, steps)
        torch.testing.assert_close(values, torch.tensor([0.3, -0.8]).view(2, 1, 1).expand(2, 3, 1), atol=1e-4, rtol=0)
        states = model.predict_state(context, noise, steps)
        torch.testing.assert_close(states, batch["states"][:, 1:].expand(2, 3, 3), atol=1e-4, rtol=0)


@torch.no_grad()
def test_draws_are_independent_and_the_state_reaches_the_value() -> None:
    model = _model()
    batch = model.example_batch(1)
    noise, prefix = torch.randn(1, 3, *model.noise_shape), torch.zeros(1, 3)
    together = model.predict(_observed(model, batch), prefix, noise)
    alone = [model.predict(_observed(model, batch), prefix[:, :1], noise[:, i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1))
    moved = {**batch, "states": batch["states"] + 0.5}
    assert not torch.equal(together, model.predict(_observed(model, moved), prefix, noise))


@pytest.mark.parametrize(("changes", "clean", "noised", "states"), [
    ({"weights": {"value": 1.0}}, 3, 1, (1,)),
    ({"weights": {"value": 1.0}, "states": 0}, 2, 1, ()),
])  # fmt: skip
def test_the_papers_ablations_leave_frames_out(changes: dict, clean: int, noised: int, states: tuple) -> None:
    model = _model(**changes)
    batch = model.example_batch(2)
    assert model.window.states == states
    assert model.noise_shape[0] == noised
    assert _observed(model, batch).clean.shape[1] == clean
    assert model.losses(batch).keys() == {"value"}


def test_a_window_asks_for_the_state_so_many_frames_of_the_data_later() -> None:
    class Numbers:
        def read(self, indices: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(indices)[:, None, None, None, None]

    states = np.arange(60, dtype=np.float32)[:, None]
    episode = TrainingEpisode(np.arange(60) / 10, np.linspace(0, 1, 60), "push", Numbers(), states=states)
    plain = Augmentation(rewind=0, random_prefix=0)
    dataset = WindowDataset([episode], 2.0, _model().window, plain, seed=0)  # 2 Hz; the data has 10 frames a second
    shown = []
    for number in range(200):
        sample = dataset[number]
        now = int(sample["items"][0])
        shown.append(now)
        assert sample["states"].flatten().tolist() == [now, min(now + 5, 59)]
        assert sample["values"][1] == pytest.approx(now / 59)
    assert (min(shown), max(shown)) == (0, 59)


def test_it_is_a_value_model_of_one_to_three_views_and_refuses_what_does_not_fit() -> None:
    assert isinstance(_model(), ValueModel)
    config = small_viva_config()
    Estimator(replace(config, picture=replace(config.picture, views=3)))
    with pytest.raises(DataError, match=r"ViVa sees 1 to 3 .* not 4"):
        Estimator(replace(config, picture=replace(config.picture, views=4)))
    with pytest.raises(DataError, match="no loss 'state'"):
        _model(states=0)


def test_at_the_papers_size_it_is_wans_transformer_unchanged() -> None:
    with torch.device("meta"):
        model = ViVa(viva_wan22_5b().estimator.model)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in model.video.parameters())
    assert sum(p.numel() for p in model.parameters()) == 4_999_787_712
