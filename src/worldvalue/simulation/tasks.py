"""The six robosuite tasks of Suboptimal-Value-Bench, four of them again among other objects and one from a start that
looks like its end: what to say, what to move, where it belongs.

Positions are metres in the world frame of robosuite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Offset = tuple[float, float, float]

BIN_PITCH = (0.195, 0.245)
"""Distance between neighbouring compartments of robosuite's target bin along x and y."""


@dataclass(frozen=True)
class Task:
    """One manipulation task.

    Attributes:
        name: short name used in labels and on the command line.
        environment: robosuite's name of the environment.
        body: MuJoCo body of the object to move.
        instructions: paraphrases of the task, at most 64 bytes each.
        speed: mean speed of the gripper at tempo 1, in m/s; sets the mean length of expert episodes.
        haste: factors on the speed for hesitation, retry and failure, so that suboptimal episodes get the mean
            lengths of WVM, Table B.3.
        lift: lowest and highest height to which the object is lifted, in metres.
        support: MuJoCo body onto which the object is put; None when it is not put onto another one.
        compartment: number of the target bin's compartment into which it is put; None when into none.
        between_walls: whether the object is so flat that the hand has to go between the compartment's walls with it.
        retry_kinds: ways in which an attempt can go wrong and be repeated.
        failure_kinds: ways in which an episode can end without success.
        wrong_places: offsets from the goal to places where the object does not belong; empty when any spot
            on a ring around the goal will do.
        ring: radii ``(min, max)`` and height of that ring relative to the goal.
        others: names of the tasks whose objects stand in the same scene: their instructions are counterfactual.
        behind: whether the object starts behind its support as the first camera sees it: it looks as if it stood on it.
    """

    name: str
    environment: str
    body: str
    instructions: tuple[str, ...]
    speed: float
    haste: tuple[float, float, float]
    lift: tuple[float, float] = (0.09, 0.16)
    support: str | None = None
    compartment: int | None = None
    between_walls: bool = False
    retry_kinds: tuple[str, ...] = ("miss_beside", "miss_above", "slip", "misplace")
    failure_kinds: tuple[str, ...] = ("drop_outside", "wrong_place", "give_up")
    wrong_places: tuple[Offset, ...] = ()
    ring: Offset = (0.07, 0.10, 0.0)
    others: tuple[str, ...] = ()
    behind: bool = False

    @property
    def places(self) -> bool:
        """Whether the task ends with putting the object somewhere, rather than with holding it."""
        return self.support is not None or self.compartment is not None

    def wrong_place(self, rng: np.random.Generator) -> Offset:
        """An offset ``(dx, dy, dz)`` from the goal to a place where the object does not belong."""
        if self.wrong_places:
            return self.wrong_places[rng.integers(len(self.wrong_places))]
        near, far, height = self.ring
        radius, angle = rng.uniform(near, far), rng.uniform(0, 2 * np.pi)
        return (float(radius * np.cos(angle)), float(radius * np.sin(angle)), height)


def _pick_place(
    thing: str,
    phrases: tuple[str, ...],
    compartment: int,
    speed: float,
    haste: tuple[float, float, float],
    between_walls: bool = False,
) -> Task:
    """A PickPlace task. Compartments 0 to 3 lie at (low x, low y), (high, low), (low, high), (high, high).

    The last is at the edge of the arm's reach, so nothing is put there by mistake that may have to be picked up again.
    """
    column, row = compartment % 2, compartment // 2
    wrong = [other for other in range(3) if other != compartment]
    return Task(
        name=thing,
        environment=f"PickPlace{thing.capitalize()}",
        body=f"{thing.capitalize()}_main",
        instructions=phrases,
        speed=speed,
        haste=haste,
        lift=(0.13, 0.2),
        compartment=compartment,
        between_walls=between_walls,
        wrong_places=tuple(
            ((other % 2 - column) * BIN_PITCH[0], (other // 2 - row) * BIN_PITCH[1], 0.0) for other in wrong
        ),
    )


_TASKS = (
    Task(
        name="lift",
        environment="Lift",
        body="cube_main",
        instructions=(
            "lift the red cube",
            "pick up the red cube",
            "raise the red block off the table",
            "grasp the cube and lift it",
            "take the red block up from the table",
            "grab the small red cube and hold it up",
        ),
        speed=0.037,
        haste=(1.24, 1.83, 1.22),
        retry_kinds=("miss_beside", "miss_above", "slip"),
    ),
    Task(
        name="stack",
        environment="Stack",
        body="cubeA_main",
        instructions=(
            "stack the red cube on the green cube",
            "put the red block on top of the green block",
            "place the red cube onto the green one",
            "pick up the red block and stack it on the green block",
            "set the small red cube on the green cube",
            "build a tower with the red cube on the green cube",
        ),
        speed=0.0475,
        haste=(1.23, 1.79, 1.23),
        support="cubeB_main",
        ring=(0.075, 0.10, -0.05),
    ),
    _pick_place(
        "bread",
        (
            "put the bread in its bin",
            "pick up the bread and place it in the bin",
            "move the loaf of bread to the right bin",
            "place the bread into its compartment",
            "take the bread and put it in the other bin",
            "grab the bread and drop it into its compartment",
        ),
        compartment=1,
        speed=0.063,
        haste=(1.25, 1.57, 1.22),
        between_walls=True,
    ),
    _pick_place(
        "can",
        (
            "put the can in its bin",
            "pick up the can and place it in the bin",
            "move the red soda can to the right bin",
            "place the can into its compartment",
            "take the can and put it in the other bin",
            "grab the coke can and drop it into its compartment",
        ),
        compartment=3,
        speed=0.063,
        haste=(1.12, 1.59, 1.22),
    ),
    _pick_place(
        "cereal",
        (
            "put the cereal box in its bin",
            "pick up the cereal and place it in the bin",
            "move the box of cereal to the right bin",
            "place the cereal box into its compartment",
            "take the cereal and put it in the other bin",
            "grab the cereal box and drop it into its compartment",
        ),
        compartment=2,
        speed=0.063,
        haste=(0.98, 1.3, 1.22),
    ),
    _pick_place(
        "milk",
        (
            "put the milk in its bin",
            "pick up the milk and place it in the bin",
            "move the milk carton to the right bin",
            "place the milk carton into its compartment",
            "take the milk and put it in the other bin",
            "grab the carton of milk and drop it into its compartment",
        ),
        compartment=0,
        speed=0.058,
        haste=(1.32, 1.79, 1.23),
    ),
)

PAPER_TASKS: tuple[str, ...] = tuple(task.name for task in _TASKS)
"""The tasks of the paper, in its order."""


def _of_four(task: Task) -> Task:
    """The same task with the objects of all PickPlace tasks on the table."""
    others = tuple(other.name for other in _TASKS if other.compartment is not None and other is not task)
    return replace(task, name=f"{task.name}_of_four", environment="PickPlace", others=others)


def _behind(task: Task) -> Task:
    """The same task with the object behind its support."""
    return replace(task, name=f"{task.name}_behind", behind=True)


# A task's place is part of its episodes' seeds: new ones go to the end.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *_TASKS,
        *(_of_four(task) for task in _TASKS if task.compartment is not None),
        *(_behind(task) for task in _TASKS if task.support is not None),
    )
}
"""All tasks by name, the paper's first."""
