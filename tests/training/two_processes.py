"""What each of two processes does for ``test_parallelize``: small trainings, the last of which kills the second.

Run as ``python -m tests.training.two_processes OUT``, twice, with the variables that ``torchrun`` sets.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from tests.small import train_small

from worldvalue.data.windows import WindowDataset
from worldvalue.training.parallelize import started_processes
from worldvalue.training.settings import TrainingSettings

ONE = TrainingSettings(
    steps=4, batch=2, accumulation=2, warmup=2, peak_rate=1e-3, precision="no", save_every=2, log_every=1
)
"""One process that takes in two turns what two processes take at once."""
TWO = replace(ONE, accumulation=1, sharded=True)
SHORT = {"steps": 2}
VALUE_ALONE = {"value": 1.0}


class Deadly(WindowDataset):
    """Kills the second process when it asks for a sample of the third step."""

    def __getitem__(self, number: int) -> dict[str, object]:
        if started_processes().process_index == 1 and number >= 2 * 2 * TWO.batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(number)


def main(out: Path) -> None:
    """Runs by name, each in its folder of ``out``."""
    whole = train_small(out / "sharded", TWO)
    if started_processes().is_main_process:
        save_file({name: tensor.contiguous() for name, tensor in whole.items()}, out / "sharded.safetensors")
    else:
        assert not whole
    train_small(out / "resumed", TWO, resume=True)
    twice = replace(TWO, accumulation=2, **SHORT)
    train_small(out / "recomputed", replace(twice, recompute=True))
    train_small(out / "copied", replace(twice, sharded=False))
    train_small(out / "bf16", replace(TWO, precision="bf16", **SHORT))
    train_small(out / "value alone", replace(TWO, **SHORT), weights=VALUE_ALONE)
    train_small(out / "frozen", replace(TWO, **SHORT), frozen="video")
    train_small(out / "killed", TWO, dataset=Deadly)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
