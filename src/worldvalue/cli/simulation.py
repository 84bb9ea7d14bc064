"""Simulated episodes: ``collect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from worldvalue.simulation.collect import Counts
    from worldvalue.simulation.simulator import Simulator
    from worldvalue.types import Mode


collect_app = typer.Typer(help="Collect simulated episodes.", no_args_is_help=True)


_Seed = Annotated[int, typer.Option(min=0, help="Same seed, same episodes.")]
_Size = Annotated[int, typer.Option(min=16, help="Width and height of the pictures; even.")]
_Workers = Annotated[int | None, typer.Option(min=1, help="Processes; one per core by default.")]
_Split = Annotated[
    str | None, typer.Option(help="A split of simulation/splits.py instead, such as test: tasks, numbers and seed.")
]
_Collection = Annotated[Path, typer.Argument(help="Folder of the dataset to write.")]


@collect_app.command()
def robosuite(
    out: _Collection,
    tasks: Annotated[str, typer.Option(help="Tasks, separated by commas.")] = "lift,stack,bread,can,cereal,milk",
    expert: Annotated[int, typer.Option(min=0, help="Expert episodes of each task.")] = 10,
    hesitation: Annotated[int, typer.Option(min=0, help="Episodes of each task with a hesitation.")] = 0,
    retry: Annotated[int, typer.Option(min=0, help="Episodes of each task with a retry.")] = 0,
    failure: Annotated[int, typer.Option(min=0, help="Failed episodes of each task.")] = 0,
    seed: _Seed = 0,
    split: _Split = None,
    size: _Size = 128,
    workers: _Workers = None,
) -> None:
    """Collect episodes of robosuite tasks; the same command again continues a stopped collection."""
    from worldvalue.simulation.collect import even_counts
    from worldvalue.simulation.robosuite_episodes import ROBOSUITE

    modes: dict[Mode, int] = {"expert": expert, "hesitation": hesitation, "retry": retry, "failure": failure}
    _collect(ROBOSUITE, out, even_counts(tasks.split(","), modes), seed, split, size, workers)


@collect_app.command()
def metaworld(
    out: _Collection,
    tasks: Annotated[
        str | None, typer.Option(help="Tasks, separated by commas, such as drawer-open,push; all fifty by default.")
    ] = None,
    expert: Annotated[int, typer.Option(min=1, help="Expert episodes of each task.")] = 2,
    seed: _Seed = 0,
    split: _Split = None,
    size: _Size = 128,
    workers: _Workers = None,
) -> None:
    """Collect expert episodes of Meta-World tasks; the same command again continues a stopped collection."""
    from worldvalue.simulation.collect import even_counts
    from worldvalue.simulation.metaworld_episodes import METAWORLD

    names = tasks.split(",") if tasks else METAWORLD.tasks
    _collect(METAWORLD, out, even_counts(names, {"expert": expert}), seed, split, size, workers)


def _collect(
    simulator: Simulator, out: Path, counts: Counts, seed: int, split: str | None, size: int, workers: int | None
) -> None:
    from worldvalue.simulation.collect import collect
    from worldvalue.simulation.splits import find_split

    if split is not None:
        chosen = find_split(split, simulator)
        counts, seed = chosen.counts, chosen.seed
    collected = collect(simulator, out, counts, seed, size, workers)
    typer.echo(f"{out} is {'written' if collected else 'complete already'}.")
