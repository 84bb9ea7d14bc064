"""Two scenes of the same tasks compared, moment by moment: curvature of the data, features of a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldvalue.analysis.manifold import (
    NEIGHBOURS,
    Curvatures,
    centred,
    compare,
    embedded,
    geodesic_ratios,
    principal_components,
    separation,
)
from worldvalue.data.pictures import PictureSettings, pictures
from worldvalue.types import DataError, Episode, EpisodeSource

EPISODES = 3
FRAMES = 5


@dataclass(frozen=True)
class Moment:
    """A frame of an episode."""

    episode: Episode
    frame: int


@dataclass(frozen=True)
class Pair:
    """The same share of the same task in two scenes.

    Attributes:
        task: its name, or the instruction where it has none.
        plain, changed: the moment in each scene.
    """

    task: str
    plain: Moment
    changed: Moment


Features = Callable[[Moment], Mapping[str, NDArray[np.float32]]]
"""Of a moment, a vector ``(D,)`` for each expert by name."""


@dataclass(frozen=True)
class Comparison:
    """Two scenes compared.

    Attributes:
        pairs: number of paired moments.
        curvatures: of pictures and actions, as they are in the data.
        separations: by expert, how far its features tell the scenes apart (``manifold.separation``).
        maps: by expert, t-SNE of its features ``(2 * pairs, 2)``, those of the plain scene first.
    """

    pairs: int
    curvatures: Curvatures
    separations: dict[str, float]
    maps: dict[str, NDArray[np.float64]]

    def told(self) -> dict[str, Any]:
        """Its numbers, for JSON."""
        return {"pairs": self.pairs, "curvatures": asdict(self.curvatures), "separations": self.separations}


def paired_moments(plain: EpisodeSource, changed: EpisodeSource) -> list[Pair]:
    """Moments of experts of the same task: 3 episodes in each scene, 5 at even times of each.

    Tasks are the same where an instruction is, since a task in another scene may have another name.

    Raises:
        DataError: the datasets share too few tasks and episodes, or their frames have no actions.
    """
    named = {episode.instruction: _task(episode) for episode in plain}
    ours, theirs = _experts(plain, named), _experts(changed, named)
    pairs = [
        Pair(task, Moment(a, _at(a, share)), Moment(b, _at(b, share)))
        for task in ours
        for a, b in zip(ours[task][:EPISODES], theirs[task][:EPISODES], strict=False)
        for share in (np.arange(FRAMES) + 0.5) / FRAMES
    ]
    if 2 * len(pairs) <= NEIGHBOURS:
        raise DataError(
            f"{plain.path} and {changed.path} have {len(pairs)} moments in common; give successful episodes of the "
            "same instructions."
        )
    return pairs


def compare_scenes(
    pairs: Sequence[Pair],
    settings: PictureSettings,
    features: Features = lambda _: {},
    done: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """The analysis of MV-WAM's appendix D.1.

    Args:
        pairs: from ``paired_moments``.
        settings: of the pictures.
        features: of a model; by default the data alone are compared.
        done: told after every moment how many more were looked at; ``2 * len(pairs)`` in all.

    Raises:
        DataError: frames cannot be decoded.
    """
    moments = [pair.plain for pair in pairs] + [pair.changed for pair in pairs]
    seen, acted, felt = [], [], defaultdict(list)
    for moment in moments:
        seen.append(pictures(moment.episode, np.array([moment.frame]), settings).ravel().astype(np.float32))
        acted.append(_action(moment))
        for name, vector in features(moment).items():
            felt[name].append(vector)
        done(1)
    tasks = [pair.task for pair in pairs]
    half = len(pairs)
    ratios = [geodesic_ratios(points[:half], points[half:]) for points in (principal_components(seen), np.array(acted))]
    within = {name: centred(vectors, tasks * 2) for name, vectors in felt.items()}
    which = np.repeat([False, True], half)
    return Comparison(
        half,
        compare(tasks, *ratios),
        {name: separation(vectors, which) for name, vectors in within.items()},
        {name: embedded(vectors) for name, vectors in within.items()},
    )


def _experts(source: EpisodeSource, named: Mapping[str, str]) -> dict[str, list[Episode]]:
    """Successful episodes without a detour by task, their instructions having these names."""
    found: dict[str, list[Episode]] = defaultdict(list)
    for episode in source:
        mode = episode.labels.mode if episode.labels else None
        if episode.success is not False and mode in (None, "expert") and episode.instruction in named:
            found[named[episode.instruction]].append(episode)
    return found


def _task(episode: Episode) -> str:
    return (episode.labels and episode.labels.task) or episode.instruction


def _at(episode: Episode, share: float) -> int:
    return int(share * episode.length)


def _action(moment: Moment) -> NDArray[np.float32]:
    if moment.episode.actions is None:
        raise DataError(f"{moment.episode.name} has no actions; give a dataset that has.")
    return moment.episode.actions[moment.frame]
