"""Who may see whom, that the video is read once for all draws, and that numbers come back in their own units."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.small import small_wav_config

from worldvalue.backbones.ltx_video import LTXVideoDiT
from worldvalue.data.augment import Augmentation
from worldvalue.data.rewards import dense_rewards
from worldvalue.data.windows import TrainingEpisode, WindowDataset
from worldvalue.models import Estimator
from worldvalue.models.wav import WAV, Context, signal_to_noise
from worldvalue.recipes.published import wav_ltx_2b
from worldvalue.training.episodes import DenseReturns
from worldvalue.types import DataError, Episode, Labels, ValueModel


def _model(**changes: object) -> WAV:
    torch.manual_seed(0)
    config = small_wav_config()
    model = Estimator(replace(config, model=replace(config.model, **changes))).eval().model
    for stream in (model.value, model.action):  # silent at the start of training
        torch.nn.init.normal_(stream.proj_out.weight, std=0.5)
    return model


def _observed(model: WAV, batch: dict[str, torch.Tensor]) -> Context:
    given = batch["latents"][:, :, :, : 1 + model.config.memory]
    return model.observe({**batch, "latents": given, "text": model.text(batch["tokens"])})


@torch.no_grad()
def test_the_value_reads_the_video_and_actions_read_it_and_see_the_value_too() -> None:
    model = _model()
    context, sigma = _observed(model, model.example_batch(2)), torch.tensor([0.3, 0.8])
    video, value, action = torch.randn(2, *model.video_shape), torch.randn(2, 8, 1), torch.randn(2, 8, 2)

    def told(video: torch.Tensor, value: torch.Tensor, action: torch.Tensor, context: Context) -> list[torch.Tensor]:
        velocity, imagined = model._see(video, sigma, context)
        of_value, seen = model._value(value, sigma, model.value.read_layers(imagined.hidden))
        read = model.action.read_layers(imagined.hidden)
        return [velocity, of_value, model._action(action, sigma, read, seen, context)]

    before = told(video, value, action, context)
    for changed, expected in (
        (told(video + 1, value, action, context), [True, True, True]),
        (told(video, value + 1, action, context), [False, True, True]),
        (told(video, value, action + 1, context), [False, False, True]),
        (told(video, value, action, context._replace(state=context.state + 1)), [False, False, True]),
        (told(video, value, action, context._replace(clean=context.clean + 1)), [True, True, True]),
    ):
        assert [not torch.equal(a, b) for a, b in zip(before, changed, strict=True)] == expected


def test_memory_frames_and_now_stand_clean_at_their_times_before_the_noised_future() -> None:
    model = _model()
    caught = []
    hook = model.video.register_forward_pre_hook(lambda _, given: caught.append(given))
    batch = model.example_batch(2)
    model.losses(batch)
    hook.remove()
    ((clip, levels, times, *_),) = caught
    assert torch.equal(clip[:, :, :, :3], batch["latents"][:, :, :, :3])
    assert not levels[:, :3].any()
    assert torch.equal(levels[:, 3], levels[:, 4])
    assert (levels[:, 3] > 0).all()
    torch.testing.assert_close(times[0], torch.tensor([-1.0, -0.5, 0.0, 0.4, 0.8]))  # 5 and 4 frames of 10 a second


@torch.no_grad()
def test_padding_of_a_pretrained_text_encoder_is_not_seen_and_that_of_its_own_is() -> None:
    """LTX-Video has learned with a mask; a stream that learns together with its text encoder never had one."""
    context, sigma = _observed(_model(), _model().example_batch(2)), torch.tensor([0.3, 0.8])
    words = torch.randn(2, 5, 16)
    short, long = (context._replace(text=torch.nn.functional.pad(words, (0, 0, 0, more))) for more in (3, 7))
    for model, sees_padding in ((_model(), True), (_model(text=None), False)):
        noised = torch.randn(2, *model.video_shape)
        velocities = [model._see(noised, sigma, told)[0] for told in (short, long)]
        assert torch.allclose(*velocities, atol=1e-5) != sees_padding


@pytest.mark.parametrize(
    ("weights", "moved"),
    [
        ({"video": 1.0}, (True, False, False)),
        ({"value": 1.0}, (True, True, False)),
        ({"action": 1.0}, (True, True, True)),
    ],
)
def test_each_stages_loss_moves_what_it_is_made_of(weights: dict, moved: tuple[bool, ...]) -> None:
    model = _model(weights=weights)
    losses = model.losses(model.example_batch(2))
    assert losses.keys() == weights.keys()
    sum(losses.values()).backward()
    parts = (model.video.transformer_blocks, model.value.blocks, model.action.blocks)
    assert tuple(any(p.grad is not None for p in part.parameters()) for part in parts) == moved


@torch.no_grad()
def test_several_draws_of_a_window_cost_what_as_many_windows_of_one_video_would() -> None:
    model = _model()
    batch = model.example_batch(2)
    context = _observed(model, batch)
    _, imagined = model._see(torch.randn(2, *model.video_shape), torch.tensor([0.3, 0.8]), context)
    losses = []
    for draws, copies in ((3, 1), (1, 3)):
        model.config = replace(model.config, value_draws=draws)
        rows = {name: x.repeat_interleave(copies, 0) for name, x in batch.items()}
        hidden = [x.repeat_interleave(copies, 0) for x in imagined.hidden]
        given = Context(*(x.repeat_interleave(copies, 0) for x in context))
        torch.manual_seed(0)
        losses.append(model._losses_of_streams(rows, imagined._replace(hidden=hidden), given))
    torch.testing.assert_close(*losses)


def test_actions_beyond_the_end_teach_nothing_and_break_nothing() -> None:
    model = _model()
    batch = model.example_batch(2)
    batch["actions"][0, 3:] = torch.nan
    original = model._action

    def shifted(*given: object) -> torch.Tensor:
        out = original(*given).clone()
        out[0, 3:] += 100.0
        return out

    torch.manual_seed(1)
    loss = model.losses(batch)["action"]
    model._action = shifted
    torch.manual_seed(1)
    assert torch.equal(loss, model.losses(batch)["action"])
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_the_video_is_seen_once_however_many_values_are_drawn_of_it_and_draws_are_independent() -> None:
    model = _model()
    context = _observed(model, model.example_batch(2))
    seen = []
    hook = model.video.register_forward_pre_hook(lambda *_: seen.append(1))
    imagined = model.imagine(context, torch.randn(2, *model.video_shape), steps=2)
    noise = torch.randn(2, 5, 8)
    together, _ = model.values(imagined, noise, steps=3)
    hook.remove()
    assert len(seen) == 2
    alone = torch.cat([model.values(imagined, noise[:, i : i + 1], steps=3)[0] for i in range(5)], dim=1)
    torch.testing.assert_close(together, alone)


@torch.no_grad()
def test_perfect_streams_give_back_values_and_actions_in_their_units() -> None:
    model = _model()
    model.scales["value"].fit(np.array([[0.2], [0.8]]))
    model.scales["action"].fit(np.array([[0.0, -4.0], [2.0, 4.0]]))
    batch = model.example_batch(2)
    batch["values"] = batch["values"] * 0.6 + 0.2
    context = _observed(model, batch)
    value = model.scales["value"](batch["values"][:, 1:, None])
    action = model.scales["action"](batch["actions"])
    model._value = lambda x, sigma, _: ((x - value.repeat_interleave(len(x) // 2, 0)) / sigma[:, None, None], [])
    model._action = lambda x, sigma, *_: (x - action) / sigma[:, None, None]
    imagined = model.imagine(context, torch.randn(2, *model.video_shape), steps=1)
    for steps in (1, 4):
        chunk, seen = model.values(imagined, torch.randn(2, 3, 8), steps)
        torch.testing.assert_close(chunk, batch["values"][:, None, 1:].expand(2, 3, 8), atol=1e-5, rtol=0)
        found = model.actions(context, imagined, seen, torch.randn(2, 8, 2), steps)
        torch.testing.assert_close(found, batch["actions"], atol=1e-5, rtol=0)
    acted = model.act(context, torch.randn(2, 1, *model.acting_noise_shape))
    torch.testing.assert_close(acted[:, 0], batch["actions"], atol=1e-5, rtol=0)
    now = model.predict(context, torch.zeros(2, 3), torch.randn(2, 3, *model.noise_shape))
    torch.testing.assert_close(now[..., 0], batch["values"][:, 1:2].expand(2, 3), atol=1e-5, rtol=0)


def test_a_steady_high_value_scores_more_than_a_wavering_one_of_the_same_mean() -> None:
    steady, wavering = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0])
    assert signal_to_noise(steady) > signal_to_noise(wavering)
    assert signal_to_noise(wavering).item() == pytest.approx(0.5 / np.std([0, 0.5, 1]), rel=1e-4)


def test_a_window_asks_for_memory_now_and_the_chunk_and_learns_its_values() -> None:
    class Numbers:
        def read(self, indices: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(indices)[:, None, None, None, None]

    numbers = np.arange(60, dtype=np.float32)[:, None]
    episode = TrainingEpisode(
        np.arange(60) / 10, np.linspace(0, 1, 60), "push", Numbers(), states=numbers, actions=numbers
    )
    dataset = WindowDataset([episode], 2.0, _model().window, Augmentation(rewind=0, random_prefix=0), seed=0)
    seen = set()
    for number in range(200):
        sample = dataset[number]
        now = int(sample["states"])
        seen.add(now)
        expected = [now - 10, now - 5, *(now + i for i in range(9))]
        assert sample["items"].flatten().tolist() == [min(max(frame, 0), 59) for frame in expected]
        torch.testing.assert_close(sample["values"][1:] * 59, torch.tensor([float(min(now + i, 59)) for i in range(8)]))
    assert {0, 59} <= seen


def test_dense_returns_stay_at_their_best_once_the_episode_ends() -> None:
    class Frames:
        def read(self, camera: str, indices: object) -> np.ndarray:
            return np.stack([np.full((16, 16, 3), 4 * index, dtype=np.uint8) for index in indices])

    still = np.zeros((30, 2), dtype=np.float32)
    known = {"proprioception": still, "actions": still}
    episode = Episode(0, "one", "push", 10.0, np.arange(30) / 10, ("front",), Frames(), **known)
    values = DenseReturns(4, 0.9)(episode)
    rewards = dense_rewards([episode.frames()], [still], [still])
    weights = 0.9 ** np.arange(5)
    assert values[3] == pytest.approx(rewards[3:8] @ weights / weights.sum())
    assert values[-1] == pytest.approx(rewards[-1])
    assert (np.diff(values) > 0).all()
    failed = replace(episode, labels=Labels(30, "failure", success=False))
    assert DenseReturns(4, 0.9)(failed) is None
    with pytest.raises(DataError, match="no proprioception or no actions"):
        DenseReturns(4, 0.9)(replace(episode, actions=None))


def test_dense_rewards_are_made_once_and_then_read(tmp_path: Path) -> None:
    class Frames:
        def read(self, camera: str, indices: object) -> np.ndarray:
            return np.stack([np.full((16, 16, 3), index, dtype=np.uint8) for index in indices])

    still = np.zeros((30, 2), dtype=np.float32)
    episode = Episode(
        7, "one", "push", 10.0, np.arange(30) / 10, ("front",), Frames(), proprioception=still, actions=still
    )
    targets = DenseReturns(4, 0.9, folder=tmp_path)
    values = targets(episode)
    np.testing.assert_array_equal(values, DenseReturns(4, 0.9)(episode))
    unreadable = replace(episode, reader=None)
    np.testing.assert_array_equal(targets(unreadable), values)


def test_it_is_a_value_model_and_refuses_what_does_not_fit() -> None:
    assert isinstance(_model(), ValueModel)
    config = small_wav_config().model
    with pytest.raises(DataError, match="multiple of 4"):
        _model(chunk=6)
    with pytest.raises(DataError, match="another depth"):
        _model(stream=replace(config.stream, layers=3))


def test_at_the_papers_size_it_has_about_the_papers_parameters() -> None:
    with torch.device("meta"):
        model = WAV(wav_ltx_2b().estimator.model)
    assert isinstance(model.video, LTXVideoDiT)
    counted = sum(p.numel() for p in model.parameters())
    assert round(counted / 1e9, 1) == 2.2
