"""The picture a model sees: one camera, or several tiled into one, at the model's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from worldvalue.types import DataError, Episode


@dataclass(frozen=True)
class PictureSettings:
    """Size and layout of the picture.

    Attributes:
        height, width: of the whole picture, in pixels.
        rows, columns: of its grid of cameras, filled row by row.
    """

    height: int
    width: int
    rows: int = 1
    columns: int = 1


def picture(
    episode: Episode,
    indices: NDArray[np.int64],
    settings: PictureSettings,
    cameras: Sequence[str] | None = None,
) -> NDArray[np.uint8]:
    """Pictures ``(n, height, width, 3)``: each camera resized to its cell of the grid.

    Args:
        episode: where the frames come from.
        indices: frames to show.
        settings: size and layout.
        cameras: one name for each cell; the episode's first cameras when None.

    Raises:
        DataError: the number of cameras is not that of the cells, or a camera does not exist.
    """
    cells = settings.rows * settings.columns
    cameras = episode.cameras[:cells] if cameras is None else cameras
    if len(cameras) != cells:
        raise DataError(
            f"{episode.name}: the model sees {cells} camera(s) in {settings.rows} row(s), but {len(cameras)} "
            f"were given; choose from: {', '.join(episode.cameras)}."
        )
    size = (settings.height // settings.rows, settings.width // settings.columns)
    views = [_resize(episode.frames(indices, camera), size) for camera in cameras]
    rows = [np.concatenate(views[i : i + settings.columns], axis=2) for i in range(0, cells, settings.columns)]
    return np.concatenate(rows, axis=1)


def _resize(frames: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if frames.shape[1:3] == size:
        return frames
    pixels = torch.from_numpy(frames).movedim(-1, 1).float()
    resized = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    return resized.round().clamp(0, 255).to(torch.uint8).movedim(1, -1).contiguous().numpy()
