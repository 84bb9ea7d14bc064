"""What a training run says while it runs: a progress bar, a CSV file, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from worldvalue.data.files import replacing


class TrainingLog:
    """Log of one run, from step ``start`` to ``steps``; a context manager.

    ``log.csv`` has the columns step, seconds (since this start), learning_rate, waiting and one for each loss. Waiting
    is the share of the time since the last row, 0 to 1, that the loop spent waiting for samples. When a run resumes,
    rows after the step it resumes from are dropped.
    """

    def __init__(self, out: Path, start: int, steps: int, enabled: bool = True) -> None:
        self.path = out / "log.csv"
        self.start = start
        self.enabled = enabled
        self._began = time.monotonic()
        self._board = _tensorboard(out / "tensorboard", start) if enabled else None
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=Console(stderr=True),
            disable=not enabled,
        )
        self._task = self._bar.add_task("training", total=steps, completed=start, rate="", losses="")
        self._done = 0

    def __enter__(self) -> TrainingLog:
        if self.enabled:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _drop_rows_after(self.path, self.start)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._board is not None:
            self._board.close()

    def advance(self) -> None:
        """One step is done."""
        self._done += 1
        rate = self._done / (time.monotonic() - self._began)
        self._bar.update(self._task, advance=1, rate=f"{rate:.2f} steps/s")

    def write(self, step: int, losses: Mapping[str, float], learning_rate: float, waiting: float) -> None:
        """Keep the losses of a step."""
        self._bar.update(self._task, losses="  ".join(f"{name} {loss:.4f}" for name, loss in losses.items()))
        if not self.enabled:
            return
        row = {
            "step": step,
            "seconds": f"{time.monotonic() - self._began:.1f}",
            "learning_rate": f"{learning_rate:.3g}",
            "waiting": f"{waiting:.3f}",
            **{name: f"{loss:.6f}" for name, loss in losses.items()},
        }
        new = not self.path.exists() or self.path.stat().st_size == 0
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row.keys(), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        if self._board is not None:
            for name, loss in losses.items():
                self._board.add_scalar(f"loss/{name}", loss, step)
            self._board.add_scalar("learning_rate", learning_rate, step)
            self._board.add_scalar("waiting", waiting, step)


def steps_and_seconds(out: Path) -> tuple[int, float]:
    """The last step in a run's log and the seconds it took to get there, over all starts."""
    with (out / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    told = [0.0, *(float(row["seconds"]) for row in rows)]
    # Each start counts from 0 again.
    return int(rows[-1]["step"]), sum(now - before if now >= before else now for before, now in pairwise(told))


def _tensorboard(folder: Path, start: int) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=start)


def _drop_rows_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines() or [""]
    whole = [row for row in rows if row.count(",") == header.count(",")]
    kept = [row for row in whole if int(row.split(",", 1)[0]) <= step]
    with replacing(path) as partial:
        partial.write_text("".join(f"{row}\n" for row in (header, *kept) if row), encoding="utf-8")
