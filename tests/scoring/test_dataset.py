"""What ``worldvalue score`` does with a dataset: outputs in their places, nothing twice, clear refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from worldvalue.data import open_episodes, read_progress
from worldvalue.scoring.console import print_outcome
from worldvalue.scoring.dataset import Outcome, Request, score_dataset
from worldvalue.scoring.job import ScoreGroup
from worldvalue.types import DataError

LEROBOT = Path(__file__).parents[1] / "data" / "lerobot_v3_sample"


@pytest.fixture
def score(score_group: ScoreGroup) -> Callable[..., Outcome]:
    def run(path: Path, request: Request, **identity: object) -> Outcome:
        return score_dataset(open_episodes(path), score_group, 3, identity, request, Console(quiet=True))

    return run


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_all_outputs_are_written_once(make_folder: Callable[..., Path], tmp_path: Path, score: Callable[..., Outcome]):
    folder = make_folder(5)
    request = Request(tmp_path / "out", "tiny", "2 fps")
    first = score(folder, request)
    assert (first.scored, first.failures, first.notes) == (5, [], [])
    assert names(request.out) == {".shards", "worldvalue_progress.parquet", "episodes.csv", "report.html"}
    before = {path: path.stat().st_mtime_ns for path in request.out.iterdir() if path.is_file()}
    again = score(folder, request)
    assert (again.scored, again.written) == (0, [])
    assert before == {path: path.stat().st_mtime_ns for path in request.out.iterdir() if path.is_file()}
    pictures = score(folder, replace(request, pictures=True))
    assert (pictures.scored, pictures.written) == (0, [request.out / "pictures"])
    assert len(names(request.out / "pictures")) == 5


def test_a_lost_output_is_made_again_from_the_kept_values(
    make_folder: Callable[..., Path], tmp_path: Path, score: Callable[..., Outcome]
):
    folder, request = make_folder(4), Request(tmp_path / "out", "tiny", "2 fps")
    score(folder, request)
    sidecar = request.out / "worldvalue_progress.parquet"
    kept = sidecar.read_bytes()
    sidecar.unlink()
    again = score(folder, request)
    assert (again.scored, again.written) == (0, [sidecar])
    assert sidecar.read_bytes() == kept


def test_other_settings_score_anew_and_replace_the_outputs(
    make_folder: Callable[..., Path], tmp_path: Path, score: Callable[..., Outcome]
):
    folder, request = make_folder(2), Request(tmp_path / "out", "tiny", "2 fps")
    score(folder, request, settings={"draws": 4})
    other = score(folder, request, settings={"draws": 8})
    assert other.scored == 2
    assert len(other.written) == 3
    assert "differs in settings;" in other.notes[0]


def test_the_sidecar_has_a_row_for_every_frame(
    make_folder: Callable[..., Path], tmp_path: Path, score: Callable[..., Outcome]
):
    score(make_folder(4, bad=[2]), Request(tmp_path / "out", "tiny", "2 fps"))
    table = read_progress(tmp_path / "out" / "worldvalue_progress.parquet")
    assert table["episode_index"].to_pylist() == [0] * 12 + [1] * 13 + [3] * 15
    assert table["frame_index"].to_pylist() == [*range(12), *range(13), *range(15)]
    assert table.schema.metadata[b"reward_model_path"] == b"tiny"


def test_in_place_puts_the_sidecar_into_the_dataset_and_nothing_else(tmp_path: Path, score: Callable[..., Outcome]):
    data = Path(shutil.copytree(LEROBOT, tmp_path / "data"))
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    request = Request(tmp_path / "out", "tiny", "2 fps", in_place=True, sarm_name=True)
    for _ in range(2):
        outcome = score(data, request)
    assert outcome.written == []
    after = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    sidecar = data / "sarm_progress.parquet"
    assert set(after) - set(before) == {sidecar}
    assert all(after[path] == content for path, content in before.items())
    frames = json.loads((data / "meta" / "info.json").read_text())["total_frames"]
    assert pq.read_table(sidecar)["index"].to_pylist() == list(range(frames))
    assert names(request.out) == {".shards", "episodes.csv", "report.html"}


def test_a_sidecar_of_somebody_else_is_not_overwritten(tmp_path: Path, score: Callable[..., Outcome]):
    data = Path(shutil.copytree(LEROBOT, tmp_path / "data"))
    theirs = data / "sarm_progress.parquet"
    pq.write_table(pa.table({"index": [0], "progress_sparse": [0.5]}), theirs)
    content = theirs.read_bytes()
    with pytest.raises(DataError, match="was not written by worldvalue"):
        score(data, Request(tmp_path / "out", "tiny", "2 fps", in_place=True, sarm_name=True))
    assert theirs.read_bytes() == content


def test_requests_that_do_not_fit_are_refused_before_any_work(
    make_folder: Callable[..., Path], tmp_path: Path, score: Callable[..., Outcome]
):
    folder, out = make_folder(2), tmp_path / "out"
    with pytest.raises(DataError, match="not a LeRobot dataset"):
        score(folder, Request(out, "tiny", "2 fps", in_place=True))
    with pytest.raises(DataError, match="is a file"):
        score(folder, Request(folder / "0.mp4", "tiny", "2 fps"))
    assert not out.exists()


def test_a_camera_may_be_named_by_the_last_part_of_its_name(tmp_path: Path, score: Callable[..., Outcome]):
    outcome = score(LEROBOT, Request(tmp_path / "out", "tiny", "2 fps", camera="wrist"))
    assert (outcome.failures, outcome.undrawn) == ([], {})


def test_a_damaged_view_stops_neither_report_nor_pictures_and_is_told_every_time(
    tmp_path: Path, score: Callable[..., Outcome], capsys: pytest.CaptureFixture[str]
):
    dataset = tmp_path / "dataset"
    shutil.copytree(LEROBOT, dataset)
    (dataset / "videos" / "observation.images.wrist" / "chunk-000" / "file-000.mp4").write_bytes(b"torn")
    request = Request(tmp_path / "out", "tiny", "2 fps", camera="wrist", pictures=True, overlays=True)
    first = score(dataset, request)
    assert first.failures == []
    assert len(first.undrawn) == 3
    assert "file-000.mp4 cannot be read" in request.report.read_text(encoding="utf-8")
    assert read_progress(request.sidecar(open_episodes(dataset))).num_rows == 72
    assert score(dataset, request).undrawn == first.undrawn
    print_outcome(first, request.report, Console(width=100))
    assert "Not drawn: episode_000001: The video" in capsys.readouterr().out


def test_a_dataset_without_one_good_episode_is_refused(
    make_folder: Callable[..., Path], tmp_path: Path, score: Callable[..., Outcome]
):
    with pytest.raises(DataError, match=r"None of the 2 episodes can be scored: .*0\.mp4 is missing"):
        score(make_folder(2, bad=[0, 1]), Request(tmp_path / "out", "tiny", "2 fps"))
    alone = make_folder(1, bad=[0], name="alone")
    with pytest.raises(DataError, match=r"^The video .*0\.mp4 is missing"):
        score(alone, Request(tmp_path / "out_alone", "tiny", "2 fps"))


def test_failures_are_told_in_one_sentence_each(
    make_folder: Callable[..., Path],
    tmp_path: Path,
    score: Callable[..., Outcome],
    capsys: pytest.CaptureFixture[str],
):
    request = Request(tmp_path / "out", "tiny", "2 fps")
    outcome = score(make_folder(12, bad=[1, 5]), request)
    print_outcome(outcome, request.report, Console(width=100))
    told = capsys.readouterr().out
    assert told.count("is missing; restore it") == 2
    assert told.rstrip().endswith(f"Report: {request.report}")
