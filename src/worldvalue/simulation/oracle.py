"""The scripted oracle: carries out a plan on ground-truth poses, and tells whether it went as planned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from worldvalue.simulation.environment import CONTROL_HZ, STEP_ANGLE, STEP_LENGTH, Environment, Pose
from worldvalue.simulation.plan import Grip, Move, Phase, Plan, Resume, Retrace, Target, Wait
from worldvalue.types import Event

LOOKAHEAD = 2
"""Control steps by which the commanded pose leads. A critically damped controller (gain 150) trails a moving
goal by 2 / sqrt(150) s plus half a step, about 0.2 s; leading by as much makes the hand follow on time."""

SETTLE_STEPS, SETTLE_DISTANCE = 5, 0.006
"""A movement ends when the hand is this close to its end, or after so many further steps."""

RETRACTION_SECONDS = (1.5, 5.5)
"""Length of a labelled retry segment, release included."""


@dataclass(frozen=True)
class Rollout:
    """What happened, frame by frame; frame t is seen before action t.

    Attributes:
        joints: ``(T, nq)`` float64 joint positions of the whole scene, for rendering.
        state: ``(T, 16)`` float32 proprioception.
        actions: ``(T, 7)`` float32.
        phases: ``(T,)`` number of the plan's phase that chose the action.
        success: ``(T,)`` whether the task was done.
        segment: first and last frame of the suboptimal segment, inclusive, or None.
        events: milestones and errors.
    """

    joints: NDArray[np.float64]
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    phases: NDArray[np.int64]
    success: NDArray[np.bool_]
    segment: tuple[int, int] | None
    events: tuple[Event, ...]


def run_plan(environment: Environment, plan: Plan, seed: int) -> Rollout:
    """Reset the environment with ``seed`` and carry out the plan."""
    environment.reset(seed)
    driver = _Driver(environment, plan.grasp)
    joints, state, actions, phases, success = [], [], [], [], []
    for number, phase in enumerate(plan.phases):
        for action in driver.run(phase):
            joints.append(environment.joints())
            state.append(environment.proprioception())
            success.append(environment.success())
            actions.append(action)
            phases.append(number)
            environment.step(action)
    return Rollout(
        np.stack(joints),
        np.stack(state),
        np.stack(actions),
        np.array(phases),
        np.array(success),
        find_segment(plan, np.array(phases)),
        find_events(plan, np.array(phases)),
    )


def find_segment(plan: Plan, phases: NDArray[np.int64]) -> tuple[int, int] | None:
    """First and last frame ``(m, n)`` of the plan's suboptimal phases, or None when it has none.

    ``n`` is the frame to which the last of their actions leads.
    """
    marked = [number for number, phase in enumerate(plan.phases) if getattr(phase, "suboptimal", False)]
    frames = np.flatnonzero(np.isin(phases, marked))
    return (int(frames[0]), int(frames[-1]) + 1) if len(frames) else None


def find_events(plan: Plan, phases: NDArray[np.int64]) -> tuple[Event, ...]:
    """Milestones and errors of an attempt that goes as planned, in the order of time.

    A milestone is the end of a whole lift, or of letting the object go where it belongs. An error is the frame at which
    the robot gives up a spoilt attempt and begins to go back. What a failure lets go it lets go in the wrong place, and
    its plan does not mark where it fails: it has no events.
    """
    if plan.mode == "failure":
        return ()
    found, failed = [], False
    for number, phase in enumerate(plan.phases):
        frames = np.flatnonzero(phases == number)
        if not len(frames):
            continue
        if getattr(phase, "suboptimal", False):
            if plan.mode == "retry" and not failed:
                found.append(Event(int(frames[0]), "error"))
                failed = True
        elif phase.name == "release" or (phase.name == "lift" and getattr(phase, "part", 1.0) == 1.0):
            found.append(Event(int(frames[-1]), "milestone"))
    return tuple(found)


def defect(plan: Plan, rollout: Rollout) -> str | None:
    """Why the rollout is not the episode that was planned, or None when it is."""
    length, done = len(rollout.success), bool(rollout.success[-1])
    if plan.mode == "failure":
        return "unplanned success" if done else None
    if not done:
        return "no success at the end"
    if rollout.segment is None:
        return None
    m, n = rollout.segment
    if not 0 < m < n < length - 1:
        return "segment at the edge of the episode"
    if plan.mode == "retry":
        if rollout.success[n]:
            return "success after the retraction"
        if 2 * (n - m) >= length - 1:
            return "retraction longer than half of the episode"
        low, high = RETRACTION_SECONDS
        if not low <= (n - m) / CONTROL_HZ <= high:
            return "retraction too short or too long"
    return None


class _Driver:
    """Turns phases into actions, one at a time, from where the hand is."""

    def __init__(self, environment: Environment, grasp: float) -> None:
        self._environment = environment
        self._grasp = grasp
        position, rotation = environment.hand()
        # The closing axis of a hand with yaw 0 is the world's y axis.
        self._home = Pose(position, float(np.arctan2(-rotation[0, 0], rotation[1, 0])))
        self._reference = self._home
        self._gripper = -1.0
        self._legs: dict[str, list[Pose]] = {}
        self._latest: _Curve | None = None

    def run(self, phase: Phase) -> Iterator[NDArray[np.float32]]:
        """Actions ``(7,)`` of one phase."""
        match phase:
            case Move():
                self._latest = _Curve(self._reference, self._aim(phase), phase)
                path = self._latest.poses(0.0, phase.part)
                self._legs[phase.name] = [self._reference, *path]
                yield from self._arrive(path)
            case Resume():
                assert self._latest is not None, "a movement goes before"
                yield from self._arrive(self._latest.poses(self._latest.move.part, 1.0))
            case Grip():
                self._gripper = 1.0 if phase.closed else -1.0
                yield from self._follow([self._reference] * _steps(phase.seconds))
            case Wait():
                yield from self._follow(self._sway(phase))
            case Retrace():
                yield from self._follow(self._way_back(phase))

    def _follow(self, path: list[Pose]) -> Iterator[NDArray[np.float32]]:
        """One action for each pose, leading by ``LOOKAHEAD``; the last pose becomes the reference."""
        self._reference = path[-1]
        for step in range(len(path)):
            yield self._action(path[min(step + LOOKAHEAD, len(path) - 1)])

    def _action(self, goal: Pose) -> NDArray[np.float32]:
        position, rotation = self._environment.hand()
        turn = Rotation.from_matrix(goal.matrix() @ rotation.T).as_rotvec()
        step = np.concatenate([(goal.position - position) / STEP_LENGTH, turn / STEP_ANGLE, [self._gripper]])
        return np.clip(step, -1.0, 1.0).astype(np.float32)

    def _arrive(self, path: list[Pose]) -> Iterator[NDArray[np.float32]]:
        """Follow a path and wait for the hand at its end."""
        yield from self._follow(path)
        for _ in range(SETTLE_STEPS):
            if np.linalg.norm(self._environment.hand()[0] - self._reference.position) < SETTLE_DISTANCE:
                return
            yield self._action(self._reference)

    def _aim(self, move: Move) -> Pose:
        """The pose at which a movement ends."""
        environment, here = self._environment, self._reference
        match move.target:
            case Target.OBJECT:
                base = environment.grasp(self._grasp)
            case Target.GOAL:
                base = Pose(environment.carry(environment.goal()), environment.goal_yaw(here.yaw))
            case Target.HOME:
                base = self._home
            case Target.HERE:
                base = here
        position = base.position + np.array(move.offset)
        if move.target is Target.OBJECT:
            # Rising on the way to the object would look like going back.
            position[2] = min(position[2], max(here.position[2], base.position[2]))
        if move.aside:
            across, half = environment.clearance(base.yaw)
            position = position + across * np.sign(move.aside) * (half + abs(move.aside))
        return Pose(position, base.yaw + move.turn)

    def _sway(self, wait: Wait) -> list[Pose]:
        """Poses around the reference that begin and end there."""
        count = _steps(wait.seconds)
        time = np.arange(1, count + 1)[:, None] / CONTROL_HZ
        fade = np.minimum(1.0, np.minimum(time, time[::-1] - 1 / CONTROL_HZ) / 0.5)
        sway = fade * np.array(wait.sway) * np.sin(2 * np.pi * np.array(wait.rate) * time)
        return [Pose(self._reference.position + offset, self._reference.yaw) for offset in sway]

    def _way_back(self, retrace: Retrace) -> list[Pose]:
        """The earlier path reversed, from its point nearest to the hand."""
        came = [pose for leg in retrace.legs for pose in self._legs[leg]]
        points = np.stack([pose.position for pose in came])
        yaws = np.array([pose.yaw for pose in came])
        nearest = int(np.linalg.norm(points - self._reference.position, axis=1).argmin())
        speed = retrace.pace * _length(points) * CONTROL_HZ / len(points)
        points = np.concatenate([self._reference.position[None], points[nearest::-1]])
        yaws = np.concatenate([[self._reference.yaw], yaws[nearest::-1]])
        gone = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        distance = min(gone[-1], speed * retrace.seconds)
        travelled = distance * _ease(max(1, round(distance / speed * CONTROL_HZ)), ramp=0.15)
        columns = [np.interp(travelled, gone, points[:, axis]) for axis in range(3)]
        turned = np.interp(travelled, gone, yaws)
        return [Pose(np.array(xyz), float(yaw)) for *xyz, yaw in zip(*columns, turned, strict=True)]


@dataclass(frozen=True)
class _Curve:
    """A quadratic Bezier curve, bulging in the middle, along which a movement goes.

    Attributes:
        start, end: of the whole movement.
        move: its speed and bulge.
    """

    start: Pose
    end: Pose
    move: Move

    def poses(self, first: float, last: float) -> list[Pose]:
        """From one fraction of the curve to another, slow at both ends, sampled at the control rate."""
        start, end = self.start.position, self.end.position
        middle = (start + end) / 2 + 2 * np.array(self.move.bulge)
        turn = (self.end.yaw - self.start.yaw + np.pi) % (2 * np.pi) - np.pi
        fine = np.linspace(first, last, 65)[:, None]
        curve = (1 - fine) ** 2 * start + 2 * fine * (1 - fine) * middle + fine**2 * end
        seconds = max(_length(curve) / self.move.speed, abs(turn) * (last - first) / 0.8, 0.3)
        share = _ease(_steps(seconds), ramp=0.3)
        gone = np.linspace(0.0, 1.0, 65)
        columns = [np.interp(share, gone, curve[:, axis]) for axis in range(3)]
        yaws = self.start.yaw + turn * first + turn * (last - first) * share
        return [Pose(np.array(xyz), float(yaw)) for *xyz, yaw in zip(*columns, yaws, strict=True)]


def _ease(count: int, ramp: float) -> NDArray[np.float64]:
    """Shares ``(count,)`` in (0, 1] of the way at each step: even speed, with ramps at both ends.

    Args:
        ramp: part of the time that each ramp takes, at most 0.5.
    """
    time = np.arange(1, count + 1) / count
    top = 1.0 / (1.0 - ramp)
    rising = top * time**2 / (2 * ramp)
    falling = 1.0 - top * (1.0 - time) ** 2 / (2 * ramp)
    even = top * (time - ramp / 2)
    return np.where(time < ramp, rising, np.where(time > 1 - ramp, falling, even))


def _length(points: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _steps(seconds: float) -> int:
    return max(1, round(seconds * CONTROL_HZ))
