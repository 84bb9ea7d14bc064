"""The reader behind an episode: one view for each camera, each decoding its own frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class View(Protocol):
    """Frames of one camera in one episode."""

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode frames ``(len(indices), H, W, 3)`` in the order asked for."""
        ...


@dataclass(frozen=True)
class CameraReader:
    """A ``FrameReader`` made of views by camera name."""

    views: Mapping[str, View]

    def read(self, camera: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Frames ``(len(indices), H, W, 3)`` of one camera."""
        return self.views[camera].read(np.asarray(indices, dtype=np.int64))
