"""Collect simulated episodes: worker processes simulate and render, finished episodes survive a kill.

Each finished episode is a small folder under ``OUT.partial/episodes``; when all are there they are joined into
a LeRobot v3.0 dataset with ``labels.jsonl`` at ``OUT``. Running the same command again goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
from worldvalue.simulation.simulator import EpisodeSpec, Simulator
from worldvalue.types import MODES, DataError, Event, Labels, Mode

Counts = Mapping[str, Mapping[Mode, int]]
"""Episodes to collect, by task and mode."""
SUMMARY = "collection.json"


def even_counts(tasks: Sequence[str], modes: Mapping[Mode, int]) -> dict[str, dict[Mode, int]]:
    """As many episodes of each mode for every task.

    Raises:
        DataError: a task is named twice.
    """
    repeated = [task for task, times in Counter(tasks).items() if times > 1]
    if repeated:
        raise DataError(f"The task '{repeated[0]}' is named more than once; name each task once.")
    return {task: dict(modes) for task in tasks}


def plan_collection(simulator: Simulator, counts: Counts, seed: int) -> list[EpisodeSpec]:
    """All episodes in the order of collection: any first part of it is balanced over tasks and modes.

    Args:
        simulator: whose tasks they are.
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
    places = {task: place for place, task in enumerate(simulator.tasks)}

    def seed_of(task: str, mode: Mode, number: int) -> int:
        sequence = np.random.SeedSequence([seed, places[task], MODES.index(mode), number])
        return int(sequence.generate_state(1)[0])

    return [EpisodeSpec(task, mode, number, seed_of(task, mode, number)) for _, task, mode, number in cells]


def collect(
    simulator: Simulator,
    out: Path,
    counts: Counts,
    seed: int = 0,
    size: int = 128,
    workers: int | None = None,
) -> bool:
    """Collect episodes into a LeRobot v3.0 dataset at ``out``, with ``labels.jsonl`` and ``collection.json``.

    Args:
        simulator: where they come from.
        out: the dataset's folder.
        counts: how many episodes, of the simulator's tasks.
        seed: same seed, same machine: same labels and same actions.
        size: width and height of the pictures.
        workers: processes; None for one per core.

    Returns:
        False when the same collection was complete already, else True.

    Raises:
        DataError: unknown task, nothing to collect, another collection in ``out``, or workers that do
            nothing but die.
    """
    settings = {
        "simulator": simulator.name,
        "counts": {task: dict(modes) for task, modes in counts.items()},
        "seed": seed,
        "size": size,
        "fps": simulator.fps,
    }
    _check(simulator, out, settings)
    if (out / SUMMARY).exists():
        return False
    partial = out.with_name(f"{out.name}.partial")
    episodes = partial / "episodes"
    episodes.mkdir(parents=True, exist_ok=True)
    with replacing(partial / "settings.json") as file:
        file.write_text(json.dumps(settings))
    specs = plan_collection(simulator, counts, seed)
    _simulate(simulator, specs, episodes, size, workers or len(os.sched_getaffinity(0)))
    _finish(simulator, out, partial, settings, [episodes / spec.name for spec in specs])
    return True


def _check(simulator: Simulator, out: Path, settings: Mapping[str, Any]) -> None:
    """Refuse what cannot be collected."""
    unknown = sorted(set(settings["counts"]) - set(simulator.tasks))
    if unknown:
        raise DataError(f"There is no task '{unknown[0]}'; choose from: {', '.join(simulator.tasks)}.")
    if not any(sum(modes.values()) for modes in settings["counts"].values()):
        raise DataError("There is nothing to collect; ask for at least one episode of one task.")
    if settings["size"] % 2:
        raise DataError(f"Pictures of {settings['size']} pixels cannot be encoded; choose an even size.")
    if importlib.util.find_spec(simulator.name) is None:
        raise DataError(f"{simulator.name} is not installed; install it with: pip install 'worldvalue[sim]'.")
    # An unfinished collection may go on with more or fewer tasks and episodes: they do not depend on each other.
    fixed = {name: settings[name] for name in ("simulator", "seed", "size", "fps")}
    partial = out.with_name(f"{out.name}.partial")
    for path, ours in ((out / SUMMARY, settings), (partial / "settings.json", fixed)):
        if path.exists():
            earlier = {"simulator": "robosuite", **json.loads(path.read_text())}  # once there was no other
            if any(earlier.get(name) != value for name, value in ours.items()):
                raise DataError(
                    f"{path.parent} holds a collection with other settings; choose another folder, or remove that one."
                )
    if out.exists() and not (out / SUMMARY).exists():
        raise DataError(f"{out} exists already and is not a collection; choose another folder.")


def _simulate(simulator: Simulator, specs: Sequence[EpisodeSpec], episodes: Path, size: int, workers: int) -> None:
    """Run the missing episodes in worker processes, with a progress bar.

    When a process dies, others take its place: in hours of simulation and rendering even a rare fault of the native
    libraries below happens. Only when none of them has finished an episode is there no use in going on.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, speed_estimate_period=600) as progress:
        bar = progress.add_task("episodes", total=len(specs))
        while missing := _missing(specs, episodes):
            progress.update(bar, completed=len(specs) - len(missing))
            try:
                _simulate_in_processes(simulator, missing, episodes, size, workers, lambda: progress.advance(bar))
            except BrokenProcessPool as error:
                if missing == _missing(specs, episodes):
                    raise DataError(
                        f"Simulation processes die before they finish an episode, perhaps for lack of memory; the "
                        f"finished ones are kept in {episodes}: run the same command again to go on, with fewer "
                        "--workers if it happens again."
                    ) from error
                progress.console.print("A simulation process died; others go on with its episode.")
        progress.update(bar, completed=len(specs))


def _missing(specs: Sequence[EpisodeSpec], episodes: Path) -> list[EpisodeSpec]:
    return [spec for spec in specs if not (episodes / spec.name).exists()]


def _simulate_in_processes(
    simulator: Simulator,
    specs: Sequence[EpisodeSpec],
    episodes: Path,
    size: int,
    workers: int,
    finished: Callable[[], None],
) -> None:
    """Run all of these episodes.

    Raises:
        BrokenProcessPool: a process died, and the others were ended.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(specs)), context, _start_worker, (os.getpid(),)) as pool:
        running = [pool.submit(collect_episode, simulator, spec, episodes, size) for spec in specs]
        try:
            for future in as_completed(running):
                future.result()
                finished()
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


def collect_episode(simulator: Simulator, spec: EpisodeSpec, episodes: Path, size: int) -> None:
    """Simulate and render one episode, and write its folder ``episodes/TASK-MODE-NUMBER``."""
    made, cameras = simulator.simulate(spec, size), simulator.layout().cameras
    row = {
        "instruction": made.instruction,
        "labels": asdict(made.labels),
        "seed": spec.seed,
        "dropped": made.dropped,
    }
    pictures = zip(*made.pictures, strict=True)
    with replacing(episodes / spec.name) as folder:
        folder.mkdir(exist_ok=True)
        for name, frames in zip(cameras, pictures, strict=True):
            encode_video(folder / f"{name}.mp4", frames, simulator.fps)
        np.savez(folder / "columns.npz", **{"observation.state": made.state, "action": made.actions})
        (folder / "row.json").write_text(json.dumps(row))


def _finish(
    simulator: Simulator, out: Path, partial: Path, settings: Mapping[str, Any], folders: Sequence[Path]
) -> None:
    """Join the episodes' folders into the dataset."""
    layout, fps = simulator.layout(), simulator.fps
    rows = [json.loads((folder / "row.json").read_text()) for folder in folders]
    dataset = partial / "dataset"
    shutil.rmtree(dataset, ignore_errors=True)
    names = {"observation.state": layout.state_names, "action": layout.action_names}
    write_lerobot(dataset, _records(folders, rows, layout.cameras), fps, names, robot_type=layout.robot)
    manifest = [
        ManifestRow(
            instruction=row["instruction"],
            fps=fps,
            labels=_labels(row["labels"]),
            episode_index=index,
            seed=row["seed"],
        )
        for index, row in enumerate(rows)
    ]
    write_manifest(dataset / "labels.jsonl", manifest)
    digest = hashlib.sha256((dataset / "labels.jsonl").read_bytes()).hexdigest()
    summary = {**settings, "labels_sha256": digest, "statistics": statistics(rows, fps)}
    (dataset / SUMMARY).write_text(json.dumps(summary, indent=2))
    dataset.rename(out)
    shutil.rmtree(partial)


def _labels(told: Mapping[str, Any]) -> Labels:
    events = tuple(Event(**event) for event in told["events"])
    return Labels(**{**told, "kinds": tuple(told["kinds"]), "events": events})


def _records(
    folders: Sequence[Path], rows: Sequence[Mapping[str, Any]], cameras: Sequence[str]
) -> Iterator[EpisodeRecord]:
    for folder, row in zip(folders, rows, strict=True):
        with np.load(folder / "columns.npz") as columns:
            yield EpisodeRecord(
                instruction=row["instruction"],
                videos={f"observation.images.{name}": folder / f"{name}.mp4" for name in cameras},
                columns=dict(columns),
            )


def statistics(rows: Sequence[Mapping[str, Any]], fps: float) -> dict[str, dict[str, Any]]:
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
        cell["seconds"] += labels["length"] / fps
        for reason in row["dropped"]:
            cell["dropped"][reason] = cell["dropped"].get(reason, 0) + 1
    for cell in found.values():
        cell["kept"] = round(cell["episodes"] / cell["attempts"], 3)
        cell["seconds"] = round(cell["seconds"] / cell["episodes"], 2)
    return found
