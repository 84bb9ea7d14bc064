"""What a picture of a scored episode shows besides its curve: frames at even times, and the true values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from worldvalue.data.value_targets import from_labels
from worldvalue.data.windows import nearest
from worldvalue.types import DataError, Episode


def filmstrip(episode: Episode, max_height: int, camera: str | None = None) -> NDArray[np.uint8]:
    """Frames ``(n, h, w, 3)`` nearest to the middles of ``n`` equal times: ten, or eight of a wide picture.

    Frames higher than ``max_height`` pixels are scaled down to it.
    """
    height, width = episode.frames([0], camera).shape[1:3]
    count = 10 if width <= 1.15 * height else 8
    middles = (np.arange(count) + 0.5) / count * episode.timestamps[-1]
    frames = episode.frames(nearest(episode.timestamps, middles), camera)
    scale = min(1.0, max_height / height)
    return np.stack([resize(frame, round(height * scale), round(width * scale)) for frame in frames])


@contextmanager
def noting_damage(episode: Episode, undrawn: dict[str, str]) -> Iterator[None]:
    """Frames that cannot be had end the block, not the job: the reason goes to ``undrawn`` under the episode's name."""
    try:
        yield
    except DataError as error:
        undrawn[episode.name] = str(error)


def resize(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """One frame ``(H, W, 3)`` at another size."""
    from PIL import Image

    size = max(1, width), max(1, height)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def true_values(episode: Episode) -> NDArray[np.float64] | None:
    """The values ``(T,)`` that the labels stand for; None where there are none or they define no curve."""
    if episode.labels is None or episode.labels.length != episode.length:
        return None
    try:
        return from_labels(episode.labels)
    except ValueError:
        return None
