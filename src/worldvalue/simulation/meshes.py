"""Meshes no finer than a picture can show: a software renderer spends its time on their vertices."""

from __future__ import annotations

import mujoco
import numpy as np

FINE = 3000
"""Faces of a mesh that is worth making coarser."""


def coarsen(model: mujoco.MjModel, cell: float) -> None:
    """Make fine meshes that are only looked at coarser, in place: vertices of a cube of space become one of them.

    Faces that shrink to a line or a point, and those that come to lie on others, are left out. Meshes that anything can
    collide with stay as they are, so that nothing moves differently.

    Args:
        model: the scene.
        cell: side of the cubes in metres.
    """
    for mesh in np.flatnonzero(model.mesh_facenum >= FINE):
        geoms = (model.geom_type == mujoco.mjtGeom.mjGEOM_MESH) & (model.geom_dataid == mesh)
        if model.geom_contype[geoms].any() or model.geom_conaffinity[geoms].any():
            continue
        vertices = slice(model.mesh_vertadr[mesh], model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh])
        faces = slice(model.mesh_faceadr[mesh], model.mesh_faceadr[mesh] + model.mesh_facenum[mesh])
        cubes = np.floor(model.mesh_vert[vertices] / cell).astype(np.int64)
        _, first, cube = np.unique(cubes, axis=0, return_index=True, return_inverse=True)
        corners = np.sort(first[cube.ravel()][model.mesh_face[faces]], axis=1)
        whole = np.flatnonzero((corners[:, 0] < corners[:, 1]) & (corners[:, 1] < corners[:, 2]))
        kept = whole[np.unique(corners[whole], axis=0, return_index=True)[1]]
        _keep(model, mesh, faces, first[cube.ravel()], np.sort(kept))


def _keep(model: mujoco.MjModel, mesh: int, faces: slice, stands_for: np.ndarray, kept: np.ndarray) -> None:
    """Leave a mesh the faces ``kept``, their corners moved to the vertices that stand for them."""
    placed = slice(faces.start, faces.start + len(kept))
    model.mesh_face[placed] = stands_for[model.mesh_face[faces][kept]]
    model.mesh_facenormal[placed] = model.mesh_facenormal[faces][kept]
    model.mesh_facetexcoord[placed] = model.mesh_facetexcoord[faces][kept]
    model.mesh_facenum[mesh] = len(kept)
