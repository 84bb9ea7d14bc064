"""One robosuite task as the oracle and the camera see it.

Physics and pictures are apart: an episode is first simulated alone, and only what is worth keeping is
rendered, from its recorded joint positions. One environment serves any number of episodes; each depends on its
seed alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldvalue.simulation.camera import NO_RENDERER
from worldvalue.simulation.tasks import Task
from worldvalue.types import DataError

# Importing robosuite warns about optional packages that nothing here needs.
logging.getLogger("robosuite_logs").disabled = True
try:
    import mujoco
    import robosuite
    from robosuite.controllers import load_composite_controller_config
except ImportError as error:
    raise DataError("The simulator is not installed; install it with: pip install 'worldvalue[sim]'.") from error
except AttributeError as error:  # how PyOpenGL says that a system library is missing
    raise DataError(NO_RENDERER) from error

CONTROL_HZ = 10
"""One action each stored frame. The physics inside runs at 500 Hz."""

CAMERAS = ("agentview", "robot0_eye_in_hand")

ACTION_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
"""OSC_POSE: steps of the gripper's pose in the robot's base frame, each in [-1, 1] for 5 cm or 0.5 rad;
gripper -1 opens, 1 closes."""

STATE_NAMES = (
    *(f"eef_pos_{axis}" for axis in "xyz"),
    *(f"eef_quat_{axis}" for axis in "xyzw"),
    "gripper_qpos_left",
    "gripper_qpos_right",
    *(f"joint_pos_{joint}" for joint in range(1, 8)),
)
"""Proprioception: gripper position (m, world), orientation (quaternion), fingers (m), joint angles (rad)."""

STEP_LENGTH, STEP_ANGLE = 0.05, 0.5
"""What an action of 1 means: metres and radians."""

HAND_DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""Orientation of the hand that points down with yaw 0; its first column is the axis along which it closes."""

GRASP_DEPTH = 0.03
"""How far below the top of an object its grasp lies, in metres, unless the object is flatter than twice that."""

MAX_OPENING = 0.075
"""Widest object between the fingers, in metres."""

HAND = ((0.0, 0.056, 0.01), (0.063, 0.07, 0.032))
"""The open fingers and the palm as capsules along the closing axis: height above the grasp, half length and radius, in
metres."""

CLEARANCE = 0.004
"""Room in metres around the hand at a grasp with which it is not in danger of pushing anything."""

REACH = 0.81
"""Farthest place from the base, in metres, at which to put something: the far compartment lies beyond it."""

BIN_FLOOR = 0.02
"""Thickness of a bin's floor above its origin in metres."""


@dataclass(frozen=True)
class Pose:
    """Where the hand is or should be: position ``(3,)`` between the fingertips in metres, yaw in radians."""

    position: NDArray[np.float64]
    yaw: float

    def matrix(self) -> NDArray[np.float64]:
        """Orientation ``(3, 3)`` of a hand that points down with this yaw."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ HAND_DOWN


class Environment:
    """A robosuite task with a Panda arm under OSC_POSE control at 10 Hz."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._env = robosuite.make(
            task.environment,
            robots="Panda",
            controller_configs=load_composite_controller_config(controller="BASIC", robot="Panda"),
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            use_object_obs=False,
            control_freq=CONTROL_HZ,
            hard_reset=False,
            ignore_done=True,
            seed=0,
        )
        for name in list(self._env.observation_names):
            self._env.modify_observable(name, "enabled", False)
        self.model: mujoco.MjModel = self._env.sim.model._model
        self.data: mujoco.MjData = self._env.sim.data._data
        self._robot = self._env.robots[0]
        self._hand_site = self._robot.eef_site_id["right"]
        self._body = self.model.body(task.body).id
        self._geoms = [
            geom
            for geom in range(self.model.ngeom)
            if self.model.geom_bodyid[geom] == self._body and self.model.geom_group[geom] == 0
        ]
        own = self.model.body_rootid[[self._body, self.model.site_bodyid[self._hand_site]]]
        solid = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_MESH)
        self._obstacles = [
            geom
            for geom in range(self.model.ngeom)
            if self.model.geom_type[geom] in solid
            and self.model.geom_contype[geom]
            and self.model.body_rootid[self.model.geom_bodyid[geom]] not in own
        ]
        self._start = np.zeros(3)
        self._substeps = int(self._env.control_timestep / self._env.model_timestep)

    def reset(self, seed: int) -> None:
        """Start a new episode; the placement of objects and the arm's noise follow from ``seed`` alone."""
        fresh = np.random.default_rng(seed)
        self._env.rng.bit_generator.state = fresh.bit_generator.state
        self._env.reset()
        while self.task.behind and not self._stands_behind():
            self._env.reset()
        self._start = self.data.xpos[self._body].copy()

    def _stands_behind(self) -> bool:
        """Whether the support hides the middle of the object's underside from the first camera."""
        geom = self.model.body(self.task.support).geomadr[0]
        points, eye = self.object_points(), self.data.camera(CAMERAS[0]).xpos
        underside = np.array([*self.data.xpos[self._body][:2], points[:, 2].min()])
        frame, kind = self.data.geom_xmat[geom], self.model.geom_type[geom]
        away = mujoco.mju_rayGeom(
            self.data.geom_xpos[geom], frame, self.model.geom_size[geom], eye, underside - eye, kind
        )
        return 0.0 <= away < 1.0  # in lengths of the ray

    def step(self, action: NDArray[np.float32]) -> None:
        """Apply one action ``(7,)`` for 0.1 s.

        The same numbers as robosuite's own ``step``, without its observables and checks, which cost time.
        """
        sim, controller, robot = self._env.sim, self._robot.composite_controller, self._robot
        for substep in range(self._substeps):
            sim.step1()
            if substep == 0:
                controller.update_state()
                controller.set_goal(action.astype(np.float64))
            for part, command in controller.run_controller(robot._enabled_parts).items():
                actuators = robot._ref_actuators_indexes_dict[part]
                low, high = self.model.actuator_ctrlrange[actuators].T
                self.data.ctrl[actuators] = np.clip(command, low, high)
            sim.step2()

    def success(self) -> bool:
        """Whether robosuite counts the task as done now; of several objects to place, this task's own is looked at."""
        done = self._env._check_success()
        if self.task.compartment is not None:  # robosuite numbers the objects like their compartments
            done = self._env.objects_in_bins[self.task.compartment]
        return bool(done)

    def joints(self) -> NDArray[np.float64]:
        """All joint positions ``(nq,)`` of the scene: enough to render it again."""
        return self.data.qpos.copy()

    def hand(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position ``(3,)`` and orientation ``(3, 3)`` of the hand."""
        site, data = self._hand_site, self.data
        return data.site_xpos[site].copy(), data.site_xmat[site].reshape(3, 3).copy()

    def proprioception(self) -> NDArray[np.float32]:
        """The columns of ``STATE_NAMES`` now, ``(16,)``."""
        position, rotation = self.hand()
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, rotation.ravel())
        fingers = self._robot._ref_gripper_joint_pos_indexes["right"]
        arm = self._robot._ref_joint_pos_indexes
        parts = (position, np.roll(quaternion, -1), self.data.qpos[fingers], self.data.qpos[arm])
        return np.concatenate(parts).astype(np.float32)

    def object_points(self) -> NDArray[np.float64]:
        """Corners or mesh vertices ``(n, 3)`` of the object in the world."""
        clouds = []
        for geom in self._geoms:
            mesh = self.model.geom_dataid[geom]
            if mesh >= 0:
                first, count = self.model.mesh_vertadr[mesh], self.model.mesh_vertnum[mesh]
                local = self.model.mesh_vert[first : first + count]
            else:
                signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
                local = signs * self.model.geom_size[geom]
            clouds.append(self.data.geom_xpos[geom] + local @ self.data.geom_xmat[geom].reshape(3, 3).T)
        return np.concatenate(clouds)

    def grasp(self, preference: float) -> Pose:
        """A grasp of the object from above, however it lies.

        Args:
            preference: in [0, 1]; picks one of the yaws at which the object is (nearly) narrowest and nothing is in
                the hand's way, or as little as can be.
        """
        points = self.object_points()
        yaws = np.radians(np.arange(-88.0, 89.0, 4.0))
        along = points[:, :2] @ np.stack([-np.sin(yaws), np.cos(yaws)])
        widths = np.ptp(along, axis=0)
        good = yaws[widths <= min(widths.min() * 1.04, MAX_OPENING)]
        if not len(good):
            good = yaws[[widths.argmin()]]
        grasps = [_around(points, yaw) for yaw in good]
        room = np.array([self._room(grasp) for grasp in grasps])
        free = np.flatnonzero(room >= min(room.max(), CLEARANCE))
        return grasps[free[int(preference * (len(free) - 1) + 0.5)]]

    def _room(self, grasp: Pose) -> float:
        """Distance in metres between the open hand at a grasp and the nearest obstacle; negative inside it."""
        closing, nearest = grasp.matrix()[:, 0], np.inf
        for height, half, radius in HAND:
            hand = grasp.position + [0.0, 0.0, height] + np.linspace(-half, half, 15)[:, None] * closing
            for geom in self._obstacles:
                middle, size = np.split(self.model.geom_aabb[geom], 2)  # of a mesh: the box around it
                local = (hand - self.data.geom_xpos[geom]) @ self.data.geom_xmat[geom].reshape(3, 3) - middle
                beyond = np.abs(local) - size
                outside = np.linalg.norm(np.maximum(beyond, 0.0), axis=1)
                nearest = min(nearest, float((outside + np.minimum(beyond.max(axis=1), 0.0)).min()) - radius)
        return nearest

    def clearance(self, yaw: float) -> tuple[NDArray[np.float64], float]:
        """The direction ``(3,)`` across the closing axis of a hand at ``yaw``, the object's half width in it."""
        across = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        return across, float(np.ptp(self.object_points() @ across) / 2)

    def goal(self) -> NDArray[np.float64]:
        """Where the object's underside belongs, ``(3,)``: its start (lift), on the other cube, or in its bin."""
        if self.task.compartment is not None:
            goal = self._env.target_bin_placements[self.task.compartment].copy()
            base = self.data.xpos[self.model.body("robot0_base").id][:2]
            goal[:2] = base + (goal[:2] - base) * min(1.0, REACH / np.linalg.norm(goal[:2] - base))
            goal[2] += BIN_FLOOR
            return goal
        if self.task.support is not None:
            below = self.model.body(self.task.support)
            height = self.model.geom_size[below.geomadr[0], 2]
            return self.data.xpos[below.id] + np.array([0.0, 0.0, height])
        return np.array([*self._start[:2], self._env.model.mujoco_arena.table_offset[2]])

    def goal_yaw(self, yaw: float) -> float:
        """The yaw at which to put the object down that is held at ``yaw``.

        A hand that has to go between a compartment's walls fits only with its long side along y.
        """
        return 0.0 if self.task.between_walls else yaw

    def carry(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position of the hand ``(3,)`` that brings the held object's underside to ``place``."""
        points = self.object_points()
        middle = (points[:, :2].max(axis=0) + points[:, :2].min(axis=0)) / 2
        underside = np.array([*middle, points[:, 2].min()])
        return place + self.hand()[0] - underside


def _around(points: NDArray[np.float64], yaw: float) -> Pose:
    """The grasp in the middle of points ``(n, 3)`` of a hand at ``yaw``."""
    axes = np.array([[-np.sin(yaw), np.cos(yaw)], [np.cos(yaw), np.sin(yaw)]])
    extents = points[:, :2] @ axes.T
    middle = (extents.max(axis=0) + extents.min(axis=0)) / 2 @ axes
    low, high = points[:, 2].min(), points[:, 2].max()
    return Pose(np.array([*middle, high - min(GRASP_DEPTH, (high - low) / 2)]), float(yaw))
