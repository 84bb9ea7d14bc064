"""Checkpoints of a run: weights, optimizer state and step, whole or not at all.

Every process writes its share (torch.distributed.checkpoint), under names that depend on no parallelism: any number of
processes can read it, sharded or not.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from worldvalue.types import DataError

KEPT = 2
"""How many of the newest checkpoints stay."""


def checkpoints(out: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first."""
    return sorted((out / "checkpoints").glob("step_*"))


def latest_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint folder of a run, or None."""
    return next(reversed(checkpoints(out)), None)


def save_checkpoint(
    out: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, processes: PartialState
) -> None:
    """Write ``out/checkpoints/step_XXXXXXXX`` under a temporary name, rename it, drop the oldest ones.

    The first process makes the folder, renames it and cleans up.

    Raises:
        OSError: it cannot be written; the one before stays.
    """
    folder = out / "checkpoints" / f"step_{step:08d}"
    partial = folder.with_name(f".partial-{folder.name}")
    if processes.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    processes.wait_for_everyone()
    try:
        with _one_process_is_fine():
            save(_stored(*get_state_dict(model, optimizer)), checkpoint_id=partial)
    except CheckpointException as error:
        first, _ = next(iter(error.failures.values()))
        raise OSError(f"{partial} cannot be written ({first}); make room and continue with --resume.") from error
    if processes.is_main_process:
        (partial / "progress.json").write_text(json.dumps({"step": step}))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        for old in checkpoints(out)[:-KEPT]:
            shutil.rmtree(old)
    processes.wait_for_everyone()


def load_checkpoint(out: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the newest checkpoint of a run into model and optimizer; its step, or 0 when there is none.

    The optimizer's settings stay as they are; only what it has gathered is loaded.

    Raises:
        DataError: the checkpoint does not fit the model.
    """
    folder = latest_checkpoint(out)
    if folder is None:
        return 0
    weights, gathered = get_state_dict(model, optimizer)
    stored = _stored(weights, gathered)
    try:
        # A weight that had no gradient yet has nothing in the checkpoint beside its value.
        _check_names(folder, set(weights))
        with _one_process_is_fine():
            load(stored, checkpoint_id=folder, planner=DefaultLoadPlanner(allow_partial_load=True))
    except (CheckpointException, ValueError, OSError) as error:
        told = f"{folder} does not fit this model, or another version wrote it"
        raise DataError(f"{told}; use the settings and the version of the run that wrote it.") from error
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=gathered)
    return int(json.loads((folder / "progress.json").read_text())["step"])


def _stored(weights: dict[str, Any], gathered: dict[str, Any]) -> dict[str, Any]:
    return {"model": weights, "optimizer": gathered["state"]}


def _check_names(folder: Path, wanted: set[str]) -> None:
    names = FileSystemReader(folder).read_metadata().state_dict_metadata
    there = {name.removeprefix("model.") for name in names if name.startswith("model.")}
    if there != wanted:
        raise ValueError(f"the checkpoint and the model differ in: {', '.join(sorted(there ^ wanted))}")


@contextmanager
def _one_process_is_fine() -> Iterator[None]:
    """torch warns that it takes a lone process for a lone process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
