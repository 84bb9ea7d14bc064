"""Which episodes are for what, without the simulator."""

from itertools import combinations

import pytest

from worldvalue.simulation.collect import plan_collection
from worldvalue.simulation.splits import SPLITS, find_split
from worldvalue.simulation.tasks import PAPER_TASKS, TASKS
from worldvalue.types import DataError


def _seeds(name: str) -> set[int]:
    split = SPLITS[name]
    return {spec.seed for spec in plan_collection(split.counts, split.seed)}


def test_no_episode_is_in_two_splits() -> None:
    small = {name for name in SPLITS if name.endswith("-small")}
    for one, other in combinations(set(SPLITS) - small, 2):
        assert not _seeds(one) & _seeds(other), (one, other)
    assert all(_seeds(name) < _seeds(name.removesuffix("-small")) for name in small)


def test_every_episode_of_a_split_has_a_seed_of_its_own() -> None:
    for name, split in SPLITS.items():
        assert len(_seeds(name)) == sum(sum(modes.values()) for modes in split.counts.values())


def test_the_test_split_has_the_papers_numbers() -> None:
    counts = SPLITS["test"].counts
    per_mode = {mode: sum(counts[task][mode] for task in PAPER_TASKS) for mode in ("hesitation", "retry", "expert")}
    assert per_mode == {"hesitation": 150, "retry": 150, "expert": 99}
    assert sum(counts[task]["failure"] for task in PAPER_TASKS) == 60
    assert set(counts) == set(PAPER_TASKS)
    of_four = {"bread_of_four", "can_of_four", "cereal_of_four", "milk_of_four"}
    assert set(SPLITS["test-counterfactual"].counts) == of_four


def test_counterfactual_tasks_name_the_other_objects_of_their_scene() -> None:
    for name, task in TASKS.items():
        assert task.others == () or {*task.others, name.removesuffix("_of_four")} == {"bread", "can", "cereal", "milk"}


def test_an_unknown_split_gets_a_sentence() -> None:
    with pytest.raises(DataError, match="no split 'exam'; choose from: train,"):
        find_split("exam")
