"""The real simulator, built once for each file of tests that asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from worldvalue.simulation.camera import Camera
    from worldvalue.simulation.environment import Environment


@pytest.fixture(scope="module")
def lift() -> Environment:
    """The environment of the task lift."""
    from worldvalue.simulation.environment import Environment
    from worldvalue.simulation.tasks import TASKS

    return Environment(TASKS["lift"])


@pytest.fixture(scope="module")
def camera(lift: Environment) -> Iterator[Camera]:
    """A camera of 64 px in it."""
    from worldvalue.simulation.camera import Camera

    camera = Camera(lift.model, 64)
    yield camera
    camera.close()
