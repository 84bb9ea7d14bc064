from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldvalue.data.augment import Augmentation, moved, randomize_prefix, rewind, shift, wrong_instructions
from worldvalue.data.value_targets import retry_curve
from worldvalue.data.windows import TrainingEpisode, WindowDataset, nearest, scoring_starts
from worldvalue.types import Window

WINDOW = Window(chunk=4, shown=tuple(range(9)), seen=5, states=(1, 2, 3, 4))
PLAIN = Augmentation(rewind=0.0, plateau=0.0, random_prefix=0.0)


class _Numbers:
    """Items that are the frame numbers themselves, as pictures of one pixel: a window tells which frames it shows."""

    def read(self, indices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(indices)[:, None, None, None]


def _dataset(augmentation: Augmentation, length: int = 120, m: int = 50, n: int = 70, seed: int = 0) -> WindowDataset:
    values = retry_curve(length, m, n)
    episode = TrainingEpisode(np.arange(length) / 10, values, "lift the cube", _Numbers())
    return WindowDataset([episode], rate=2.0, window=WINDOW, augmentation=augmentation, seed=seed)


def test_a_plain_window_runs_forward_at_the_rate_and_carries_the_values_of_its_frames() -> None:
    dataset = _dataset(PLAIN)
    truth = dataset.episodes[0].values
    for number in range(50):
        sample = dataset[number]
        frames = sample["items"].flatten().numpy()
        inside = (frames > 0) & (frames < 119)
        assert set(np.diff(frames)[inside[1:] & inside[:-1]]) <= {5}
        np.testing.assert_allclose(sample["values"], truth[frames[:5]], rtol=1e-6)


def test_the_ends_of_an_episode_are_shown_about_as_often_as_its_middle() -> None:
    dataset = _dataset(PLAIN)
    shown = np.concatenate([dataset[number]["items"].flatten().numpy()[1:5] for number in range(20_000)])
    times = np.bincount(shown, minlength=120)
    middle = times[20:100].mean()
    assert 0.5 * middle < times[0] < 2 * middle
    assert 0.5 * middle < times[119] < 2 * middle


@given(seed=st.integers(0, 1000))
def test_the_values_of_a_rewound_window_follow_its_frames(seed: int) -> None:
    dataset = _dataset(Augmentation(rewind=1.0, plateau=0.0, random_prefix=0.0), seed=seed)
    sample = dataset[0]
    frames = sample["items"].flatten().numpy()
    assert (np.diff(frames) <= 0).all()
    np.testing.assert_allclose(sample["values"], dataset.episodes[0].values[frames[:5]], rtol=1e-6)


def test_a_plateau_shows_one_frame_and_one_value() -> None:
    sample = _dataset(Augmentation(rewind=1.0, plateau=1.0, random_prefix=0.0))[3]
    assert len(set(sample["items"].flatten().tolist())) == 1
    assert len(set(sample["values"].tolist())) == 1


def test_rewinds_and_plateaus_come_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    settings = Augmentation()
    kinds = [np.sign(np.diff(rewind(np.arange(9), settings, rng)).sum()) for _ in range(20_000)]
    assert np.mean(np.equal(kinds, 1)) == pytest.approx(0.5, abs=0.01)
    assert np.mean(np.equal(kinds, 0)) == pytest.approx(0.05, abs=0.005)
    assert np.mean(np.equal(kinds, -1)) == pytest.approx(0.45, abs=0.01)


def test_a_randomized_prefix_leaves_the_chunk_alone() -> None:
    rng = np.random.default_rng(0)
    values = np.linspace(0.2, 0.6, 5, dtype=np.float32)
    drawn = [randomize_prefix(values, Augmentation(random_prefix=1.0), rng) for _ in range(2000)]
    assert all(np.array_equal(d[1:], values[1:]) for d in drawn)
    assert np.mean([d[0] for d in drawn]) == pytest.approx(0.5, abs=0.03)
    assert np.array_equal(randomize_prefix(values, Augmentation(random_prefix=0.0), rng), values)


@given(side=st.integers(4, 40), share=st.floats(0, 0.5), seed=st.integers(0, 1000))
def test_a_shift_moves_a_side_by_at_most_its_share_and_repeats_the_edge(side: int, share: float, seed: int) -> None:
    by = shift(side, Augmentation(shift=share), np.random.default_rng(seed))
    assert abs(by) <= share * side
    padded = np.pad(np.arange(side), abs(by), mode="edge")
    np.testing.assert_array_equal(moved(side, by), padded[abs(by) + by :][:side])


def test_all_frames_of_a_window_are_shifted_alike() -> None:
    pictures = torch.arange(64.0).reshape(1, 1, 8, 8)

    class Still:
        def read(self, indices: np.ndarray) -> torch.Tensor:
            return pictures.repeat(len(indices), 1, 1, 1)

    episode = TrainingEpisode(np.arange(60) / 10, np.linspace(0, 1, 60), "lift the cube", Still())
    dataset = WindowDataset([episode], 2.0, WINDOW, Augmentation(shift=0.25), seed=0)
    shown = [dataset[number]["items"] for number in range(40)]
    assert all((items == items[:1]).all() for items in shown)
    assert len({float(items[0, 0, 4, 4]) for items in shown}) > 8  # of the 25 shifts by 2 pixels or less
    assert 10 <= sum(torch.equal(items[0], pictures[0]) for items in shown) <= 30  # half stay where they are


def test_what_a_model_sees_as_pixels_moves_with_what_its_autoencoder_made_of_them() -> None:
    finer = torch.arange(256.0).reshape(1, 1, 16, 16)

    class Still:
        def __init__(self, picture: torch.Tensor) -> None:
            self.picture = picture

        def read(self, indices: np.ndarray) -> torch.Tensor:
            return self.picture.repeat(len(indices), 1, 1, 1)

    codes = finer[..., ::2, ::2]
    episode = TrainingEpisode(
        np.arange(60) / 10, np.linspace(0, 1, 60), "lift the cube", Still(codes), pixels=Still(finer)
    )
    window = replace(WINDOW, pictures=(1,))
    dataset = WindowDataset([episode], 2.0, window, Augmentation(shift=0.25), seed=0)
    for number in range(40):
        sample = dataset[number]
        inner = (..., slice(2, 6), slice(2, 6))  # at the edges, codes repeat two pixels and pixels one
        assert torch.equal(sample["items"][:1][inner], sample["pictures"][..., ::2, ::2][inner])


def test_states_are_those_of_the_windows_own_frames() -> None:
    states = np.arange(60, dtype=np.float32)[:, None] * [[1, 10]]
    episode = TrainingEpisode(np.arange(60) / 10, np.linspace(0, 1, 60), "lift", _Numbers(), states=states)
    dataset = WindowDataset([episode], 2.0, WINDOW, Augmentation(), seed=0)
    for number in range(20):
        sample = dataset[number]
        shown = sample["items"].flatten(1)[1:5, 0]
        assert torch.equal(sample["states"][:, 0].double(), shown.double())
        assert torch.equal(sample["states"][:, 1], 10 * sample["states"][:, 0])


def test_a_window_told_another_tasks_instruction_has_no_value() -> None:
    things = {"can": None, "milk": None, "bread": "take the can"}
    episodes = [
        TrainingEpisode(np.arange(60) / 10, np.linspace(0.5, 1, 60), f"take the {thing}", _Numbers(), thing, other)
        for thing, other in things.items()
    ]
    dataset = WindowDataset(episodes, 2.0, WINDOW, Augmentation(rewind=0, random_prefix=0, swap=0.3), seed=0)
    always = WindowDataset(episodes, 2.0, WINDOW, Augmentation(rewind=0, random_prefix=0), seed=0)
    wrong = 0
    heard = set()
    for number in range(600):
        told, right = dataset[number], always[number]
        assert torch.equal(told["items"], right["items"])
        if told["instruction"] == right["instruction"]:
            assert torch.equal(told["values"], right["values"])
        else:
            assert not told["values"][1:].any()
            heard.add((right["instruction"], told["instruction"]))
            wrong += 1
    assert wrong / 600 == pytest.approx(0.3, abs=0.06)
    assert len(heard) == 6


def test_one_task_in_two_scenes_is_not_wrong_for_itself() -> None:
    told = {"can": ["take it", "grab it"], "can_of_four": ["grab it"], "milk": ["pour it", "pour it"]}
    assert wrong_instructions(told) == {"can": ["pour it"], "can_of_four": ["pour it"], "milk": ["grab it", "take it"]}


def test_without_another_task_every_instruction_stays() -> None:
    dataset = _dataset(Augmentation(swap=1.0))
    assert {dataset[number]["instruction"] for number in range(20)} == {"lift the cube"}


@given(frames=st.integers(1, 60), stride=st.integers(1, 4))
def test_scoring_windows_cover_every_frame_and_none_beyond_a_full_chunk(frames: int, stride: int) -> None:
    starts = scoring_starts(frames, chunk=4, stride=stride)
    covered = {s + 1 + i for s in starts for i in range(4)}
    assert set(range(frames)) <= covered
    assert starts[0] == -1
    assert starts[-1] == max(frames - 5, -1)
    assert (np.diff(starts) >= 0).all()
    assert len(set(starts)) == len(starts)


@given(
    gaps=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=20),
    times=st.lists(st.floats(-2, 25), min_size=1, max_size=9),
)
def test_nearest_is_the_frame_nearest_in_time(gaps: list[float], times: list[float]) -> None:
    stamps = np.concatenate(([0.0], np.cumsum(gaps)))
    found = nearest(stamps, np.array(times))
    for time, index in zip(times, found, strict=True):
        assert abs(stamps[index] - time) == pytest.approx(np.abs(stamps - time).min())


def test_samples_depend_on_seed_and_number_alone() -> None:
    one, other = _dataset(Augmentation()), _dataset(Augmentation())
    for number in (7, 3, 7):
        assert torch.equal(one[number]["items"], other[number]["items"])
    assert any(not torch.equal(one[i]["items"], _dataset(Augmentation(), seed=1)[i]["items"]) for i in range(5))
