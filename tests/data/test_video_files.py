from __future__ import annotations

import json

import numpy as np
import pytest

from worldvalue.data import ManifestRow, encode_video, open_episodes, write_manifest
from worldvalue.types import DataError, Labels


@pytest.fixture
def folder(tmp_path, moving_square):
    """Three videos; ``sub/c.mp4`` lies deeper."""
    for name, length in (("a.mp4", 12), ("b.mp4", 8), ("sub/c.mp4", 5)):
        encode_video(tmp_path / name, moving_square(length), fps=10)
    (tmp_path / "notes.txt").write_text("not a video")
    return tmp_path


def manifest(folder, *rows):
    write_manifest(folder / "labels.jsonl", rows)


def test_a_single_video(folder):
    dataset = open_episodes(folder / "b.mp4", instruction="push the square")
    assert len(dataset) == 1
    episode = dataset[0]
    assert (episode.name, episode.instruction, episode.fps, episode.length) == (
        "b.mp4",
        "push the square",
        10,
        8,
    )
    assert (episode.first_row, episode.labels, episode.actions, episode.success) == (0, None, None, None)
    np.testing.assert_allclose(episode.timestamps, np.arange(8) / 10)
    assert episode.frames([7, 0]).shape == (2, 48, 64, 3)


def test_a_folder_without_manifest_is_read_by_name(folder):
    dataset = open_episodes(folder, instruction="push")
    assert [episode.name for episode in dataset] == ["a.mp4", "b.mp4"]
    assert [episode.first_row for episode in dataset] == [0, 12]
    assert {episode.instruction for episode in dataset} == {"push"}


def test_a_manifest_gives_order_instructions_and_labels(folder):
    hesitant = Labels(8, "hesitation", 2, 4, True, "push")
    manifest(
        folder,
        ManifestRow("push left", 10, hesitant, "b.mp4"),
        ManifestRow("push right", 10, Labels(0, success=False), "sub/c.mp4"),
    )
    dataset = open_episodes(folder)
    assert [episode.name for episode in dataset] == ["b.mp4", "sub/c.mp4"]
    assert [episode.instruction for episode in dataset] == ["push left", "push right"]
    assert dataset[0].labels == hesitant
    assert dataset[1].labels == Labels(5, success=False)
    assert dataset[1].success is False
    assert open_episodes(folder, instruction="pull")[0].instruction == "pull"


def test_first_rows_are_the_same_in_any_order_of_opening(folder):
    rows = [ManifestRow("push", 10, Labels(0), name) for name in ("a.mp4", "sub/c.mp4", "b.mp4")]
    manifest(folder, *rows)
    dataset = open_episodes(folder)
    assert [dataset[i].first_row for i in (2, 0, 1)] == [17, 0, 12]


def test_a_bad_video_spoils_only_its_episode(folder):
    (folder / "a.mp4").write_bytes(b"")
    dataset = open_episodes(folder, instruction="push")
    with pytest.raises(DataError, match=r"a\.mp4 is an empty file"):
        dataset[0]
    assert len(dataset[1].frames()) == 8


def test_a_missing_video_spoils_only_its_episode(folder):
    manifest(folder, *(ManifestRow("push", 10, Labels(0), name) for name in ("gone.mp4", "b.mp4")))
    dataset = open_episodes(folder)
    with pytest.raises(DataError, match=r"gone\.mp4 is missing"):
        dataset[0]
    assert dataset[1].length == 8


def test_the_manifests_rate_wins_over_a_wrong_one_in_the_file(folder, moving_square):
    encode_video(folder / "b.mp4", moving_square(8), fps=30)
    manifest(folder, ManifestRow("push", 10, Labels(0), "b.mp4"))
    episode = open_episodes(folder)[0]
    np.testing.assert_allclose(episode.timestamps, np.arange(8) / 10)
    assert len(episode.frames()) == 8


def test_labels_outside_the_video_spoil_only_their_episode(folder):
    manifest(
        folder,
        ManifestRow("push", 10, Labels(0, "retry", 3, 8), "b.mp4"),
        ManifestRow("push", 10, Labels(0), "a.mp4"),
    )
    dataset = open_episodes(folder)
    with pytest.raises(DataError, match=r"labels of b\.mp4 are wrong: .* outside the episode's frames 0 to 7"):
        dataset[0]
    assert dataset[1].length == 12


def test_an_unknown_camera_is_refused(folder):
    with pytest.raises(DataError, match="no camera 'wrist'; choose one of: video"):
        open_episodes(folder / "a.mp4", instruction="push")[0].frames([0], camera="wrist")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "does not exist"),
        ("empty", "is not a dataset"),
        ("a.mp4", "comes with no instruction"),
        (".", r"no labels\.jsonl with instructions"),
    ],
)
def test_what_cannot_be_opened_is_said_in_a_sentence(folder, name, message):
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        open_episodes(folder / name)


def test_a_manifest_must_name_videos(folder):
    (folder / "labels.jsonl").write_text(json.dumps({"instruction": "push", "fps": 10}))
    with pytest.raises(DataError, match="without 'video'"):
        open_episodes(folder)
    (folder / "labels.jsonl").write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        open_episodes(folder)
