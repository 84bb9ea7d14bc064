"""Which episodes are for what, without the simulator."""

from itertools import combinations

import pytest

from worldvalue.simulation.collect import plan_collection
from worldvalue.simulation.metaworld_episodes import METAWORLD
from worldvalue.simulation.metaworld_tasks import INSTRUCTIONS, SEEN, UNSEEN
from worldvalue.simulation.robosuite_episodes import ROBOSUITE
from worldvalue.simulation.splits import SPLITS, find_split
from worldvalue.simulation.tasks import PAPER_TASKS, TASKS
from worldvalue.types import DataError


def _seeds(name: str) -> set[tuple[str, int]]:
    split = SPLITS[name]
    specs = plan_collection(split.simulator, split.counts, split.seed)
    return {(split.simulator.name, spec.seed) for spec in specs}


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


def test_a_start_that_looks_like_the_end_is_never_in_the_benchmark() -> None:
    """The benchmark is the paper's tasks as they fall; what was learned from a rare start has splits of its own."""
    assert {name for name, split in SPLITS.items() if "stack_behind" in split.counts} == {
        "train-behind",
        "validation-behind",
    }


def test_an_unknown_split_gets_a_sentence() -> None:
    with pytest.raises(DataError, match="no split 'exam' of robosuite; choose from: train,"):
        find_split("exam", ROBOSUITE)
    with pytest.raises(DataError, match="no split 'train' of metaworld; choose from: metaworld-train,"):
        find_split("train", METAWORLD)


def test_ten_tasks_of_metaworld_are_never_trained_on_nor_chosen_by() -> None:
    elsewhere = {task for name, split in SPLITS.items() if name != "metaworld-unseen" for task in split.counts}
    assert set(SPLITS["metaworld-unseen"].counts) == set(UNSEEN)
    assert not elsewhere & set(UNSEEN)
    assert (len(UNSEEN), len(SEEN), len(INSTRUCTIONS)) == (10, 40, 50)


def test_instructions_of_metaworld_differ_and_fit_the_tiny_model() -> None:
    phrases = [phrase for phrases in INSTRUCTIONS.values() for phrase in phrases]
    assert len(set(phrases)) == len(phrases) == 100
    assert max(len(phrase.encode()) for phrase in phrases) <= 64
