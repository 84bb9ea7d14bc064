"""Coarser meshes look the same and change nothing that moves."""

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("robosuite") is None:
    pytest.skip("needs the simulator", allow_module_level=True)

from worldvalue.simulation.camera import Camera
from worldvalue.simulation.environment import CAMERAS, Environment
from worldvalue.simulation.tasks import TASKS


def test_the_pictures_stay_the_same_to_the_eye_and_the_motion_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes, pictures, joints, faces = [Environment(TASKS["lift"]) for _ in range(2)], [], [], []
    for scene, coarser in zip(scenes, (False, True), strict=True):
        with monkeypatch.context() as patch:
            if not coarser:
                patch.setattr("worldvalue.simulation.camera.coarsen", lambda *_: None)
            camera = Camera(scene.model, 128)
        scene.reset(5)
        for _ in range(5):
            scene.step(np.full(7, 0.3, dtype=np.float32))
        joints.append(scene.joints())
        pictures.append([picture.astype(float) for picture in camera.render(scene.joints(), CAMERAS)])
        faces.append(int(scene.model.mesh_facenum.sum()))
        camera.close()
    np.testing.assert_array_equal(*joints)
    assert faces[1] < 0.6 * faces[0]
    for fine, coarse in zip(*pictures, strict=True):
        assert np.abs(fine - coarse).mean() < 1.0  # of 255
        assert (np.abs(fine - coarse).max(-1) > 40).mean() < 0.01
