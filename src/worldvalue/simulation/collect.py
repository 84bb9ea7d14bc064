"""Collect simulated episodes: worker processes simulate and render, finished episodes survive a kill.

Each finished episode is a small folder under ``OUT.partial/episodes``; when all are there they are joined into
a LeRobot v3.0 dataset with ``labels.jsonl`` at ``OUT``. Running the same command again goes on where it stopped.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from worldvalue.data import EpisodeRecord, ManifestRow, encode_video, write_lerobot, write_manifest
from worldvalue.data.files import replacing
from worldvalue.simulation.plan import Plan, draw_plan
from worldvalue.simulation.tasks import TASKS
from worldvalue.types import MODES, DataError, Event, Labels, Mode

if TYPE_CHECKING:
    from worldvalue.simulation.environment import Camera, Environment
    from worldvalue.simulation.oracle import Rollout

FPS = 10
MAX_ATTEMPTS = 50
Counts = Mapping[str, Mapping[Mode, int]]
"""Episodes to collect, by task and mode."""
SUMMARY = "collection.json"


@dataclass(frozen=True)
class EpisodeSpec:
    """An episode to collect.

    Attributes:
        task: name of the task.
        mode: how it should go.
        number: which one of its task and mode, from 0.
        seed: everything random about it follows from this.
    """

    task: str
    mode: Mode
    number: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder; it does not depend on what else is collected."""
        return f"{self.task}-{self.mode}-{self.number:05d}"


def even_counts(tasks: Sequence[str], modes: Mapping[Mode, int]) -> dict[str, dict[Mode, int]]:
    """As many episodes of each mode for every task.

    Raises:
        DataError: a task is named twice.
    """
    repeated = [task for task, times in Counter(tasks).items() if times > 1]
    if repeated:
        raise DataError(f"The task '{repeated[0]}' is named more than once; name each task once.")
    return {task: dict(modes) for task in tasks}


def plan_collection(counts: Counts, seed: int) -> list[EpisodeSpec]:
    """All episodes in the order of collection: any first part of it is balanced over tasks and modes.

    Args:
        counts: how many episodes.
        seed: with the task, the mode and the episode's number in them it gives the episode's own seed.
    """
    cells = [
        ((number + 0.5) / modes[mode], task, mode, number)
        for task, modes in counts.items()
        for mode in MODES
        for number in range(modes.get(mode, 0))
    ]
    cells.sort(key=lambda cell: cell[0])
    return [EpisodeSpec(task, mode, number, _seed(seed, task, mode, number)) for _, task, mode, number in cells]


def _seed(seed: int, task: str, mode: Mode, number: int) -> int:
    sequence = np.random.SeedSequence([seed, list(TASKS).index(task), MODES.index(mode), number])
    return int(sequence.generate_state(1)[0])


def collect(
    out: Path,
    counts: Counts,
    seed: int = 0,
    size: int = 128,
    workers: int | None = None,
) -> bool:
    """Collect episodes into a LeRobot v3.0 dataset at ``out``, with ``labels.jsonl`` and ``collection.json``.

    Args:
        out: the dataset's folder.
        counts: how many episodes, of tasks from ``TASKS``.
        seed: same seed, same machine: same labels and same actions.
        size: width and height of the pictures.
        workers: processes; None for one per core.

    Returns:
        False when the same collection was complete already, else True.

    Raises:
        DataError: unknown task, nothing to collect, another collection in ``out``, or a dead worker.
    """
    settings = {"counts": {task: dict(modes) for task, modes in counts.items()}, "seed": seed, "size": size, "fps": FPS}
    _check(out, settings)
    if (out / SUMMARY).exists():
        return False
    partial = out.with_name(f"{out.name}.partial")
    episodes = partial / "episodes"
    episodes.mkdir(parents=True, exist_ok=True)
    with replacing(partial / "settings.json") as file:
        file.write_text(json.dumps(settings))
    specs = plan_collection(counts, seed)
    missing = [spec for spec in specs if not (episodes / spec.name).exists()]
    if missing:
        _simulate(missing, len(specs), episodes, size, workers or len(os.sched_getaffinity(0)))
    _finish(out, partial, settings, [episodes / spec.name for spec in specs])
    return True


def _check(out: Path, settings: Mapping[str, Any]) -> None:
    """Refuse what cannot be collected."""
    unknown = sorted(set(settings["counts"]) - set(TASKS))
    if unknown:
        raise DataError(f"There is no task '{unknown[0]}'; choose from: {', '.join(TASKS)}.")
    if not any(sum(modes.values()) for modes in settings["counts"].values()):
        raise DataError("There is nothing to collect; ask for at least one episode of one task.")
    if settings["size"] % 2:
        raise DataError(f"Pictures of {settings['size']} pixels cannot be encoded; choose an even size.")
    if importlib.util.find_spec("robosuite") is None:
        raise DataError("The simulator is not installed; install it with: pip install 'worldvalue[sim]'.")
    # An unfinished collection may go on with more or fewer tasks and episodes: they do not depend on each other.
    fixed = {name: settings[name] for name in ("seed", "size", "fps")}
    partial = out.with_name(f"{out.name}.partial")
    for path, ours in ((out / SUMMARY, settings), (partial / "settings.json", fixed)):
        if path.exists():
            earlier = json.loads(path.read_text())
            if any(earlier.get(name) != value for name, value in ours.items()):
                raise DataError(
                    f"{path.parent} holds a collection with other settings; choose another folder, or remove that one."
                )
    if out.exists() and not (out / SUMMARY).exists():
        raise DataError(f"{out} exists already and is not a collection; choose another folder.")


def _simulate(specs: Sequence[EpisodeSpec], total: int, episodes: Path, size: int, workers: int) -> None:
    """Run the missing episodes in worker processes, with a progress bar."""
    bar_and_count = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*bar_and_count, _Rate(), TimeRemainingColumn(), speed_estimate_period=600) as progress,
        ProcessPoolExecutor(min(workers, len(specs)), context, _start_worker, (os.getpid(),)) as pool,
    ):
        bar = progress.add_task("episodes", total=total, completed=total - len(specs))
        pending = {pool.submit(collect_episode, spec, episodes, size) for spec in specs}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    progress.advance(bar)
        except BrokenProcessPool as error:
            raise DataError(
                f"A simulation process died, perhaps for lack of memory; the finished episodes are kept in "
                f"{episodes}: run the same command again to go on, with fewer --workers if it happens again."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Rate(ProgressColumn):
    """Episodes per minute."""

    def render(self, task: Any) -> str:
        return f"{60 * task.speed:.1f}/min" if task.speed else "-/min"


def _start_worker(parent: int) -> None:
    """Prepare a worker: one thread for each process, and no life after the parent's."""
    os.environ.update({"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(2.0)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@cache
def _scene(task: str, size: int) -> tuple[Environment, Camera]:
    """This process's environment and camera of a task; building them takes seconds."""
    from worldvalue.simulation.environment import Camera, Environment

    environment = Environment(TASKS[task])
    camera = Camera(environment, size)
    atexit.register(camera.close)
    return environment, camera


def collect_episode(spec: EpisodeSpec, episodes: Path, size: int) -> None:
    """Simulate one episode until it goes as planned, render it, and write its folder ``episodes/TASK-MODE-NUMBER``."""
    from worldvalue.simulation.environment import CAMERAS
    from worldvalue.simulation.oracle import defect, run_plan

    environment, camera = _scene(spec.task, size)
    dropped: list[str] = []
    while len(dropped) < MAX_ATTEMPTS:
        rng = np.random.default_rng([spec.seed, len(dropped)])
        plan = draw_plan(TASKS[spec.task], spec.mode, rng)
        rollout = run_plan(environment, plan, seed=int(rng.integers(2**32)))
        reason = defect(plan, rollout)
        if reason is None:
            break
        dropped.append(" ".join((*plan.kinds, reason)))
    else:
        raise RuntimeError(f"the oracle failed {MAX_ATTEMPTS} times at {spec}: {sorted(set(dropped))}")
    row = _describe(spec, plan, rollout, rng, dropped)
    pictures = [camera.render(joints, CAMERAS) for joints in rollout.joints]
    with replacing(episodes / spec.name) as folder:
        folder.mkdir(exist_ok=True)
        for name, frames in zip(CAMERAS, zip(*pictures, strict=True), strict=True):
            encode_video(folder / f"{name}.mp4", frames, FPS)
        np.savez(folder / "columns.npz", **{"observation.state": rollout.state, "action": rollout.actions})
        (folder / "row.json").write_text(json.dumps(row))


def _describe(
    spec: EpisodeSpec, plan: Plan, rollout: Rollout, rng: np.random.Generator, dropped: list[str]
) -> dict[str, Any]:
    task = TASKS[spec.task]
    instruction, counterfactual = str(rng.choice(task.instructions)), None
    if task.others:
        counterfactual = str(rng.choice(TASKS[str(rng.choice(task.others))].instructions))
    m, n = rollout.segment if rollout.segment else (None, None)
    labels = Labels(
        length=len(rollout.actions),
        mode=spec.mode,
        m=m,
        n=n,
        success=bool(rollout.success[-1]),
        task=spec.task,
        kinds=plan.kinds,
        counterfactual=counterfactual,
        events=rollout.events,
    )
    return {"instruction": instruction, "labels": asdict(labels), "seed": spec.seed, "dropped": dropped}


def _finish(out: Path, partial: Path, settings: Mapping[str, Any], folders: Sequence[Path]) -> None:
    """Join the episodes' folders into the dataset."""
    from worldvalue.simulation.environment import ACTION_NAMES, STATE_NAMES

    rows = [json.loads((folder / "row.json").read_text()) for folder in folders]
    dataset = partial / "dataset"
    shutil.rmtree(dataset, ignore_errors=True)
    names = {"observation.state": STATE_NAMES, "action": ACTION_NAMES}
    write_lerobot(dataset, _records(folders, rows), FPS, names, robot_type="panda")
    manifest = [
        ManifestRow(
            instruction=row["instruction"],
            fps=FPS,
            labels=_labels(row["labels"]),
            episode_index=index,
            seed=row["seed"],
        )
        for index, row in enumerate(rows)
    ]
    write_manifest(dataset / "labels.jsonl", manifest)
    digest = hashlib.sha256((dataset / "labels.jsonl").read_bytes()).hexdigest()
    summary = {**settings, "labels_sha256": digest, "statistics": statistics(rows)}
    (dataset / SUMMARY).write_text(json.dumps(summary, indent=2))
    dataset.rename(out)
    shutil.rmtree(partial)


def _labels(told: Mapping[str, Any]) -> Labels:
    events = tuple(Event(**event) for event in told["events"])
    return Labels(**{**told, "kinds": tuple(told["kinds"]), "events": events})


def _records(folders: Sequence[Path], rows: Sequence[Mapping[str, Any]]) -> Iterator[EpisodeRecord]:
    from worldvalue.simulation.environment import CAMERAS

    for folder, row in zip(folders, rows, strict=True):
        with np.load(folder / "columns.npz") as columns:
            yield EpisodeRecord(
                instruction=row["instruction"],
                videos={f"observation.images.{name}": folder / f"{name}.mp4" for name in CAMERAS},
                columns=dict(columns),
            )


def statistics(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By task and mode: episodes, attempts, share of attempts kept, mean seconds, reasons of the dropped."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        labels = row["labels"]
        cell = found.setdefault(
            f"{labels['task']}/{labels['mode']}",
            {"episodes": 0, "attempts": 0, "seconds": 0.0, "dropped": {}},
        )
        cell["episodes"] += 1
        cell["attempts"] += 1 + len(row["dropped"])
        cell["seconds"] += labels["length"] / FPS
        for reason in row["dropped"]:
            cell["dropped"][reason] = cell["dropped"].get(reason, 0) + 1
    for cell in found.values():
        cell["kept"] = round(cell["episodes"] / cell["attempts"], 3)
        cell["seconds"] = round(cell["seconds"] / cell["episodes"], 2)
    return found
