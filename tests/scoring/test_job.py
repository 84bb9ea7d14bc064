"""The resumable job: fixed groups, the same bytes after an interruption, one bad episode stops nothing."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.small import AtWork

from worldvalue.data import open_episodes
from worldvalue.data.identity import dataset_identity, weights_identity
from worldvalue.scoring.job import Job, ScoreGroup, write_table
from worldvalue.scoring.shards import Shards
from worldvalue.types import DataError


def job_of(folder: Path, out: Path, score_group: ScoreGroup, **identity: object) -> Job:
    source = open_episodes(folder)
    return Job(source, score_group, Shards(out, {**identity, "dataset": dataset_identity(source)}), group=3)


def shard_bytes(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(out.glob(".shards/*/group_*.parquet"))]


def test_an_interrupted_job_gives_the_same_bytes(
    make_folder: Callable[..., Path], tmp_path: Path, score_group: ScoreGroup
):
    folder = make_folder(8)
    assert [len(group) for group in job_of(folder, tmp_path / "whole", score_group).run()] == [3, 3, 2]
    for stop_after in (1, 2):
        out = tmp_path / f"stopped_{stop_after}"
        assert len(list(islice(job_of(folder, out, score_group).run(), stop_after))) == stop_after
        # What a kill in the middle of a write leaves behind must not be taken for a finished group.
        next(out.glob(".shards/*")).joinpath(".partial-group_000002.parquet").write_bytes(b"torn")
        again = job_of(folder, out, score_group)
        assert again.missing() == list(range(stop_after, 3))
        assert len(list(again.run())) == 3 - stop_after
        assert shard_bytes(out) == shard_bytes(tmp_path / "whole")
        assert list(job_of(folder, out, score_group).run()) == []


def test_curves_are_read_back_exactly(make_folder: Callable[..., Path], tmp_path: Path, score_group: ScoreGroup):
    job = job_of(make_folder(4), tmp_path / "out", score_group)
    scored = [one for group in job.run() for one in group]
    back = list(job.results())
    assert [one.name for one in back] == [f"{number}.mp4" for number in range(4)]
    for before, after in zip(scored, back, strict=True):
        assert before.curve is not None
        assert after.curve is not None
        for name in ("timestamps", "mean", "std", "q10", "q50", "q90", "scored"):
            np.testing.assert_array_equal(getattr(after.curve, name), getattr(before.curve, name))
            assert getattr(after.curve, name).dtype == getattr(before.curve, name).dtype
    assert [episode.index for episode, _ in job.curves({1, 3})] == [1, 3]


def test_a_bad_episode_is_told_and_the_rest_is_scored(
    make_folder: Callable[..., Path], tmp_path: Path, score_group: ScoreGroup
):
    def fails_on_the_second(episodes):
        return [
            DataError("Torn.") if e.name == "4.mp4" else c for e, c in zip(episodes, score_group(episodes), strict=True)
        ]

    job = job_of(make_folder(6, bad=[1]), tmp_path / "out", AtWork(fails_on_the_second))
    assert sum(len(group) for group in job.run()) == 6
    rows = job.rows()
    assert [row.index for row in rows if row.error] == [1, 4]
    assert "1.mp4 is missing" in str(rows[1].error)
    assert rows[4].error == "Torn."
    assert [episode.index for episode, _ in job.curves()] == [0, 2, 3, 5]
    write_table(tmp_path / "episodes.csv", rows)
    with (tmp_path / "episodes.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["episode_index"] for line in lines] == list("012345")
    assert lines[1]["final_value"] == ""
    assert "missing" in lines[1]["error"]
    assert lines[0]["instruction"] == "make it <red> & \u201c0\u201d"
    assert float(lines[2]["final_value"]) == pytest.approx(0.98 + 0.01 + 0.002, abs=0.02)


def test_groups_of_another_run_are_told_and_not_used(
    make_folder: Callable[..., Path], tmp_path: Path, score_group: ScoreGroup
):
    folder, out = make_folder(3), tmp_path / "out"
    list(job_of(folder, out, score_group, model="a", settings={"stride": 1}).run())
    other = job_of(folder, out, score_group, model="b", settings={"stride": 1})
    assert other.missing() == [0]
    (note,) = other.shards.strangers()
    assert "differs in model;" in note
    assert job_of(folder, out, score_group, model="a", settings={"stride": 1}).missing() == []


def test_the_identity_of_a_dataset_follows_its_files_but_not_our_outputs(make_folder: Callable[..., Path]):
    folder = make_folder(2)
    before = dataset_identity(open_episodes(folder))
    sidecar = folder / "worldvalue_progress.parquet"
    sidecar.write_bytes(b"ours")
    assert dataset_identity(open_episodes(folder), ignore=[sidecar]) == before
    (folder / "0.mp4").write_bytes((folder / "1.mp4").read_bytes())
    assert dataset_identity(open_episodes(folder), ignore=[sidecar]) != before


def test_a_link_that_leads_nowhere_spoils_its_episode_only(
    make_folder: Callable[..., Path], tmp_path: Path, score_group: ScoreGroup
):
    folder = make_folder(2)
    (folder / "1.mp4").unlink()
    (folder / "1.mp4").symlink_to(tmp_path / "nowhere.mp4")
    dataset_identity(open_episodes(folder))
    job = job_of(folder, tmp_path / "out", score_group)
    ((first, second),) = job.run()
    assert first.curve is not None
    assert "1.mp4 is missing" in str(second.error)


def test_the_identity_of_weights_follows_values_and_names():
    first = torch.nn.Linear(3, 2).to(torch.bfloat16)
    second = torch.nn.Linear(3, 2).to(torch.bfloat16)
    second.load_state_dict(first.state_dict())
    assert weights_identity(first) == weights_identity(second)
    with torch.no_grad():
        second.weight[0, 0] += 1
    assert weights_identity(first) != weights_identity(second)
    assert weights_identity(torch.nn.Sequential(first)) != weights_identity(first)
