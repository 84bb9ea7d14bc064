"""Pictures of a MuJoCo scene from recorded joint positions, quickly on a software renderer."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worldvalue.types import DataError

os.environ.setdefault("MUJOCO_GL", "egl")
NO_RENDERER = (
    f"MuJoCo cannot render with MUJOCO_GL={os.environ['MUJOCO_GL']}; install the system's libraries for it "
    "(on Debian: apt install libegl1 libegl-mesa0 libgl1-mesa-dri libglvnd0) or set MUJOCO_GL to another one."
)

try:
    import mujoco
except ImportError as error:
    raise DataError("The simulator is not installed; install it with: pip install 'worldvalue[sim]'.") from error
except AttributeError as error:  # how PyOpenGL says that a system library is missing
    raise DataError(NO_RENDERER) from error

from worldvalue.simulation.meshes import coarsen  # noqa: E402 (it imports mujoco, which reads MUJOCO_GL)


class Camera:
    """Renders recorded joint positions of one scene.

    The software renderer spends its time on the vertices of the arm's meshes, so meshes outside the view are
    left out (the picture stays the same), fine ones are made as coarse as a pixel a metre away, and shadows,
    reflections and multisampling are off.

    Args:
        model: the scene; its options of drawing and the meshes that are only looked at are changed.
        size: width and height of the pictures.
        groups: geom groups that are drawn; the others are for collisions.
        sites: whether sites are drawn, such as marks of a goal.
        upside_down: cameras that were mounted so.
    """

    HIDDEN = 5

    def __init__(
        self,
        model: mujoco.MjModel,
        size: int,
        groups: Sequence[int] = (1,),
        sites: bool = False,
        upside_down: Sequence[str] = (),
    ) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._upside_down = upside_down
        model.vis.quality.offsamples = 0
        model.light_castshadow[:] = 0
        coarsen(model, 1.0 / size)
        try:
            self._renderer = mujoco.Renderer(model, size, size, max_geom=1000)
        except (mujoco.FatalError, RuntimeError) as error:
            raise DataError(NO_RENDERER) from error
        self._visible = np.flatnonzero(np.isin(model.geom_group, groups))
        self._groups = model.geom_group[self._visible].copy()
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = 0
        self._options.geomgroup[list(groups)] = 1
        if not sites:
            self._options.sitegroup[:] = 0

    def render(
        self, joints: NDArray[np.float64], cameras: Sequence[str], sites: NDArray[np.float64] | None = None
    ) -> list[NDArray[np.uint8]]:
        """One upright picture ``(size, size, 3)`` for each camera.

        Args:
            joints: ``(nq,)`` joint positions of the whole scene.
            cameras: names.
            sites: ``(nsite, 3)`` places of the sites in the world, where the joints do not tell them.
        """
        self._data.qpos[:] = joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        if sites is not None:
            self._data.site_xpos[:] = sites
        return [self._picture(camera) for camera in cameras]

    def _picture(self, name: str) -> NDArray[np.uint8]:
        geoms, model = self._visible, self._model
        model.geom_group[geoms] = np.where(self._in_view(name), self._groups, self.HIDDEN)
        self._renderer.update_scene(self._data, camera=name, scene_option=self._options)
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        picture = self._renderer.render()
        model.geom_group[geoms] = self._groups
        return picture[::-1, ::-1] if name in self._upside_down else picture

    def _in_view(self, name: str) -> NDArray[np.bool_]:
        """Which visible geoms' bounding spheres reach into the square view of a camera."""
        camera, geoms, model = self._model.camera(name).id, self._visible, self._model
        frame = self._data.cam_xmat[camera].reshape(3, 3)
        seen = (self._data.geom_xpos[geoms] - self._data.cam_xpos[camera]) @ frame
        radius = model.geom_rbound[geoms]
        half = np.radians(model.cam_fovy[camera]) / 2
        depth = -seen[:, 2] * np.sin(half)
        reach = np.abs(seen[:, :2]).max(axis=1) * np.cos(half)
        # Planes have no bounding sphere (radius 0) and are always drawn.
        return (radius == 0) | ((reach - depth < radius) & (-seen[:, 2] > -radius))

    def close(self) -> None:
        """Free the graphics context."""
        self._renderer.close()
