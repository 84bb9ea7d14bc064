"""Speed of scoring on a Ray of this machine, against one process that has all its cores.

Run: ``python benchmarks/cluster.py DATASET [--model tiny]``. The same groups of episodes are scored three times: by one
process with a thread a core, by one process with one thread, and by a worker a core with one thread each. Wall time
runs from the start of the first group to the end of the last; start-up is told by itself. On a machine with other load
the CPU time is what can be compared.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from worldvalue.data import open_episodes
from worldvalue.data.identity import dataset_identity
from worldvalue.models import load_model
from worldvalue.scoring.cluster import StartScoring, Work, connected, share
from worldvalue.scoring.job import Job
from worldvalue.scoring.shards import Shards
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings


@dataclass(frozen=True)
class Timed:
    """Work that also tells when it began and ended and what CPU time it took."""

    start: Callable[[], Work]

    def __call__(self) -> Work:
        """See ``share``."""
        work = self.start()

        def timed(number: int) -> Mapping[str, Any]:
            began, cpu = time.time(), time.process_time()
            done = work(number)
            return {**done, "began": began, "ended": time.time(), "cpu": time.process_time() - cpu}

        return timed


def measure(job: Job, start: StartScoring, threads: int, cluster: bool) -> str:
    """Do a job's groups; a line of the table."""
    torch.set_num_threads(threads)
    asked = time.time()
    timed = Timed(start)
    if cluster:
        with connected("auto"):
            rows = list(share(job.missing(), timed, "auto"))
    else:
        rows = list(map(timed(), job.missing()))
    frames, cpu = sum(row["frames"] for row in rows), sum(row["cpu"] for row in rows)
    began, ended = min(row["began"] for row in rows), max(row["ended"] for row in rows)
    return f"{frames / (ended - began):8.1f} {frames / cpu:12.1f} {began - asked:10.1f}"


def shards_of(job: Job) -> Sequence[bytes]:
    """All that was written."""
    return [path.read_bytes() for path in sorted(job.shards.root.glob("*/group_*.parquet"))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="tiny")
    options = parser.parse_args()
    source, settings, cores = open_episodes(options.data), ScoreSettings(), os.cpu_count() or 1
    scorer = Scorer(load_model(options.model), settings)
    identity = {**scorer.identity(), "dataset": dataset_identity(source)}
    print(f"{'':36} frames/s  per CPU s   start-up s")
    written = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, threads, cluster in (
            (f"one process, {cores} threads", cores, False),
            ("one process, 1 thread", 1, False),
            (f"{cores} workers, 1 thread each", 1, True),
        ):
            job = Job(source, scorer, Shards(Path(folder) / name, identity), settings.group)
            start = StartScoring(options.data, None, options.model, settings, job.shards)
            print(f"{name:36}", measure(job, start, threads, cluster), flush=True)
            written[cluster, threads] = shards_of(job)
    same = written[True, 1] == written[False, 1]
    print(f"The workers' shards are{'' if same else ' NOT'} those of the process with one thread, byte for byte.")


if __name__ == "__main__":
    main()
