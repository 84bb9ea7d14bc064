"""Which simulated episodes are for what: no episode is in two splits.

The test split is Suboptimal-Value-Bench's RoboSuite part made again (WVM section 4, appendix C), with failures and a
counterfactual part. It is never trained on and never used to choose anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worldvalue.simulation.collect import Counts, even_counts
from worldvalue.simulation.metaworld_episodes import METAWORLD
from worldvalue.simulation.metaworld_tasks import SEEN, UNSEEN
from worldvalue.simulation.robosuite_episodes import ROBOSUITE
from worldvalue.simulation.simulator import Simulator
from worldvalue.simulation.tasks import PAPER_TASKS, TASKS
from worldvalue.types import DataError

_OF_FOUR = [name for name, task in TASKS.items() if task.others]
_BEHIND = [name for name, task in TASKS.items() if task.behind]


@dataclass(frozen=True)
class Split:
    """A collection with a name.

    Attributes:
        seed: of the collection.
        counts: its episodes by task and mode.
        simulator: where they come from.
    """

    seed: int
    counts: Counts
    simulator: Simulator = ROBOSUITE


def _paper_counts() -> Counts:
    """25 hesitations, 25 retries and 10 failures a task, 99 experts in all."""
    counts = even_counts(PAPER_TASKS, {"hesitation": 25, "retry": 25, "failure": 10})
    for number, task in enumerate(PAPER_TASKS):
        counts[task]["expert"] = 17 if number < 99 % len(PAPER_TASKS) else 16
    return counts


def _few(counts: Counts, most: int = 2) -> Counts:
    return {task: {mode: min(most, count) for mode, count in modes.items()} for task, modes in counts.items()}


_TEST_SEED = 4_000_000
_COUNTERFACTUAL = even_counts(_OF_FOUR, {"expert": 20})

SPLITS: Mapping[str, Split] = {
    # What the shipped model was trained on, one after the other; the third taught it to listen.
    "train": Split(0, even_counts(PAPER_TASKS, {"expert": 48, "hesitation": 16, "retry": 24, "failure": 4})),
    "train-more": Split(1, even_counts(PAPER_TASKS, {"expert": 40, "hesitation": 24, "retry": 16})),
    "train-scenes": Split(
        2,
        even_counts(["lift", "stack"], {"expert": 40, "hesitation": 40, "retry": 10})
        | even_counts(["bread", "can", "cereal", "milk"], {"expert": 15, "hesitation": 15})
        | even_counts(_OF_FOUR, {"expert": 40, "hesitation": 10, "retry": 10}),
    ),
    "train-retries": Split(3, even_counts(["bread", "can", "cereal", "milk"], {"hesitation": 10, "retry": 30})),
    "train-hesitations": Split(
        6,
        even_counts(PAPER_TASKS, {"expert": 40, "hesitation": 60, "retry": 40, "failure": 4})
        | even_counts(_OF_FOUR, {"expert": 12, "hesitation": 8, "retry": 5}),
    ),
    "train-more-hesitations": Split(
        7,
        even_counts(["stack"], {"expert": 40, "hesitation": 60, "retry": 30})
        | even_counts(["bread", "cereal", "milk"], {"expert": 30, "hesitation": 36, "retry": 20})
        | even_counts(["lift", "can"], {"hesitation": 36, "retry": 20}),
    ),
    # Starts that look like the end through one camera, rare among the others.
    "train-behind": Split(8, even_counts(_BEHIND, {"expert": 80, "hesitation": 40, "retry": 30})),
    # What the policies were trained on; their demonstrations teach the shipped model too.
    "train-lift": Split(4, {"lift": {"expert": 200}}),
    "train-can": Split(5, {"can": {"expert": 200}}),
    # Figures while the library grows, and choices that `tune` is too small for.
    "validation": Split(
        1_000_000, even_counts(PAPER_TASKS, {"expert": 10, "hesitation": 10, "retry": 10, "failure": 3})
    ),
    "validation-counterfactual": Split(1_000_000, even_counts(_OF_FOUR, {"expert": 10})),
    "validation-behind": Split(1_000_000, even_counts(_BEHIND, {"expert": 30, "hesitation": 10, "retry": 10})),
    # Choices and calibration.
    "tune": Split(2_000_000, even_counts(PAPER_TASKS, {"expert": 3, "hesitation": 2, "retry": 2, "failure": 1})),
    "demo": Split(3_000_000, even_counts(["lift", "stack", "can", "bread"], {"expert": 1, "retry": 1})),
    # The benchmark.
    "test": Split(_TEST_SEED, _paper_counts()),
    "test-counterfactual": Split(_TEST_SEED, _COUNTERFACTUAL),
    "test-small": Split(_TEST_SEED, _few(_paper_counts())),
    "test-counterfactual-small": Split(_TEST_SEED, _few(_COUNTERFACTUAL)),
    # The second embodiment: forty tasks to learn from, held-out episodes of them for choices and for figures, and ten
    # that are never learned from.
    "metaworld-train": Split(0, even_counts(SEEN, {"expert": 12}), METAWORLD),
    "metaworld-validation": Split(1_000_000, even_counts(SEEN, {"expert": 1}), METAWORLD),
    "metaworld-test": Split(_TEST_SEED, even_counts(SEEN, {"expert": 3}), METAWORLD),
    "metaworld-unseen": Split(_TEST_SEED, even_counts(UNSEEN, {"expert": 10}), METAWORLD),
}
"""All splits by name; a small one is a part of the one whose name it begins with."""


def find_split(name: str, simulator: Simulator) -> Split:
    """A simulator's split by its name.

    Raises:
        DataError: there is none.
    """
    theirs = {known: split for known, split in SPLITS.items() if split.simulator is simulator}
    if name not in theirs:
        raise DataError(f"There is no split '{name}' of {simulator.name}; choose from: {', '.join(theirs)}.")
    return theirs[name]
