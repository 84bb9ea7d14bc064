"""What training does to windows besides cutting them out: rewind, plateau, random prefix (WVM section 3.3), shift,
wrong instructions.

Pure NumPy on indices and values. A window is altered by altering which frames it shows; the values are read off
afterwards, so they always follow the frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Augmentation:
    """Ratios of WVM's Table A.1, and two things that the paper does without: shifts and wrong instructions.

    Attributes:
        rewind: share of windows that are altered.
        plateau: share of those that become one repeated frame; the rest run backwards.
        random_prefix: share of windows whose prefix value is replaced by U[0, 1].
        shift: largest share of its side by which the picture is moved, the same way for all frames of a window, in half
            of the windows; in the other half things are where they are when the model is used.
        swap: share of windows told an instruction that their episode does not carry out; their values are 0, so that
            the model has to listen.
    """

    rewind: float = 0.5
    plateau: float = 0.1
    random_prefix: float = 0.5
    shift: float = 0.0
    swap: float = 0.0


def rewind(indices: NDArray[np.int64], settings: Augmentation, rng: np.random.Generator) -> NDArray[np.int64]:
    """Frame indices ``(n,)`` of a window: as they are, backwards, or one of them repeated."""
    if rng.random() >= settings.rewind:
        return indices
    if rng.random() < settings.plateau:
        return np.full_like(indices, rng.choice(indices))
    return indices[::-1].copy()


def randomize_prefix(
    values: NDArray[np.float32], settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Values ``(1 + h,)`` of a window, the first one replaced by U[0, 1] in a share of the cases."""
    if rng.random() >= settings.random_prefix:
        return values
    return np.concatenate(([rng.random()], values[1:])).astype(np.float32)


def shift(side: int, settings: Augmentation, rng: np.random.Generator) -> int:
    """Pixels by which one side of a picture is moved, at random."""
    reach = int(settings.shift * side)
    return int(rng.integers(-reach, reach + 1))


def moved(side: int, by: int) -> NDArray[np.int64]:
    """Indices ``(side,)`` that move one side of a picture by a number of pixels, its edge repeated."""
    return (np.arange(side) + by).clip(0, side - 1)


def swapped(
    instruction: str, wrong: Sequence[str], settings: Augmentation, rng: np.random.Generator
) -> tuple[str, bool]:
    """The instruction, or in a share of the cases one of the wrong ones, if there are any; and whether it is wrong."""
    if not wrong or rng.random() >= settings.swap:
        return instruction, False
    return wrong[rng.integers(len(wrong))], True


def wrong_instructions(tasks: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """For each task the instructions of the others, given the instructions of each.

    Tasks that share an instruction, such as one task in two scenes, are not wrong for each other.
    """
    words = {task: set(instructions) for task, instructions in tasks.items()}
    return {
        task: sorted(set().union(*(theirs for theirs in words.values() if not theirs & own)))
        for task, own in words.items()
    }
