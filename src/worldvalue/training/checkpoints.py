"""Checkpoints of a run: weights (safetensors), optimizer, schedule, random state and step, whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from accelerate import Accelerator

from worldvalue.types import DataError

KEPT = 2
"""How many of the newest checkpoints stay."""


def checkpoints(out: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first."""
    return sorted((out / "checkpoints").glob("step_*"))


def latest_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint folder of a run, or None."""
    return next(reversed(checkpoints(out)), None)


def save_checkpoint(out: Path, accelerator: Accelerator, step: int) -> None:
    """Write ``out/checkpoints/step_XXXXXXXX`` under a temporary name, rename it, drop the oldest ones.

    Every process writes its share into the same folder; the first one makes it, renames it and cleans up.
    """
    folder = out / "checkpoints" / f"step_{step:08d}"
    partial = folder.with_name(f".partial-{folder.name}")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (partial / "progress.json").write_text(json.dumps({"step": step}))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        for old in checkpoints(out)[:-KEPT]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_checkpoint(out: Path, accelerator: Accelerator) -> int:
    """Load the newest checkpoint of a run into the prepared parts; its step, or 0 when there is none.

    Raises:
        DataError: the checkpoint does not fit the model.
    """
    folder = latest_checkpoint(out)
    if folder is None:
        return 0
    try:
        accelerator.load_state(str(folder))
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{folder} does not fit this model; use the settings of the run that wrote it.") from error
    return int(json.loads((folder / "progress.json").read_text())["step"])
