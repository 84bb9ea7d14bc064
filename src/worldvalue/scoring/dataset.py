"""Everything that ``worldvalue score`` does for a dataset: run the job, then write what came out of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from worldvalue.data.files import replacing
from worldvalue.data.identity import dataset_identity
from worldvalue.data.progress import PROGRESS_COLUMNS, PROGRESS_NAME, write_progress
from worldvalue.scoring.bar import frames_bar
from worldvalue.scoring.job import Done, Job, Row, ScoreGroup, write_table
from worldvalue.scoring.report import About, write_report
from worldvalue.scoring.shards import Identity, Shards
from worldvalue.scoring.views import noting_damage
from worldvalue.types import DataError, Episode, EpisodeSource

SARM_NAME = "sarm_progress.parquet"
"""The name by which LeRobot's sample weighting and the dataset visualizer find values by themselves."""

Run = Callable[[Job], Iterator[Done]]
"""Finishes the missing groups of a job, in any order, and tells of each."""


@dataclass(frozen=True)
class Request:
    """What is to be written, and where.

    Attributes:
        out: folder of all outputs.
        model: name of the model, for the sidecar and the report.
        settings: how it scores, in a few words, for the report.
        camera: the view that the pictures show; None for each episode's default.
        in_place: put the sidecar into the dataset's root, and nothing else there.
        sarm_name: call the sidecar ``sarm_progress.parquet``.
        pictures: also a PNG of each episode, in ``out/pictures``.
        overlays: also each episode's video with its curve below, in ``out/overlays``.
    """

    out: Path
    model: str
    settings: str
    camera: str | None = None
    in_place: bool = False
    sarm_name: bool = False
    pictures: bool = False
    overlays: bool = False

    def sidecar(self, source: EpisodeSource) -> Path:
        """Where the values of every frame go."""
        return (source.path if self.in_place else self.out) / (SARM_NAME if self.sarm_name else PROGRESS_NAME)

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.out / "report.html"


@dataclass(frozen=True)
class Outcome:
    """What a call did.

    Attributes:
        rows: one entry an episode.
        scored: episodes that this call scored.
        written: outputs that this call wrote; none when everything was there already.
        undrawn: names of episodes whose frames are missing from an output, and why.
        notes: sentences about things found on the way.
    """

    rows: list[Row]
    scored: int
    written: list[Path]
    undrawn: dict[str, str]
    notes: list[str]

    @property
    def failures(self) -> list[Row]:
        """Episodes without values."""
        return [row for row in self.rows if row.error is not None]


def run_here(job: Job) -> Iterator[Done]:
    """A ``Run`` in this process."""
    return map(Done.of, job.run())


def score_dataset(
    source: EpisodeSource,
    score_group: ScoreGroup,
    group: int,
    model_identity: Identity,
    request: Request,
    console: Console,
    run: Run = run_here,
) -> Outcome:
    """Score what is not scored yet and write what is not written yet.

    Args:
        source: the dataset.
        score_group: the model at work.
        group: episodes that are scored together.
        model_identity: everything about model and settings that the values depend on.
        request: what is wanted.
        console: where the progress bar goes.
        run: who scores the missing groups.

    Raises:
        DataError: the request does not fit the dataset, or not one episode could be scored.
    """
    _check(source, request)
    ours = [request.out, *(source.path / name for name in (PROGRESS_NAME, SARM_NAME))]
    identity = {**model_identity, "dataset": dataset_identity(source, ignore=ours)}
    shards = Shards(request.out, identity)
    job = Job(source, score_group, shards, group)
    scored = _run_with_bar(job, run, console)
    rows = job.rows()
    _check_any_scored(rows)
    written, undrawn = _write_outputs(job, rows, request, console)
    return Outcome(rows, scored, written, undrawn, shards.strangers())


def _run_with_bar(job: Job, run: Run, console: Console) -> int:
    """Score the missing groups and count their episodes; a bar shows the rate and the time that remains."""
    total, groups = len(job.source), job.groups
    missing = sum(len(groups[number]) for number in job.missing())
    if not missing:
        return 0
    with frames_bar("Scoring", total, total - missing, console) as advance:
        for done in run(job):
            advance(*done)
    return missing


def _check(source: EpisodeSource, request: Request) -> None:
    if request.out.exists() and not request.out.is_dir():
        raise DataError(f"{request.out} is a file; name a folder with --out.")
    if request.in_place and not (source.path / "meta" / "info.json").is_file():
        raise DataError(f"{source.path} is not a LeRobot dataset; leave out --in-place and use --out.")
    sidecar = request.sidecar(source)
    if sidecar.exists() and not _is_ours(sidecar):
        raise DataError(f"{sidecar} was not written by worldvalue; move it away or write elsewhere with --out.")


def _is_ours(sidecar: Path) -> bool:
    try:
        return set(PROGRESS_COLUMNS.names) <= set(pq.read_schema(sidecar).names)
    except (pa.ArrowException, OSError):
        return False


def _check_any_scored(rows: list[Row]) -> None:
    if not rows:
        raise DataError("The dataset has no episodes; there is nothing to score.")
    if all(row.error is not None for row in rows):
        first = str(rows[0].error)
        raise DataError(first if len(rows) == 1 else f"None of the {len(rows)} episodes can be scored: {first}")


def _write_outputs(job: Job, rows: list[Row], request: Request, console: Console) -> tuple[list[Path], dict[str, str]]:
    """Write the outputs that are not there yet, and note each of them as soon as it is complete.

    Returns:
        The outputs written now; and of all outputs, the episodes whose frames could not be had, and why.
    """
    sidecar = request.sidecar(job.source)
    about = About(job.source.path.resolve().name, request.model, request.settings, sidecar.name, request.camera)
    writers: dict[Path, Callable[[Path, dict[str, str]], None]] = {
        sidecar: lambda path, _: write_progress(path, job.curves(), request.model),
        request.out / "episodes.csv": lambda path, _: write_table(path, rows),
        request.report: lambda path, undrawn: write_report(path, rows, job.curves, about, undrawn),
    }
    if request.pictures:
        writers[request.out / "pictures"] = partial(_write_pictures, job, request.camera)
    if request.overlays:
        writers[request.out / "overlays"] = partial(_write_overlays, job, request.camera)
    ledger = _Ledger(request.out / ".shards" / "written.json", job.shards.key, request.model)
    written = [path for path in writers if path not in ledger]
    for path in written:
        undrawn: dict[str, str] = {}
        with console.status(f"Writing {path.name}"):
            writers[path](path, undrawn)
        ledger.add(path, undrawn)
    return written, ledger.undrawn(writers)


class _Ledger:
    """Which outputs are complete but for which episodes' frames, and which values and model name they show."""

    def __init__(self, path: Path, key: str, model: str) -> None:
        self._path = path
        self._made_from = {"key": key, "model": model}
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = {}
        same = all(known.get(name) == value for name, value in self._made_from.items())
        self._undrawn: dict[str, dict[str, str]] = known.get("undrawn", {}) if same else {}

    def __contains__(self, output: Path) -> bool:
        return str(output.resolve()) in self._undrawn and output.exists()

    def add(self, output: Path, undrawn: dict[str, str]) -> None:
        self._undrawn[str(output.resolve())] = undrawn
        with replacing(self._path) as file:
            file.write_text(json.dumps({**self._made_from, "undrawn": self._undrawn}), encoding="utf-8")

    def undrawn(self, outputs: Iterable[Path]) -> dict[str, str]:
        """Episodes whose frames are missing from some of the outputs, and why."""
        return {name: why for output in outputs for name, why in self._undrawn[str(output.resolve())].items()}


def _write_pictures(job: Job, camera: str | None, folder: Path, undrawn: dict[str, str]) -> None:
    from worldvalue.scoring.pictures import save_picture

    for episode, curve in job.curves():
        with noting_damage(episode, undrawn):
            save_picture(folder / f"{_file_name(episode)}.png", episode, curve, camera)


def _write_overlays(job: Job, camera: str | None, folder: Path, undrawn: dict[str, str]) -> None:
    from worldvalue.scoring.pictures import save_overlay

    for episode, curve in job.curves():
        with noting_damage(episode, undrawn):
            save_overlay(folder / f"{_file_name(episode)}.mp4", episode, curve, camera)


def _file_name(episode: Episode) -> str:
    return f"{episode.index:06d}_{Path(episode.name).stem}"
