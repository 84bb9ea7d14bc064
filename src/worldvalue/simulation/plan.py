"""What the robot will do in an episode, as data: a sequence of phases drawn from a seed.

An expert plan is reach, grasp, carry, release. The other modes are edits of it: a hesitation is a wait
inserted somewhere, a retry is a spoilt attempt followed by a release, a retraction along the path the hand came
by, and a second attempt; a failure ends early. Nothing here needs the simulator: targets are named and looked up
when a phase begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto

import numpy as np

from worldvalue.simulation.tasks import Offset, Task
from worldvalue.types import Mode


class Target(Enum):
    """What a movement is relative to; looked up when the movement begins."""

    OBJECT = auto()
    """A grasp of the object."""
    GOAL = auto()
    """The held object resting where it belongs."""
    HERE = auto()
    """Where the hand is."""
    HOME = auto()
    """Where the hand was at the start of the episode."""


@dataclass(frozen=True)
class Move:
    """Move the hand along a curve, slow at both ends.

    Attributes:
        name: what this phase is for.
        target: what the end point is relative to.
        speed: mean speed in m/s.
        offset: added to the target, metres in the world frame.
        aside: distance in metres by which the hand passes beside the object, across its closing axis;
            negative for the other side, 0 for none.
        bulge: displacement of the curve's middle in metres.
        turn: added to the yaw at the end, radians.
        part: fraction of the curve to go, where the movement ends early.
        suboptimal: whether the phase belongs to the labelled segment.
    """

    name: str
    target: Target
    speed: float
    offset: Offset = (0.0, 0.0, 0.0)
    aside: float = 0.0
    bulge: Offset = (0.0, 0.0, 0.0)
    turn: float = 0.0
    part: float = 1.0
    suboptimal: bool = False


@dataclass(frozen=True)
class Grip:
    """Open or close the fingers and wait for them."""

    name: str
    closed: bool
    seconds: float
    suboptimal: bool = False


@dataclass(frozen=True)
class Wait:
    """Stay, or sway a little around the same place when ``sway`` is not zero.

    Attributes:
        seconds: how long.
        sway: amplitude in metres along x, y, z.
        rate: frequency of the sway in Hz along x, y, z.
    """

    name: str
    seconds: float
    sway: Offset = (0.0, 0.0, 0.0)
    rate: Offset = (0.0, 0.0, 0.0)
    suboptimal: bool = False


@dataclass(frozen=True)
class Resume:
    """Go on along the curve of the movement that ended early, as if it had not been interrupted.

    Attributes:
        name: of that movement, the last one before.
    """

    name: str


@dataclass(frozen=True)
class Retrace:
    """Go back along the path by which earlier phases came, at the mean speed they had.

    Attributes:
        legs: names of those phases, in the order they were run.
        seconds: how long, unless the path ends before.
        pace: factor on the speed.
    """

    name: str
    legs: tuple[str, ...]
    seconds: float
    pace: float
    suboptimal: bool = True


Phase = Move | Resume | Grip | Wait | Retrace


@dataclass(frozen=True)
class Plan:
    """An episode to be.

    Attributes:
        mode: how it is meant to go.
        kinds: what exactly goes wrong, such as ``("slip",)``; empty for expert plans.
        phases: what the robot does, in order.
        grasp: in [0, 1]; which of the object's good grasp yaws to use.
    """

    mode: Mode
    kinds: tuple[str, ...]
    phases: tuple[Phase, ...]
    grasp: float


@dataclass
class _Style:
    """One episode's manner of moving; every leg varies a little around it."""

    rng: np.random.Generator
    task: Task
    speed: float
    hover: float = field(init=False)
    lift: float = field(init=False)

    def __post_init__(self) -> None:
        self.hover = self.rng.uniform(0.09, 0.17)
        self.lift = self.rng.uniform(*self.task.lift)

    def pace(self) -> float:
        return self.speed * self.rng.uniform(0.85, 1.2)

    def bulge(self, size: float) -> Offset:
        side, up = self.rng.uniform(-size, size, 2), self.rng.uniform(0, size / 2)
        return (float(side[0]), float(side[1]), float(up))

    def pause(self, chance: float = 0.5) -> tuple[Phase, ...]:
        if self.rng.random() > chance:
            return ()
        return (Wait("pause", self.rng.uniform(0.1, 0.4)),)

    def reach(self, aside: float = 0.0, above: float = 0.0, again: bool = False) -> tuple[Phase, ...]:
        """Come above the object, then down to it.

        Args:
            aside, above: how the attempt is spoilt, in metres.
            again: come straight from where a retraction ended, without a detour that would prolong it.
        """
        hover = (*self.rng.uniform(-0.02, 0.02, 2), self.hover * (0.5 if again else 1.0))
        bulge = (*self.rng.uniform(-0.02, 0.02, 2), 0.0) if again else self.bulge(0.1)
        turn = self.rng.normal(0.0, 0.07)
        approach = Move("approach", Target.OBJECT, self.pace(), hover, aside, bulge, turn)
        pause, end = self.pause(), (0.0, 0.0, above)
        descend = Move("descend", Target.OBJECT, self.pace() * 0.8, end, aside, self.bulge(0.01), turn)
        return (approach, *pause, descend, *self.pause(0.3))

    def close(self) -> Phase:
        return Grip("close", closed=True, seconds=self.rng.uniform(0.5, 0.9))

    def release(self, suboptimal: bool = False) -> Phase:
        return Grip("release", False, self.rng.uniform(0.3, 0.6), suboptimal)

    def raise_up(self, part: float = 1.0) -> Phase:
        drift = self.rng.uniform(-0.02, 0.02, 2)
        return Move("lift", Target.HERE, self.pace(), (*drift, self.lift), bulge=self.bulge(0.01), part=part)

    def part_of_lift(self) -> float:
        """A fraction of the lift at which the object is clearly off its support but far from done."""
        high = 0.55 if self.task.places else 0.055 / self.lift
        return self.rng.uniform(0.6, 1.0) * high

    def carry(self, away: Offset = (0.0, 0.0, 0.0), part: float = 1.0) -> Phase:
        """Bring the held object above the goal, or ``away`` from it."""
        height = self.rng.uniform(0.06, 0.12) if self.task.support else self.lift
        above = (away[0], away[1], height)
        turn = self.rng.uniform(-0.3, 0.3)
        return Move("carry", Target.GOAL, self.pace() * 1.2, above, 0.0, self.bulge(0.06), turn, part)

    def lower(self, away: Offset = (0.0, 0.0, 0.0)) -> tuple[Phase, ...]:
        down = (away[0], away[1], away[2] + self.rng.uniform(0.002, 0.008))
        return (
            *self.pause(0.3),
            Move("lower", Target.GOAL, self.pace() * 0.8, down, bulge=self.bulge(0.005)),
            *self.pause(0.3),
        )

    def attempt(self, again: bool = False) -> tuple[Phase, ...]:
        """Everything from wherever the hand is until the task is done."""
        take = (*self.reach(again=again), self.close(), self.raise_up())
        if not self.task.places:
            return take
        return (*take, *self.pause(0.3), self.carry(), *self.lower(), self.release(), self.withdraw(0.05))

    def withdraw(self, height: float) -> Phase:
        up = (*self.rng.uniform(-0.02, 0.02, 2), height + self.rng.uniform(0.0, 0.04))
        return Move("withdraw", Target.HERE, self.pace(), up)

    def retract(self, *legs: str) -> tuple[Phase, ...]:
        seconds, pace = self.rng.uniform(1.6, 4.4), self.rng.uniform(0.9, 1.15)
        return (self.release(True), Retrace("retract", legs, seconds, pace), *self.pause())

    def rest(self) -> Phase:
        return Wait("rest", self.rng.uniform(0.2, 0.4))


def draw_plan(task: Task, mode: Mode, rng: np.random.Generator) -> Plan:
    """Draw an episode: the manner of moving, what goes wrong and where."""
    haste = dict(zip(("hesitation", "retry", "failure"), task.haste, strict=True)).get(mode, 1.0)
    tempo = float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
    style = _Style(rng, task, task.speed * haste * tempo)
    start = (Wait("start", rng.uniform(0.1, 0.4)),)
    kinds: tuple[str, ...] = ()
    if mode == "expert":
        phases: tuple[Phase, ...] = (*style.attempt(), style.rest())
    elif mode == "hesitation":
        kinds, phases = _hesitate(style)
    elif mode == "retry":
        kinds, phases = _retry(style, str(rng.choice(task.retry_kinds)))
    else:
        kinds, phases = _fail(style, str(rng.choice(task.failure_kinds)))
    return Plan(mode, kinds, (*start, *phases), float(rng.random()))


def _hesitate(style: _Style) -> tuple[tuple[str, ...], tuple[Phase, ...]]:
    """The expert's phases with a wait in the middle of one of its movements."""
    rng, phases = style.rng, style.attempt()
    moves = [i for i, phase in enumerate(phases) if isinstance(phase, Move) and phase.name != "withdraw"]
    where = int(rng.choice(moves))
    move = phases[where]
    assert isinstance(move, Move)
    kind = str(rng.choice(("still", "micro_movements")))
    amplitude, rate = rng.uniform(0.004, 0.012, 3), rng.uniform(0.3, 0.8, 3)
    sway = tuple(amplitude.tolist()) if kind == "micro_movements" else (0.0, 0.0, 0.0)
    wait = Wait("hesitate", rng.uniform(2.0, 8.0), sway, tuple(rate.tolist()), suboptimal=True)
    first = replace(move, part=style.part_of_lift() if move.name == "lift" else rng.uniform(0.15, 0.9))
    return (kind,), (*phases[:where], first, wait, Resume(move.name), *phases[where + 1 :], style.rest())


def _retry(style: _Style, kind: str) -> tuple[tuple[str, ...], tuple[Phase, ...]]:
    """A spoilt attempt, the way back, and an attempt that succeeds."""
    rng = style.rng
    came_by = ("approach", "descend")
    if kind == "miss_beside":
        aside = rng.uniform(0.02, 0.035) * rng.choice((-1, 1))
        spoilt = (*style.reach(aside=aside), style.close())
    elif kind == "miss_above":
        spoilt = (*style.reach(above=rng.uniform(0.045, 0.06)), style.close())
    elif kind == "slip":
        spoilt = (*style.reach(), style.close(), style.raise_up(style.part_of_lift()))
    else:
        away = style.task.wrong_place(rng)
        spoilt = (*style.reach(), style.close(), style.raise_up(), style.carry(away), *style.lower(away))
        came_by = ("carry", "lower")
    back = (*style.pause(), *style.retract(*came_by))
    return (kind,), (*spoilt, *back, *style.attempt(again=True), style.rest())


def _fail(style: _Style, kind: str) -> tuple[tuple[str, ...], tuple[Phase, ...]]:
    """An attempt that ends without success."""
    rng, task = style.rng, style.task
    home = Move("leave", Target.HOME, style.pace(), bulge=style.bulge(0.05), part=rng.uniform(0.5, 1.0))
    if kind == "give_up":
        attempt = style.reach() if rng.random() < 0.5 else (*style.reach(above=0.05), style.close())
        return (kind,), (*attempt, Grip("release", False, 0.4), home, style.rest())
    away = task.wrong_place(rng)
    take = (*style.reach(), style.close(), style.raise_up())
    if kind == "drop_outside":
        carry = style.carry(away, part=rng.uniform(0.1, 0.4)) if task.places else style.carry(away)
        place: tuple[Phase, ...] = (carry,)
    else:
        place = (style.carry(away), *style.lower(away))
    return (kind,), (*take, *place, style.release(), style.withdraw(0.05), home, style.rest())
