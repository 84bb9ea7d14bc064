"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Cluster = Annotated[
    str | None,
    typer.Option(help="Share the work on a Ray cluster: the address of its head, or auto for this machine's."),
]
Data = Annotated[
    list[Path],
    typer.Option(help="Episodes to learn from: anything 'score' reads, with labels.jsonl or expert. May be repeated."),
]
Out = Annotated[Path, typer.Option(help="Folder of the run: checkpoints, log, result.")]
Override = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting of the recipe, e.g. training.steps=100.")
]
RecipeName = Annotated[str, typer.Option(help="Name of a recipe.")]
Resume = Annotated[bool, typer.Option(help="Go on from the newest checkpoint in --out.")]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="Euler steps of a noise sample, the model's own by default; 1 makes the band narrow."),
]
