"""The cluster: a real Ray of two workers on this machine, against the same work done in this process."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.small import small_estimator, small_recipe, write_painted_videos
from typer.testing import CliRunner

from worldvalue import cli
from worldvalue.data import open_episodes
from worldvalue.recipes import RECIPES
from worldvalue.runs import train_autoencoder
from worldvalue.scoring.cluster import OnCluster, StartScoring, Work, Workers, _Worker, connected, place_workers
from worldvalue.scoring.dataset import Request, Run, run_here, score_dataset
from worldvalue.scoring.job import Done, Job
from worldvalue.scoring.shards import Shards
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings
from worldvalue.types import DataError, Labels

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two_workers() -> Iterator[str]:
    """A Ray of two CPUs on this machine, to which this process is connected; one thread here and in the workers."""
    from ray.cluster_utils import Cluster

    agents = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_register_timeout_seconds", "600")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
        # With these ports given it does not wait for its agents, of which it despairs on a busy machine.
        head = dict(zip(agents, free_ports(len(agents)), strict=True)) | {"num_cpus": 2, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head | {"include_log_monitor": False})
        torch.set_num_threads(1)
        with connected(cluster.address):
            yield "auto"
        cluster.shutdown()
    torch.set_num_threads(threads)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = [Labels(12 + number % 5, "expert", success=True) for number in range(17)]
    return write_painted_videos(tmp_path_factory.mktemp("data") / "videos", labels)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    small_estimator().save(folder)
    return folder


def run(*words: object) -> str:
    result = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@dataclass(frozen=True)
class Watched:
    """A worker that notes every number it is given and kills its own process the first time it is given ``fatal``."""

    start: Callable[[], Work]
    notes: Path
    fatal: int

    def __call__(self) -> Work:
        work = self.start()

        def watched(number: int) -> Mapping[str, int | str]:
            seen_before = self.notes.exists() and str(number) in self.notes.read_text().split()
            with self.notes.open("a") as notes:
                notes.write(f"{number}\n")
            if number == self.fatal and not seen_before:
                os.kill(os.getpid(), signal.SIGKILL)
            return work(number)

        return watched


@pytest.mark.cluster
def test_a_killed_workers_group_is_done_again_what_is_there_is_not_and_all_is_as_in_one_process(
    two_workers: str, videos: Path, model: Path, tmp_path: Path
) -> None:
    source, settings, notes = open_episodes(videos), ScoreSettings(draws=2, steps=1, group=4), tmp_path / "notes"
    scorer = Scorer.of(model, settings)

    def start(shards: Shards) -> Watched:
        return Watched(StartScoring(videos, None, str(model), settings, shards), notes, fatal=3)

    def scored(name: str, run: Run) -> int:
        request = Request(tmp_path / name, "small", "2 fps")
        return score_dataset(
            source, scorer, settings.group, scorer.identity(), request, Console(quiet=True), run
        ).scored

    def written(name: str) -> dict[str, bytes]:
        paths = [path for path in (tmp_path / name).rglob("*") if path.is_file() and path.name != "written.json"]
        return {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in paths}

    def stop_after_one(job: Job) -> Iterator[Done]:
        yield next(run_here(job))
        raise KeyboardInterrupt

    assert scored("here", run_here) == 17
    with pytest.raises(KeyboardInterrupt):
        scored("there", stop_after_one)
    assert scored("there", OnCluster(two_workers, start)) == 13
    assert sorted(notes.read_text().split()) == ["1", "2", "3", "3", "4"]
    assert written("there") == written("here")


@pytest.mark.cluster
def test_training_finds_what_the_cluster_encoded(
    two_workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES["wvm"], "small", small_recipe)
    data = write_painted_videos(tmp_path / "videos", [Labels(30, "expert", success=True)])
    vae = train_autoencoder(small_recipe(), [open_episodes(data)], tmp_path / "vae")
    asked = ("--vae", vae, "--recipe", "small", "--codes")
    run("encode", data, *asked, tmp_path / "here")
    run("encode", data, *asked, tmp_path / "there", "--cluster", two_workers)
    (here,), (there,) = ((tmp_path / name).rglob("*.npy") for name in ("here", "there"))
    assert there.relative_to(tmp_path / "there") == here.relative_to(tmp_path / "here")
    assert there.read_bytes() == here.read_bytes()
    encoded = there.stat().st_mtime_ns
    run("train", "wvm", "--data", data, *asked, tmp_path / "there", "--out", tmp_path / "run")
    assert [(p, p.stat().st_mtime_ns) for p in (tmp_path / "there").rglob("*.npy")] == [(there, encoded)]


def test_a_worker_that_cannot_open_the_dataset_says_so_in_one_sentence(model: Path, tmp_path: Path) -> None:
    shards = Shards(tmp_path, {})
    worker = _Worker(StartScoring(tmp_path / "nowhere", None, str(model), ScoreSettings(), shards), threads=1)
    told = worker({"item": 0})["error"]
    assert "nowhere does not exist; give a dataset" in told
    assert told.endswith("must lie where every node of the cluster sees them under one path.")


def test_a_worker_with_other_weights_refuses(videos: Path, model: Path, tmp_path: Path) -> None:
    scorer = Scorer(small_estimator(seed=1), ScoreSettings())
    start = StartScoring(videos, None, str(model), scorer.settings, Shards(tmp_path, scorer.identity()))
    with pytest.raises(DataError, match="another model here"):
        start()


def test_a_worker_is_placed_on_each_gpu_or_else_on_as_many_cpus_as_it_has_threads() -> None:
    cpus = [{"CPU": 16.0, "memory": 1e9}, {"CPU": 7.0}, {"CPU": 3.0}]
    assert place_workers(cpus, threads=4) == Workers(5, cpus=4, gpus=0, threads=4)
    assert place_workers([*cpus, {"CPU": 24.0, "GPU": 8.0}, {"CPU": 8.0, "GPU": 1.0}], threads=4) == Workers(9, 0, 1, 3)
    with pytest.raises(DataError, match="No node of the cluster has 32 CPUs"):
        place_workers(cpus, threads=32)


def test_an_address_at_which_nobody_answers_gets_a_sentence() -> None:
    for address in ("127.0.0.1:1", "nonsense"):
        with pytest.raises(DataError, match=f"No Ray cluster answers at '{address}'"), connected(address):
            pass


def test_without_ray_the_command_says_what_to_install(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(sys, "argv", ["worldvalue", "score", str(videos), "--cluster", "auto"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "pip install 'worldvalue[cluster]'" in capsys.readouterr().err
