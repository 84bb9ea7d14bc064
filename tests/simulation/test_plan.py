"""The laws of plans, without the simulator."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldvalue.simulation.collect import even_counts, plan_collection
from worldvalue.simulation.plan import Grip, Move, Plan, Retrace, Wait, draw_plan
from worldvalue.simulation.robosuite_episodes import ROBOSUITE
from worldvalue.simulation.tasks import BIN_PITCH, PAPER_TASKS, TASKS
from worldvalue.types import MODES, Mode

tasks = st.sampled_from(sorted(TASKS))
modes = st.sampled_from(MODES)
seeds = st.integers(0, 2**32 - 1)


def plan_of(task: str, mode: Mode, seed: int) -> Plan:
    return draw_plan(TASKS[task], mode, np.random.default_rng(seed))


@given(tasks, modes, seeds)
@settings(deadline=None)
def test_a_seed_gives_one_plan_and_another_seed_another(task: str, mode: Mode, seed: int) -> None:
    assert plan_of(task, mode, seed) == plan_of(task, mode, seed)
    assert plan_of(task, mode, seed).phases != plan_of(task, mode, seed + 1).phases


@given(tasks, modes, seeds)
@settings(deadline=None)
def test_the_suboptimal_phases_are_those_that_the_mode_asks_for(task: str, mode: Mode, seed: int) -> None:
    plan = plan_of(task, mode, seed)
    marked = [number for number, phase in enumerate(plan.phases) if getattr(phase, "suboptimal", False)]
    assert all(after == before + 1 for before, after in pairwise(marked)), "one segment without a gap"
    kinds = [type(plan.phases[number]) for number in marked]
    assert kinds == {"expert": [], "hesitation": [Wait], "retry": [Grip, Retrace], "failure": []}[mode]
    if marked:
        assert marked[0] > 0
        assert marked[-1] < len(plan.phases) - 1


@given(tasks, st.sampled_from(("expert", "hesitation")), seeds)
@settings(deadline=None)
def test_plans_without_a_retry_grasp_once(task: str, mode: Mode, seed: int) -> None:
    closings = [p for p in plan_of(task, mode, seed).phases if isinstance(p, Grip) and p.closed]
    assert len(closings) == 1


@given(tasks, seeds)
@settings(deadline=None)
def test_a_retraction_goes_back_over_movements_made_before_it(task: str, seed: int) -> None:
    phases = plan_of(task, "retry", seed).phases
    back = next(phase for phase in phases if isinstance(phase, Retrace))
    where = phases.index(back)
    before = {phase.name for phase in phases[:where] if isinstance(phase, Move)}
    assert set(back.legs) <= before
    assert [p.name for p in phases[where:]].count("close") == 1, "a second attempt follows"


@given(tasks, modes, seeds)
@settings(deadline=None)
def test_only_the_labelled_hesitation_stands_still_for_long(task: str, mode: Mode, seed: int) -> None:
    waits = [phase for phase in plan_of(task, mode, seed).phases if isinstance(phase, Wait)]
    assert all(2 <= wait.seconds <= 8 if wait.suboptimal else wait.seconds <= 0.4 for wait in waits)


@given(tasks, modes, seeds)
@settings(deadline=None)
def test_kinds_are_the_tasks_own(task: str, mode: Mode, seed: int) -> None:
    allowed: dict[str, set[tuple[str, ...]]] = {
        "expert": {()},
        "hesitation": {("still",), ("micro_movements",)},
        "retry": {(kind,) for kind in TASKS[task].retry_kinds},
        "failure": {(kind,) for kind in TASKS[task].failure_kinds},
    }
    assert plan_of(task, mode, seed).kinds in allowed[mode]


@given(tasks, seeds)
def test_a_wrong_place_is_well_away_from_the_goal(task: str, seed: int) -> None:
    offset = TASKS[task].wrong_place(np.random.default_rng(seed))
    assert np.hypot(*offset[:2]) >= 0.07


@given(tasks, seeds)
def test_a_wrong_compartment_is_another_one_that_the_arm_reaches_well(task: str, seed: int) -> None:
    goal = TASKS[task].compartment
    if goal is None:
        return
    dx, dy, _ = TASKS[task].wrong_place(np.random.default_rng(seed))
    column, row = goal % 2 + dx / BIN_PITCH[0], goal // 2 + dy / BIN_PITCH[1]
    assert (column, row) in {(0, 0), (1, 0), (0, 1)}


def test_tempos_spread_from_half_to_twice_the_mean() -> None:
    speeds = [
        next(p for p in plan_of("can", "expert", seed).phases if isinstance(p, Move)).speed for seed in range(300)
    ]
    low, high = np.quantile(speeds, (0.02, 0.98)) / TASKS["can"].speed
    assert low < 0.6
    assert high > 1.7


def test_every_task_has_paraphrases_that_fit_the_text_encoder() -> None:
    for task in TASKS.values():
        assert len(set(task.instructions)) >= 6
        assert max(len(sentence.encode()) for sentence in task.instructions) <= 64
    everything = [sentence for task in PAPER_TASKS for sentence in TASKS[task].instructions]
    assert len(set(everything)) == len(everything), "an instruction names its task"


def test_a_first_part_of_a_collection_is_balanced() -> None:
    modes: dict[Mode, int] = {"expert": 50, "hesitation": 15, "retry": 25, "failure": 6}
    specs = plan_collection(ROBOSUITE, even_counts(PAPER_TASKS, modes), seed=0)
    assert len({spec.name for spec in specs}) == len(specs) == 6 * 96
    tenth = specs[: len(specs) // 10]
    for task in PAPER_TASKS:
        assert sum(spec.task == task for spec in tenth) == pytest.approx(len(tenth) / 6, abs=2)
    assert sum(spec.mode == "retry" for spec in tenth) == pytest.approx(len(tenth) * 25 / 96, abs=6)


def test_seeds_of_episodes_differ_and_do_not_depend_on_what_else_is_collected() -> None:
    small = plan_collection(ROBOSUITE, {"can": {"retry": 2}}, seed=3)
    large = plan_collection(ROBOSUITE, even_counts(list(TASKS), {"expert": 9, "retry": 7}), seed=3)
    assert {spec.seed for spec in small} <= {spec.seed for spec in large}
    assert len({spec.seed for spec in large}) == len(large)
