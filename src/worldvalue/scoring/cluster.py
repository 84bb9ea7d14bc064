"""Work that is shared by many machines, on Ray Data: numbers in, one small row out for each.

A worker is a process that opens the dataset and the model once and then does one number after the other: it scores a
group of episodes and writes its shard, or encodes an episode's frames. What it does is on disk before its row comes
back. When a worker dies, Ray starts another in its place and gives it the number again; whatever is on disk already is
not done again, and files appear by rename, so nothing is lost and nothing is there twice.

Values are those of one machine bit for bit, whatever the number of workers: what is scored together is fixed by the
job, and each worker computes with as many threads as the process that started the run, on which the last bits of a sum
depend.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from worldvalue.data import open_episodes
from worldvalue.models.estimator import SHIPPED
from worldvalue.scoring.job import Done, Job
from worldvalue.scoring.shards import Shards
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings
from worldvalue.types import DataError

Work = Callable[[int], Mapping[str, Any]]
"""Does one number and tells of it in a few words and numbers."""

BLOCKS = 10_000
"""So many pieces of work at most: each costs the head of the cluster some milliseconds and some memory."""

_REACH_SECONDS = 10.0


@dataclass(frozen=True)
class OnCluster:
    """A ``scoring.dataset.Run`` on the workers of a Ray cluster.

    Attributes:
        address: see ``connected``.
        start: what makes a worker, given where the finished groups go; see ``StartScoring`` and ``share``.

    Raises:
        DataError: Ray is not installed.
    """

    address: str
    start: Callable[[Shards], Callable[[], Work]]

    def __post_init__(self) -> None:
        _ray()

    def __call__(self, job: Job) -> Iterator[Done]:
        """Finish the missing groups of a job, in any order.

        Raises:
            DataError: see ``share``; or a worker's shard is not to be seen from here.
        """
        for row in share(job.missing(), self.start(job.shards), self.address):
            yield Done(**row)
        if job.missing():
            raise DataError(
                f"What the workers wrote is not in {job.shards.root}; --out must lie on a file system that every node "
                "of the cluster sees under the same path."
            )
        job.shards.tidy()


class StartScoring:
    """What makes a worker that scores groups; small enough to be sent to it.

    Args:
        data, instruction: the dataset, as ``open_episodes`` takes it.
        model: as ``load_model`` takes it.
        settings: how it scores.
        shards: where the finished groups go.
    """

    def __init__(
        self, data: Path, instruction: str | None, model: str, settings: ScoreSettings, shards: Shards
    ) -> None:
        self._data = data.absolute()
        self._instruction = instruction
        self._model = model if (SHIPPED / model).is_dir() else str(Path(model).absolute())
        self._settings = settings
        self._shards = shards

    def __call__(self) -> Work:
        """Open the dataset and the model.

        Raises:
            DataError: one of them cannot be opened here, or the model is another one here.
        """
        source = open_episodes(self._data, self._instruction)
        scorer = Scorer.of(self._model, self._settings)
        if scorer.identity()["model"] != self._shards.identity["model"]:
            raise DataError(f"{self._model} is another model here, or worldvalue has another version")
        job = Job(source, scorer, self._shards, self._settings.group)
        return lambda number: Done.of(job.finish(number))._asdict()


def share(numbers: Sequence[int], start: Callable[[], Work], address: str) -> Iterator[Mapping[str, Any]]:
    """Let the workers of a cluster do each number once; what they tell, as it comes.

    With GPUs in the cluster there is a worker for each of them; otherwise one for as many CPUs as this process has
    threads (``OMP_NUM_THREADS``), and so many threads in it.

    Args:
        numbers: the pieces of work.
        start: called once in each worker; has to be picklable, and importable where the workers run.
        address: see ``connected``.

    Raises:
        DataError: there is no such cluster, it has no room for a worker, or what a worker raised.
    """
    if not numbers:
        return
    ray = _ray()
    with connected(address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        workers = place_workers(nodes, torch.get_num_threads())
        pool = ray.data.ActorPoolStrategy(size=min(workers.count, len(numbers)), max_tasks_in_flight_per_actor=1)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        dataset = ray.data.from_items(list(numbers), override_num_blocks=min(len(numbers), BLOCKS)).map(
            _Worker,
            fn_constructor_args=(start, workers.threads),
            compute=pool,
            num_cpus=workers.cpus,
            num_gpus=workers.gpus,
        )
        dataset.context.enable_progress_bars = False
        for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0):  # each as soon as it is there
            for told, error in zip(batch["told"], batch["error"], strict=True):
                if error:
                    raise DataError(error)
                yield json.loads(told)


@dataclass(frozen=True)
class Workers:
    """Where work is done.

    Attributes:
        count: of workers.
        cpus, gpus: that each reserves.
        threads: with which each computes.
    """

    count: int
    cpus: int
    gpus: int
    threads: int


def place_workers(nodes: Sequence[Mapping[str, float]], threads: int) -> Workers:
    """A worker for each GPU; without any, one for each ``threads`` CPUs of a node.

    Args:
        nodes: what each node of the cluster has: ``CPU``, ``GPU``.
        threads: of a worker on CPUs. One on a GPU has its share of its node's CPUs.

    Raises:
        DataError: no node has so many CPUs.
    """
    with_gpus = [(int(node["GPU"]), int(node.get("CPU", 0))) for node in nodes if node.get("GPU", 0) >= 1]
    if with_gpus:
        share_of_cpus = min(cpus // gpus for gpus, cpus in with_gpus)
        return Workers(sum(gpus for gpus, _ in with_gpus), cpus=0, gpus=1, threads=max(share_of_cpus, 1))
    places = sum(int(node.get("CPU", 0)) // threads for node in nodes)
    if not places:
        raise DataError(f"No node of the cluster has {threads} CPUs, one for a thread; set OMP_NUM_THREADS to fewer.")
    return Workers(places, cpus=threads, gpus=0, threads=threads)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected to a Ray cluster while the block runs.

    Args:
        address: ``host:port`` of a cluster's head; ``auto`` for the one that this process is connected to already, else
            for the one that this machine belongs to, else for one on this machine alone, which ends with the block.

    Raises:
        DataError: Ray is not installed, or nothing answers at the address.
    """
    ray = _ray()
    if address == "auto" and ray.is_initialized():
        yield
        return
    if address != "auto":
        _check_reachable(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    where = None if address == "auto" else address
    try:
        ray.init(where, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise DataError(f"{error}; if it asks for a token, set RAY_AUTH_MODE=token and copy the token.") from error
    try:
        yield
    finally:
        ray.shutdown()


class _Worker:
    """What Ray runs in a process of its own. Errors come back in the row: Ray would print them and start anew."""

    def __init__(self, start: Callable[[], Work], threads: int) -> None:
        torch.set_num_threads(threads)
        self._start = start

    @cached_property
    def _work(self) -> Work:
        try:
            return self._start()
        except (DataError, OSError) as error:
            hint = "dataset, model and outputs must lie where every node of the cluster sees them under one path"
            raise DataError(f"{str(error).rstrip('.')}; {hint}.") from error

    def __call__(self, row: dict[str, int]) -> dict[str, str]:
        try:
            return {"told": json.dumps(self._work(row["item"])), "error": ""}
        except (DataError, OSError) as error:
            return {"told": "", "error": f"On node {platform.node()}: {error}"}


def _check_reachable(address: str) -> None:
    """Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        raise DataError(
            f"No Ray cluster answers at '{address}' ({error}); start one with 'ray start --head' and give the address "
            "of its head as host:port, or 'auto'."
        ) from error


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DataError("--cluster needs Ray; install it with: pip install 'worldvalue[cluster]'") from error
    return ray
