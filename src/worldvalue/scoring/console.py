"""What a person sees on the terminal when a scoring job is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from worldvalue.scoring.dataset import Outcome
from worldvalue.scoring.job import Row

SHOWN = 10


def print_outcome(outcome: Outcome, report: Path, console: Console) -> None:
    """A short table, what failed in one sentence each, what was done, and where the report lies."""
    console.print(results_table(outcome.rows))
    for note in outcome.notes:
        console.print(f"Note: {note}", markup=False, highlight=False, soft_wrap=True)
    for row in outcome.failures:
        console.print(f"Failed: {row.error}", markup=False, highlight=False, soft_wrap=True)
    for name, why in outcome.undrawn.items():
        console.print(f"Not drawn: {name}: {why}", markup=False, highlight=False, soft_wrap=True)
    done = len(outcome.rows) - len(outcome.failures)
    if not outcome.written:
        console.print(f"All {done:,} episodes were scored before with the same model, settings and data.")
    elif outcome.scored < len(outcome.rows):
        console.print(f"{len(outcome.rows) - outcome.scored:,} episodes had been scored before.")
    console.print(f"Report: {report}", markup=False, highlight=False, soft_wrap=True)


def results_table(rows: Sequence[Row]) -> Table:
    """The episodes with the deepest drops, at most ten."""
    scored = [row for row in rows if row.summary]
    worst = sorted(scored, key=lambda row: -row.summary.worst_drop if row.summary else 0.0)[:SHOWN]
    title = f"{SHOWN} of {len(scored):,} episodes, deepest drops first" if len(scored) > SHOWN else None
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="")
    table.add_column("episode", no_wrap=True)
    table.add_column("instruction", no_wrap=True, max_width=24)
    for name in ("length", "final", "drop", "stalled"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in worst:
        assert row.summary is not None
        summary = row.summary
        numbers = (
            f"{summary.seconds:.1f} s",
            f"{summary.final_value:.2f}",
            f"{summary.worst_drop:.2f}",
            f"{summary.stalled_seconds:.1f} s",
        )
        table.add_row(escape(row.name), escape(row.instruction), *numbers)
    return table
