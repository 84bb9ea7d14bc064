"""A progress bar over episodes, with the rate in frames and the time that remains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def frames_bar(doing: str, total: int, before: int, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs; yield what is to be told of finished work: its episodes and its frames.

    Args:
        doing: what is done, in a word or two.
        total: episodes.
        before: so many of them were done before.
        console: where the bar goes.
    """
    columns = (
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes  {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    frames, start = 0, time.perf_counter()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(doing, total=total, completed=before, rate="")

        def advance(more_episodes: int, more_frames: int) -> None:
            nonlocal frames
            frames += more_frames
            rate = f"{frames / (time.perf_counter() - start):,.0f} frames/s "
            progress.update(task, advance=more_episodes, rate=rate)

        yield advance
