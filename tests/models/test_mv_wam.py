"""Who may see whom, what is put out, that padding stays out of it, and that numbers come back in their own units."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.small import small_mv_wam_config

from worldvalue.data.augment import Augmentation
from worldvalue.data.windows import TrainingEpisode, WindowDataset
from worldvalue.models import Estimator
from worldvalue.models.mv_wam import MVWAM, Context, Parts
from worldvalue.recipes.published import mv_wam_wan21_1b
from worldvalue.types import DataError, ValueModel


def _model(**changes: object) -> MVWAM:
    torch.manual_seed(0)
    config = small_mv_wam_config()
    model = Estimator(replace(config, model=replace(config.model, **changes))).eval().model
    for layer in (model.expert.action_out, model.expert.value_out):  # silent at the start of training
        torch.nn.init.normal_(layer.weight, std=0.5)
    return model


def _observed(model: MVWAM, batch: dict[str, torch.Tensor]) -> Context:
    return model.observe({**batch, "latents": batch["latents"][:, :, :1], "text": model.text(batch["tokens"])})


def _noised(model: MVWAM) -> Parts:
    return Parts(*(torch.randn(2, *shape) for shape in model.shapes.values()))


@torch.no_grad()
@pytest.mark.parametrize(
    ("changed", "moved"),
    [
        ("video", {"video", "action", "value"}),
        ("action", {"action", "value"}),
        ("value", {"value"}),
        ("state", {"action", "value"}),
        ("read", {"action", "value"}),
    ],
)
def test_video_sees_video_actions_see_video_and_actions_the_value_sees_all(changed: str, moved: set[str]) -> None:
    model = _model()
    context, noised, sigma = _observed(model, model.example_batch(2)), _noised(model), torch.tensor([0.3, 0.8])
    before = model._outputs(noised, sigma, context)
    if changed in Parts._fields:
        noised = noised._replace(**{changed: getattr(noised, changed) + 1.0})
    elif changed == "state":
        context = context._replace(state=context.state + 1.0)
    else:
        context = context._replace(read=[(keys + 1.0, values + 1.0) for keys, values in context.read])
    after = model._outputs(noised, sigma, context)
    assert {name for name in Parts._fields if not torch.equal(getattr(before, name), getattr(after, name))} == moved


@torch.no_grad()
def test_even_layers_read_the_pictures_and_odd_ones_the_instruction() -> None:
    model = _model()
    batch = model.example_batch(2)
    text, views = model.text(batch["tokens"]), model.vision(batch["pictures"][:, 0])
    before = model.expert.read(text, views)
    other_text, other_views = model.expert.read(text + 1.0, views), model.expert.read(text, views + 1.0)
    for layer in range(2):
        assert torch.equal(before[layer][0], other_text[layer][0]) == (layer == 0)
        assert torch.equal(before[layer][0], other_views[layer][0]) == (layer == 1)


@torch.no_grad()
def test_the_expert_can_tell_one_view_from_another() -> None:
    model = _model()
    batch = model.example_batch(2)
    views = torch.randn(2, 2, 4, model.vision.dim)
    text = model.text(batch["tokens"])

    def attended(order: list[int]) -> torch.Tensor:
        keys, values = model.expert.read(text, views[:, order])[0]
        return torch.einsum("bhne,bhnf->bhef", keys, values)  # the same for the same set of keys and values

    assert torch.allclose(attended([0, 1]), attended([1, 0]), atol=1e-4)  # unmarked at first
    torch.nn.init.normal_(model.expert.view_marks)
    assert not torch.allclose(attended([0, 1]), attended([1, 0]), atol=1e-2)


@torch.no_grad()
def test_an_action_stands_at_the_latent_frame_it_leads_to() -> None:
    video = _model().video
    latents = torch.zeros(1, 16, 3, 8, 8)
    of_frames = [table[:, :: 2 * 2] for table in video._rotary(latents, 0)]  # the first of each frame's four tokens
    of_actions = video.rotary_in_time(torch.arange(0, 9) / 4)
    for frames, actions in zip(of_frames, of_actions, strict=True):
        torch.testing.assert_close(frames[..., : video.rope.t_dim], actions[:, ::4][..., : video.rope.t_dim])
        assert torch.equal(frames[..., video.rope.t_dim :], actions[:, ::4][..., video.rope.t_dim :])


def test_losses_count_neither_padding_nor_what_lies_beyond_the_end() -> None:
    model = _model()
    batch = model.example_batch(2)
    batch["actions"][0, 5:] = torch.nan
    torch.manual_seed(1)
    losses = model.losses(batch)
    assert losses.keys() == model.config.weights.keys()
    original = model.expert.action_out.forward

    def shifted(hidden: torch.Tensor) -> torch.Tensor:
        out = original(hidden).clone()
        out[..., 2:] += 100.0
        out[0, 5:] += 100.0
        return out

    model.expert.action_out.forward = shifted
    torch.manual_seed(1)
    again = model.losses(batch)
    assert torch.equal(losses["action"], again["action"])
    sum(again.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert next(model.vision.encoder.parameters()).grad is not None


@torch.no_grad()
@pytest.mark.parametrize("kind", ["velocity", "data"])
@pytest.mark.parametrize("steps", [1, 5])
def test_perfect_experts_give_back_actions_and_value_in_their_units(kind: str, steps: int) -> None:
    model = _model(parameterizations=dict.fromkeys(Parts._fields, kind))
    model.scales["action"].fit(np.array([[0.0, -4.0], [2.0, 4.0]]))
    batch = model.example_batch(2)
    batch["actions"] = torch.rand(2, 8, 2) * 2
    context = _observed(model, batch)
    action = model._unified("action", batch["actions"]).nan_to_num()
    data = Parts(batch["latents"][:, :, 1:], action, (2 * batch["values"][:, 1:, None] - 1))
    data = Parts(*(part.repeat_interleave(3, 0) for part in data))
    noise = torch.randn(2, 3, *model.noise_shape)
    clean_noise: list[Parts] = []

    def perfect(x: Parts, sigma: torch.Tensor, context: Context) -> Parts:
        if not clean_noise:
            clean_noise.append(x)  # the first step starts at pure noise
        pairs = zip(data, clean_noise[0], strict=True)
        return Parts(*(model.put_out[name].target(*pair) for name, pair in zip(Parts._fields, pairs, strict=True)))

    model._outputs = perfect
    found = model.act(context, noise, steps)
    torch.testing.assert_close(found, batch["actions"][:, None].expand(2, 3, 8, 2), atol=1e-4, rtol=0)
    clean_noise.clear()
    values = model.predict(context, torch.zeros(2, 3), noise, steps)
    torch.testing.assert_close(values, batch["values"][:, None, 1:].expand(2, 3, 1), atol=1e-4, rtol=0)


def test_the_first_stage_trains_the_video_alone() -> None:
    model = _model(weights={"video": 1.0})
    assert (model.window.states, model.window.actions, model.window.pictures) == ((), (), ())
    batch = model.example_batch(2)
    losses = model.losses({name: batch[name] for name in ("latents", "tokens")})
    assert losses.keys() == {"video"}
    losses["video"].backward()
    assert all(p.grad is None for p in model.expert.blocks.parameters())
    assert model.video.blocks[0].attn1.to_q.weight.grad.abs().sum() > 0


def test_a_window_asks_for_a_frame_the_chunks_actions_and_the_frames_they_lead_to() -> None:
    class Numbers:
        def read(self, indices: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(indices)[:, None, None, None, None]

    numbers = np.arange(60, dtype=np.float32)[:, None]
    episode = TrainingEpisode(
        np.arange(60) / 10, np.linspace(0, 1, 60), "push", Numbers(), states=numbers, actions=numbers, pixels=Numbers()
    )
    dataset = WindowDataset([episode], 2.0, _model().window, Augmentation(rewind=0, random_prefix=0), seed=0)
    ends = 0
    for number in range(100):
        sample = dataset[number]
        now = int(sample["items"][0])
        assert sample["items"].flatten().tolist() == [min(now + i, 59) for i in range(9)]
        assert sample["states"].item() == sample["pictures"].item() == now
        known = sample["actions"].flatten()
        expected = [float(now + i) for i in range(8) if now + i < 60]
        assert known[: len(expected)].tolist() == expected
        assert known[len(expected) :].isnan().all()
        ends += len(expected) < 8
    assert ends > 0


def test_it_is_a_value_model_and_refuses_what_does_not_fit() -> None:
    assert isinstance(_model(), ValueModel)
    with pytest.raises(DataError, match="multiple of 4"):
        _model(chunk=6)
    with pytest.raises(DataError, match="one of: velocity, data, noise"):
        _model(parameterizations={"video": "velocity", "action": "x", "value": "data"})


def test_at_the_papers_size_it_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        model = MVWAM(mv_wam_wan21_1b().estimator.model)
    counted = sum(p.numel() for part in (model.video, model.expert) for p in part.parameters())
    assert counted == 1_918_262_209  # 1.9 B without text and vision encoders, as the paper says
