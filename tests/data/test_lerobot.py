from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from worldvalue.data import ManifestRow, encode_video, open_episodes, write_lerobot, write_manifest
from worldvalue.types import DataError, Episode, Labels

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
NAMES = {"observation.state": list("abcde"), "action": list("xy")}


def square_position(episode: Episode) -> np.ndarray:
    """Left edge ``(T,)`` of the front view's red square (16 x 16, its top at row 30 + 12 x episode index)."""
    top = 30 + 12 * episode.index
    band = episode.frames()[:, top + 2 : top + 14].astype(int)
    red = (band[..., 0] > 200) & (band[..., 1] < 40)
    return np.array([np.nonzero(picture)[1].mean() for picture in red]) - 7.5


def edit_info(root, **changes):
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestTheSampleThatLeRobotWrote:
    def test_counts_tasks_and_columns(self, sample):
        dataset = open_episodes(sample)
        assert len(dataset) == 3
        episodes = list(dataset)
        assert [episode.length for episode in episodes] == [24, 30, 18]
        assert [episode.first_row for episode in episodes] == [0, 24, 54]
        assert [episode.index for episode in episodes] == [0, 1, 2]
        assert [episode.name for episode in episodes] == [
            "episode_000000",
            "episode_000001",
            "episode_000002",
        ]
        pick, close = "pick up the red cube", "close the drawer"
        assert [episode.instruction for episode in episodes] == [pick, close, pick]
        assert {episode.cameras for episode in episodes} == {(FRONT, WRIST)}
        assert {episode.fps for episode in episodes} == {10.0}
        for episode in episodes:
            assert episode.proprioception.shape == episode.actions.shape == (episode.length, 7)
            assert episode.proprioception.dtype == episode.actions.dtype == np.float32
            assert episode.labels is None

    def test_timestamps_are_exact(self, sample):
        for episode in open_episodes(sample):
            np.testing.assert_array_equal(episode.timestamps, np.arange(episode.length) / 10)

    def test_every_frame_is_the_right_one(self, sample):
        for episode in open_episodes(sample):
            position = square_position(episode)
            expected = 8 + 96 * np.arange(episode.length) // (episode.length - 1)
            np.testing.assert_allclose(position, expected, atol=1.5)
            assert np.all(np.diff(position) > 0)

    def test_blue_tells_the_episode(self, sample):
        for episode in open_episodes(sample):
            blue = np.median(episode.frames(camera="front")[..., 2], axis=(1, 2))
            np.testing.assert_allclose(blue, 40 * episode.index, atol=3)

    def test_frames_come_in_the_order_asked_for(self, sample):
        episode = open_episodes(sample)[1]
        every = episode.frames(camera=WRIST)
        np.testing.assert_array_equal(episode.frames([29, 0, 13, 13], WRIST), every[[29, 0, 13, 13]])

    def test_a_given_instruction_replaces_the_own(self, sample):
        assert open_episodes(sample, instruction="open the drawer")[1].instruction == "open the drawer"

    def test_indices_out_of_range_are_index_errors(self, sample):
        dataset = open_episodes(sample)
        assert dataset[-1].index == 2
        with pytest.raises(IndexError):
            dataset[3]


class TestLabels:
    def test_are_joined_by_episode_index(self, sample):
        labels = Labels(30, "hesitation", 5, 9, True, "drawer")
        write_manifest(sample / "labels.jsonl", [ManifestRow("close the drawer", 10, labels, episode_index=1)])
        dataset = open_episodes(sample)
        assert [episode.labels for episode in dataset] == [None, labels, None]
        assert dataset[1].success is True

    def test_must_say_which_episode_they_are_about(self, sample):
        write_manifest(sample / "labels.jsonl", [ManifestRow("close the drawer", 10, Labels(30))])
        with pytest.raises(DataError, match="without 'episode_index'"):
            open_episodes(sample)

    def test_of_another_length_spoil_only_their_episode(self, sample):
        rows = [ManifestRow("x", 10, Labels(length), episode_index=i) for i, length in enumerate((24, 31, 18))]
        write_manifest(sample / "labels.jsonl", rows)
        dataset = open_episodes(sample)
        with pytest.raises(DataError, match=r"labels of episode 1 are for T = 31 frames but it has 30"):
            dataset[1]
        assert [dataset[0].length, dataset[2].length] == [24, 18]


@pytest.fixture
def v21(sample, moving_square):
    """The sample's rows as LeRobot v2.1 lays them out, with 2 episodes a chunk and our own pictures."""
    table = pq.read_table(sample / "data/chunk-000/file-000.parquet")
    shutil.rmtree(sample / "data")
    shutil.rmtree(sample / "videos")
    shutil.rmtree(sample / "meta/episodes")
    lines = []
    for index, (length, task) in enumerate([(24, "pick up the red cube"), (30, "close"), (18, "pick")]):
        rows = table.filter(pa.compute.equal(table["episode_index"], index))
        path = sample / f"data/chunk-{index // 2:03d}/episode_{index:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path)
        for key in (FRONT, WRIST):
            video = sample / f"videos/chunk-{index // 2:03d}/{key}/episode_{index:06d}.mp4"
            encode_video(video, moving_square(length, 40 * index), fps=10)
        lines.append({"episode_index": index, "tasks": [task], "length": length})
    (sample / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    edit_info(
        sample,
        codebase_version="v2.1",
        chunks_size=2,
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    )
    return sample


class TestVersion21:
    def test_is_read_like_version_3(self, v21):
        episodes = list(open_episodes(v21))
        assert [episode.length for episode in episodes] == [24, 30, 18]
        assert [episode.first_row for episode in episodes] == [0, 24, 54]
        assert [episode.instruction for episode in episodes] == ["pick up the red cube", "close", "pick"]
        for episode in episodes:
            assert episode.actions.shape == (episode.length, 7)
            frames = episode.frames(camera="wrist")
            assert len(frames) == episode.length
            assert np.median(frames[-1, ..., 2]) == pytest.approx(40 * episode.index, abs=4)

    def test_a_missing_video_spoils_only_its_episode(self, v21):
        (v21 / f"videos/chunk-000/{FRONT}/episode_000001.mp4").unlink()
        dataset = open_episodes(v21)
        with pytest.raises(DataError, match=r"episode_000001\.mp4 is missing"):
            dataset[1].frames([0])
        assert len(dataset[2].frames([17])) == 1

    def test_a_bad_list_of_episodes_is_refused(self, v21):
        (v21 / "meta/episodes.jsonl").write_text('{"length": 3}\n')
        with pytest.raises(DataError, match="does not describe an episode"):
            open_episodes(v21)


class TestPicturesInsideRows:
    @pytest.fixture
    def pictures(self, sample, moving_square):
        """The sample with its front view stored as PNG files in the rows."""
        path = sample / "data/chunk-000/file-000.parquet"
        coded = []
        for frame in moving_square(72, 90):
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, "png")
            coded.append({"bytes": buffer.getvalue(), "path": None})
        pq.write_table(pq.read_table(path).append_column(FRONT, pa.array(coded)), path)
        features = json.loads((sample / "meta/info.json").read_text())["features"]
        features[FRONT]["dtype"] = "image"
        edit_info(sample, features=features)
        return sample

    def test_are_read_without_loss(self, pictures, moving_square):
        frames = open_episodes(pictures)[1].frames([29, 3])
        np.testing.assert_array_equal(frames, moving_square(72, 90)[[24 + 29, 24 + 3]])

    def test_a_broken_one_is_named(self, pictures):
        path = pictures / "data/chunk-000/file-000.parquet"
        table = pq.read_table(path)
        column = table.column_names.index(FRONT)
        broken = pa.array([{"bytes": b"no picture", "path": None}] * 72)
        pq.write_table(table.set_column(column, FRONT, broken), path)
        with pytest.raises(DataError, match=f"picture of {FRONT} that cannot be decoded"):
            open_episodes(pictures)[0].frames([0])


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"fps": 0}, "has fps 0"),
            ({"fps": None}, "has fps None"),
            ({"codebase_version": "v1.6"}, r"codebase_version 'v1\.6', and only v3\.0 and v2\.1"),
            ({"codebase_version": None}, "codebase_version None"),
            ({"features": {}}, "names no camera"),
            ({"features": None}, "names no features"),
            ({"data_path": None}, "has data_path None"),
            ({"video_path": None}, "does not say where the videos lie"),
        ],
    )
    def test_info_that_makes_no_sense(self, sample, changes, message):
        edit_info(sample, **changes)
        with pytest.raises(DataError, match=f"info.json .*{message}"):
            open_episodes(sample)

    def test_info_that_is_no_json(self, sample):
        (sample / "meta/info.json").write_text("{")
        with pytest.raises(DataError, match=r"info\.json cannot be read as JSON"):
            open_episodes(sample)

    def test_no_list_of_episodes(self, sample):
        shutil.rmtree(sample / "meta/episodes")
        with pytest.raises(DataError, match="has no meta/episodes"):
            open_episodes(sample)

    @pytest.mark.parametrize("name", ["meta/episodes", "data"])
    def test_unreadable_parquet(self, sample, name):
        path = sample / name / "chunk-000/file-000.parquet"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(DataError, match=r"file-000\.parquet is not a parquet file that can be read"):
            open_episodes(sample)[0]

    def test_missing_parquet(self, sample):
        (sample / "data/chunk-000/file-000.parquet").unlink()
        with pytest.raises(DataError, match=r"file-000\.parquet is missing"):
            open_episodes(sample)[0]

    def test_rows_that_are_missing_spoil_only_their_episode(self, sample):
        path = sample / "data/chunk-000/file-000.parquet"
        pq.write_table(pq.read_table(path).slice(0, 70), path)
        dataset = open_episodes(sample)
        assert dataset[1].length == 30
        with pytest.raises(DataError, match=r"16 rows of episode 2, but meta says 18"):
            dataset[2]

    def test_a_column_that_is_missing(self, sample):
        path = sample / "data/chunk-000/file-000.parquet"
        pq.write_table(pq.read_table(path).drop_columns(["action"]), path)
        with pytest.raises(DataError, match="action"):
            open_episodes(sample)[0]

    def test_timestamps_that_do_not_rise(self, sample):
        path = sample / "data/chunk-000/file-000.parquet"
        table = pq.read_table(path)
        column = table.column_names.index("timestamp")
        pq.write_table(table.set_column(column, "timestamp", pa.array(np.zeros(72, np.float32))), path)
        with pytest.raises(DataError, match="timestamps of episode 0 do not rise"):
            open_episodes(sample)[0]

    def test_no_instruction(self, sample):
        path = sample / "meta/episodes/chunk-000/file-000.parquet"
        table = pq.read_table(path)
        empty = pa.array([["pick"], [], [""]], pa.list_(pa.string()))
        pq.write_table(table.set_column(table.column_names.index("tasks"), "tasks", empty), path)
        dataset = open_episodes(sample)
        assert dataset[0].instruction == "pick"
        for index in (1, 2):
            with pytest.raises(DataError, match=f"episode_00000{index} has no instruction"):
                dataset[index]

    def test_a_camera_that_does_not_exist(self, sample):
        with pytest.raises(DataError, match=f"no camera 'top'; choose one of: {FRONT}, {WRIST}"):
            open_episodes(sample)[0].frames([0], camera="top")

    def test_a_video_with_fewer_frames_than_rows_spoils_only_the_episodes_that_lack_them(self, sample, moving_square):
        encode_video(sample / f"videos/{FRONT}/chunk-000/file-000.mp4", moving_square(60), fps=10)
        dataset = open_episodes(sample)
        assert len(dataset[1].frames([0, 29])) == 2
        with pytest.raises(DataError, match="fewer frames than the episode's 18 rows"):
            dataset[2].frames([0])

    def test_a_video_that_is_cut_off(self, sample):
        path = sample / f"videos/{WRIST}/chunk-000/file-000.mp4"
        path.write_bytes(path.read_bytes()[:2000])
        episode = open_episodes(sample)[0]
        assert len(episode.frames([0], FRONT)) == 1
        # Not the first frame, which is whole: whether it is read hangs on how far the decoder's threads look ahead.
        with pytest.raises(DataError, match="damaged or cut off"):
            episode.frames([3], WRIST)


def test_opening_reads_only_the_rows_of_that_episode(tmp_path, make_record, monkeypatch):
    """Memory must not grow with the dataset: of a file with many episodes only one's row group is decoded."""
    root = tmp_path / "dataset"
    write_lerobot(root, [make_record(0, 4)] * 40, 10, NAMES)
    dataset = open_episodes(root)
    dataset[0]
    before = pa.total_allocated_bytes()
    episode = dataset[39]
    assert episode.first_row == 39 * 4
    assert pa.total_allocated_bytes() - before < 20_000
