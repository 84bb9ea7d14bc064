"""How often the scripted oracle does what its plan says, and how long it takes: physics only, nothing is rendered.

Run: ``OMP_NUM_THREADS=1 python scripts/oracle_success.py --seeds 50``
About 2.5 CPU seconds an episode; prints a Markdown table with the mode's success per attempt in every task.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import track

from worldvalue.simulation.collect import plan_collection
from worldvalue.simulation.environment import Environment
from worldvalue.simulation.oracle import defect, run_plan
from worldvalue.simulation.plan import draw_plan
from worldvalue.simulation.robosuite_episodes import ROBOSUITE
from worldvalue.simulation.tasks import PAPER_TASKS, TASKS
from worldvalue.types import MODES, Mode


@dataclass
class Tally:
    """First attempts at one task.

    Attributes:
        seconds: length of each episode that went as planned.
        dropped: how often each kind of plan failed, and why.
        cpu: CPU seconds of all attempts.
    """

    seconds: list[float] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    cpu: float = 0.0

    def row(self, task: str) -> str:
        """One line of the table."""
        kept, attempts = len(self.seconds), len(self.seconds) + self.dropped.total()
        mean = f"{np.mean(self.seconds):.1f}" if kept else "-"
        spread = f"{min(self.seconds):.1f} to {max(self.seconds):.1f}" if kept else "-"
        reasons = ", ".join(f"{reason} ({count})" for reason, count in self.dropped.most_common()) or "-"
        share = f"{kept}/{attempts} ({kept / attempts:.0%})"
        return f"| {task} | {share} | {mean} | {spread} | {self.cpu / attempts:.1f} | {reasons} |"


def measure(task: str, mode: Mode, seeds: int, seed: int) -> Tally:
    """Attempt each episode of a collection once: the plans are the first that ``collect`` would draw."""
    environment, tally = Environment(TASKS[task]), Tally()
    for spec in track(plan_collection(ROBOSUITE, {task: {mode: seeds}}, seed), task, console=Console(stderr=True)):
        began = time.process_time()
        rng = np.random.default_rng([spec.seed, 0])
        plan = draw_plan(TASKS[task], mode, rng)
        rollout = run_plan(environment, plan, seed=int(rng.integers(2**32)))
        reason = defect(plan, rollout)
        if reason is None:
            tally.seconds.append(len(rollout.actions) / ROBOSUITE.fps)
        else:
            tally.dropped[" ".join((*plan.kinds, reason))] += 1
        tally.cpu += time.process_time() - began
    return tally


def main() -> None:
    """Print a row as soon as its task is measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(PAPER_TASKS))
    parser.add_argument("--mode", choices=MODES, default="expert")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=5_000_000, help="seed of the collection")
    options = parser.parse_args()
    print(f"| {options.mode} | success per attempt | mean seconds | range | CPU seconds | dropped |")
    print("|---|---|---|---|---|---|")
    means = []
    for task in options.tasks:
        tally = measure(task, options.mode, options.seeds, options.seed)
        means += [np.mean(tally.seconds)] if tally.seconds else []
        print(tally.row(task), flush=True)
    print(f"\nMean of the tasks' mean lengths: {np.mean(means):.1f} s.")


if __name__ == "__main__":
    main()
