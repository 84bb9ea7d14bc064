"""The commands. Thin: each reads its options, calls one function of ours, and prints what came out.

This file puts them together. Heavy libraries are imported inside the commands, so that ``worldvalue --help`` stays
quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from worldvalue import __version__
from worldvalue.cli.measuring import bench_app, manifold, rollout
from worldvalue.cli.scoring import calibrate, score
from worldvalue.cli.simulation import collect_app
from worldvalue.cli.training import encode, plan, train_app
from worldvalue.types import DataError

app = typer.Typer(
    name="worldvalue",
    help="Value models of robot manipulation: score episodes, collect simulated ones, train.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (score, calibrate, rollout, manifold, encode, plan):
    app.command()(_command)
for _name, _group in {"bench": bench_app, "collect": collect_app, "train": train_app}.items():
    app.add_typer(_group, name=_name)
_state = {"debug": False}


@app.callback(invoke_without_command=True)
def _root(
    debug: Annotated[bool, typer.Option(help="Show the full traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    _state["debug"] = debug
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; bad input becomes one sentence and exit code 2."""
    try:
        app()
    except (DataError, OSError) as error:
        if _state["debug"]:
            raise
        typer.echo(f"worldvalue: {error}", err=True)
        sys.exit(2)
