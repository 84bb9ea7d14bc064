from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from worldvalue.data import EpisodeRecord, FileLimits, encode_video, open_episodes, write_lerobot
from worldvalue.types import DataError

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
NAMES = {"observation.state": list("abcde"), "action": list("xy")}


@pytest.fixture
def records(make_record):
    lengths = (11, 1, 20, 7, 5)
    words = ("push", "push", "pull the square", "push", "löse")
    return [make_record(i, *what) for i, what in enumerate(zip(lengths, words, strict=True))]


def test_what_is_written_is_read_back(tmp_path, records, moving_square):
    write_lerobot(tmp_path / "dataset", iter(records), 10, NAMES, robot_type="panda")
    dataset = open_episodes(tmp_path / "dataset")
    assert len(dataset) == len(records)
    first_row = 0
    for index, (episode, record) in enumerate(zip(dataset, records, strict=True)):
        assert (episode.index, episode.first_row, episode.length) == (index, first_row, record.length)
        assert episode.instruction == record.instruction
        assert episode.cameras == (FRONT, WRIST)
        np.testing.assert_array_equal(episode.proprioception, record.columns["observation.state"])
        np.testing.assert_array_equal(episode.actions, record.columns["action"])
        np.testing.assert_array_equal(episode.timestamps, np.arange(record.length) / 10)
        assert np.abs(episode.frames().astype(int) - moving_square(record.length, 40 * index)).mean() < 4
        first_row += record.length


def test_joined_videos_hold_exactly_the_frames_of_the_clips(tmp_path, records):
    write_lerobot(tmp_path / "dataset", records, 10, NAMES)
    for episode, record in zip(open_episodes(tmp_path / "dataset"), records, strict=True):
        for camera, clip in record.videos.items():
            alone = open_episodes(clip, instruction="any")[0].frames()
            np.testing.assert_array_equal(episode.frames(camera=camera), alone)


def test_a_rate_that_is_no_whole_number_keeps_its_times(tmp_path, moving_square):
    clips = [tmp_path / f"{n}.mp4" for n in range(3)]
    for clip in clips:
        encode_video(clip, moving_square(31), fps=29.97)
    records = [EpisodeRecord("go", {FRONT: clip}, {"action": np.zeros((31, 2), np.float32)}) for clip in clips]
    write_lerobot(tmp_path / "dataset", records, 29.97, NAMES)
    episodes = list(open_episodes(tmp_path / "dataset"))
    np.testing.assert_array_equal(episodes[2].frames(), episodes[0].frames())
    np.testing.assert_array_equal(episodes[2].timestamps, np.arange(31) / 29.97)
    assert episodes[2].proprioception is None


def test_files_and_chunks_roll_over_at_their_limits(tmp_path, make_record):
    records = [make_record(i, 6 + i) for i in range(5)]
    tiny = FileLimits(files_per_chunk=2, data_file_mb=1e-6, video_file_mb=1e-6)
    write_lerobot(tmp_path / "dataset", records, 10, NAMES, limits=tiny)
    found = sorted(str(path.relative_to(tmp_path / "dataset")) for path in tmp_path.glob("dataset/data/*/*"))
    assert found == [f"data/chunk-{i // 2:03d}/file-{i % 2:03d}.parquet" for i in range(5)]
    assert len(list(tmp_path.glob(f"dataset/videos/{WRIST}/*/*.mp4"))) == 5
    table = pq.read_table(tmp_path / "dataset/meta/episodes/chunk-000/file-000.parquet")
    assert table[f"videos/{FRONT}/chunk_index"].to_pylist() == [0, 0, 1, 1, 2]
    assert table[f"videos/{FRONT}/file_index"].to_pylist() == [0, 1, 0, 1, 0]
    assert table[f"videos/{FRONT}/from_timestamp"].to_pylist() == [0.0] * 5
    for episode, record in zip(open_episodes(tmp_path / "dataset"), records, strict=True):
        assert len(episode.frames()) == record.length
        np.testing.assert_array_equal(episode.actions, record.columns["action"])


def test_a_limit_of_two_clips_holds_two_clips(tmp_path, make_record):
    records = [make_record(0, 6)] * 5
    size = records[0].videos[FRONT].stat().st_size
    limits = FileLimits(video_file_mb=2.5 * size / 2**20)
    write_lerobot(tmp_path / "dataset", records, 10, NAMES, limits=limits)
    table = pq.read_table(tmp_path / "dataset/meta/episodes/chunk-000/file-000.parquet")
    assert table[f"videos/{FRONT}/file_index"].to_pylist() == [0, 0, 1, 1, 2]
    np.testing.assert_allclose(table[f"videos/{FRONT}/from_timestamp"].to_numpy(), [0, 0.6, 0, 0.6, 0])


def test_each_episode_is_one_row_group(tmp_path, records):
    write_lerobot(tmp_path / "dataset", records, 10, NAMES)
    file = pq.ParquetFile(tmp_path / "dataset/data/chunk-000/file-000.parquet")
    rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert rows == [record.length for record in records]


def test_pandas_sees_the_task_as_the_index(tmp_path, records):
    """LeRobot looks tasks up by ``tasks.iloc[task_index].name``."""
    write_lerobot(tmp_path / "dataset", records, 10, NAMES)
    tasks = pd.read_parquet(tmp_path / "dataset/meta/tasks.parquet")
    assert tasks.index.name == "task"
    assert list(tasks.columns) == ["task_index"]
    assert [tasks.iloc[i].name for i in range(3)] == ["push", "pull the square", "löse"]
    rows = pq.read_table(tmp_path / "dataset/data/chunk-000/file-000.parquet")
    assert rows["task_index"].to_numpy()[[0, 11, 12, 32, 39]].tolist() == [0, 0, 1, 0, 2]


class TestTheSampleWrittenAgain:
    """Our files against those that LeRobot itself wrote from the same episodes."""

    @pytest.fixture
    def again(self, sample, tmp_path):
        records = []
        for episode in open_episodes(sample):
            videos = {camera: tmp_path / f"{episode.index}_{camera}.mp4" for camera in episode.cameras}
            for camera, path in videos.items():
                encode_video(path, episode.frames(camera=camera), episode.fps)
            columns = {"observation.state": episode.proprioception, "action": episode.actions}
            records.append(EpisodeRecord(episode.instruction, videos, columns))
        joints = ["j0", "j1", "j2", "j3", "j4", "j5", "gripper"]
        names = {"observation.state": joints, "action": joints}
        write_lerobot(tmp_path / "again", records, 10, names, robot_type="toy")
        return tmp_path / "again"

    def test_rows_are_equal(self, sample, again):
        path = "data/chunk-000/file-000.parquet"
        theirs, ours = pq.read_table(sample / path), pq.read_table(again / path)
        assert ours.schema.remove_metadata().equals(theirs.schema.remove_metadata())
        assert ours.to_pylist() == theirs.to_pylist()

    def test_tasks_are_equal(self, sample, again):
        pd.testing.assert_frame_equal(*(pd.read_parquet(root / "meta/tasks.parquet") for root in (again, sample)))

    def test_episodes_are_equal_but_for_their_statistics(self, sample, again):
        path = "meta/episodes/chunk-000/file-000.parquet"
        theirs, ours = pq.read_table(sample / path), pq.read_table(again / path)
        kept = [name for name in theirs.column_names if not name.startswith("stats/")]
        assert sorted(ours.column_names) == sorted(kept)
        for name in kept:
            assert ours.schema.field(name).type == theirs.schema.field(name).type
            if name.endswith("timestamp"):
                np.testing.assert_allclose(ours[name].to_numpy(), theirs[name].to_numpy())
            else:
                assert ours[name].to_pylist() == theirs[name].to_pylist()

    def test_info_is_equal_but_for_the_coding_of_the_videos(self, sample, again):
        theirs, ours = (json.loads((root / "meta/info.json").read_text()) for root in (sample, again))
        for info in (theirs, ours):
            for camera in (FRONT, WRIST):
                del info["features"][camera]["info"]
        assert ours == theirs

    def test_statistics_agree(self, sample, again):
        theirs, ours = (json.loads((root / "meta/stats.json").read_text()) for root in (sample, again))
        assert ours.keys() == theirs.keys()
        for key, statistics in theirs.items():
            assert ours[key].keys() == statistics.keys()
            pictures = "images" in key
            for name, values in statistics.items():
                assert np.shape(ours[key][name]) == np.shape(values)
                if pictures and name in ("count", "min", "max"):
                    continue  # they depend on how many frames are looked at, and on the coding
                # LeRobot estimates quantiles from histograms and looks at the pictures before they are coded.
                span = 1.0 if pictures else np.ptp([statistics["min"], statistics["max"]])
                loose = pictures or name.startswith("q")
                np.testing.assert_allclose(ours[key][name], values, atol=0.06 * span if loose else 1e-6 * span)


class TestBadRecords:
    def test_the_folder_must_be_new(self, tmp_path, make_record):
        (tmp_path / "dataset").mkdir()
        (tmp_path / "dataset/precious.txt").touch()
        with pytest.raises(DataError, match="exists already"):
            write_lerobot(tmp_path / "dataset", [make_record(0, 4)], 10, NAMES)

    def test_no_episodes(self, tmp_path):
        with pytest.raises(DataError, match="no episodes"):
            write_lerobot(tmp_path / "dataset", [], 10, NAMES)
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_in_the_middle_leaves_nothing(self, tmp_path, make_record):
        def broken():
            yield make_record(0, 4)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_lerobot(tmp_path / "dataset", broken(), 10, NAMES)
        assert [path.name for path in tmp_path.iterdir()] == ["clips"]

    @pytest.mark.parametrize("rows", [0, 5, 7])
    def test_a_video_must_have_a_frame_for_each_row(self, tmp_path, make_record, rows):
        record = make_record(0, 6)
        bad = replace(record, columns={key: np.resize(a, (rows, a.shape[1])) for key, a in record.columns.items()})
        with pytest.raises(DataError, match=f"6 frames .* {rows} rows" if rows else "columns"):
            write_lerobot(tmp_path / "dataset", [record, bad], 10, NAMES)

    def test_a_video_must_have_the_datasets_rate(self, tmp_path, make_record):
        with pytest.raises(DataError, match="6 rows at 30 fps"):
            write_lerobot(tmp_path / "dataset", [make_record(0, 6)], 30, NAMES)

    def test_columns_and_cameras_must_be_those_of_the_first(self, tmp_path, make_record):
        first, second = make_record(0, 4), make_record(1, 4)
        fewer = replace(second, columns={"action": second.columns["action"]})
        with pytest.raises(DataError, match="same columns"):
            write_lerobot(tmp_path / "dataset", [first, fewer], 10, NAMES)
        blind = replace(second, videos={FRONT: second.videos[FRONT]})
        with pytest.raises(DataError, match="same cameras"):
            write_lerobot(tmp_path / "dataset", [first, blind], 10, NAMES)
