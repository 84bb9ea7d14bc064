"""How curved are the manifolds of pictures and of actions? MV-WAM's analysis (section 2.3, appendix D.1).

Paired samples, the same moment of a task in a plain and in a changed scene, lie apart in a straight line and along
the manifold that all samples lie on. The ratio of the two is 1 on a flat manifold and grows with its curvature.

Axes: n paired samples, m all samples of both scenes, D numbers of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree
from scipy.stats import mannwhitneyu

from worldvalue.types import DataError

NEIGHBOURS = 10
COMPONENTS = 50
PERPLEXITY = 50


@dataclass(frozen=True)
class Curvatures:
    """Table 5: the two modalities compared.

    Attributes:
        tasks: those with a valid pair in both modalities.
        pictures, actions: mean ratio of each, 1 or more.
        p: of the Mann-Whitney U test that both come from one distribution, in [0, 1].
    """

    tasks: list[str]
    pictures: list[float]
    actions: list[float]
    p: float


def principal_components(points: ArrayLike, count: int = COMPONENTS) -> NDArray[np.float64]:
    """Points ``(m, D)`` in the ``count`` directions of most variance, fewer where m or D is smaller."""
    points = np.asarray(points, dtype=np.float64)
    centred = points - points.mean(0)
    scores, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    return (scores * sizes)[:, :count]


def geodesic_ratios(plain: ArrayLike, changed: ArrayLike, neighbours: int = NEIGHBOURS) -> NDArray[np.float64]:
    """Geodesic over Euclidean distance ``(n,)`` of each pair, 1 or more; NaN where the points coincide or no path joins
    them.

    Geodesics are shortest paths in the graph that joins every sample of both scenes with its nearest neighbours.

    Args:
        plain, changed: ``(n, D)``, row by row a pair.
        neighbours: of each sample in the graph.

    Raises:
        ValueError: the two have different shapes, or too few samples for so many neighbours.
    """
    plain, changed = np.asarray(plain, dtype=np.float64), np.asarray(changed, dtype=np.float64)
    if plain.shape != changed.shape:
        raise ValueError(f"Pairs must have the same shape, got {plain.shape} and {changed.shape}.")
    points, pairs = np.concatenate((plain, changed)), len(plain)
    if len(points) <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more than {len(points)} samples.")
    lengths, near = KDTree(points).query(points, neighbours + 1)
    rows = np.repeat(np.arange(len(points)), neighbours)
    # A length of 0 would count as no edge.
    edges = np.maximum(lengths[:, 1:].ravel(), np.finfo(float).tiny)
    graph = csr_array((edges, (rows, near[:, 1:].ravel())), shape=(len(points), len(points)))
    paths = dijkstra(graph, directed=False, indices=np.arange(pairs))
    geodesic = paths[np.arange(pairs), np.arange(pairs, 2 * pairs)]
    straight = np.linalg.norm(plain - changed, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = geodesic / straight
    return np.where(np.isfinite(ratios), ratios, np.nan)


def compare(tasks: Sequence[str], pictures: ArrayLike, actions: ArrayLike) -> Curvatures:
    """Mean ratios of each task in both modalities, and whether they differ.

    Args:
        tasks: of each pair, n names.
        pictures, actions: ``(n,)`` ratios of the pairs; those that are NaN are left out.
    """
    names = np.asarray(tasks)
    means: dict[str, tuple[float, float]] = {}
    for task in dict.fromkeys(tasks):
        both = [np.asarray(ratios)[names == task] for ratios in (pictures, actions)]
        if all(np.isfinite(ratios).any() for ratios in both):
            means[task] = (float(np.nanmean(both[0])), float(np.nanmean(both[1])))
    ours = np.array(list(means.values())).reshape(-1, 2)
    p = float(mannwhitneyu(ours[:, 0], ours[:, 1]).pvalue) if len(ours) else float("nan")
    return Curvatures(list(means), ours[:, 0].tolist(), ours[:, 1].tolist(), p)


def centred(features: ArrayLike, tasks: Sequence[str]) -> NDArray[np.float64]:
    """Features ``(m, D)`` without the mean of their task, so that what is left differs within tasks."""
    features, names = np.array(features, dtype=np.float64), np.asarray(tasks)
    for task in set(tasks):
        features[names == task] -= features[names == task].mean(0)
    return features


def separation(features: ArrayLike, changed: ArrayLike, neighbours: int = NEIGHBOURS) -> float:
    """Share of the neighbours of samples ``(m, D)`` that are of the same scene: about 0.5 where both mix, 1 apart.

    Args:
        features: of both scenes.
        changed: ``(m,)`` bool, which scene.
        neighbours: looked at around each sample.
    """
    points, which = np.asarray(features, dtype=np.float64), np.asarray(changed, dtype=bool)
    _, near = KDTree(points).query(points, neighbours + 1)
    return float(np.mean(which[near[:, 1:]] == which[:, None]))


def embedded(features: ArrayLike, seed: int = 0) -> NDArray[np.float64]:
    """Points ``(m, 2)`` of a t-SNE of features ``(m, D)``; perplexity 50, less for few samples.

    Raises:
        DataError: scikit-learn is missing.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise DataError("scikit-learn is missing; install it with: pip install 'worldvalue[analysis]'.") from error
    points = np.asarray(features, dtype=np.float64)
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)
