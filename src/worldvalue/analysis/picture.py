"""A comparison of two scenes as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from worldvalue.analysis.scenes import Comparison
from worldvalue.data.files import replacing

PICTURES, ACTIONS, PLAIN, CHANGED = "#0068a8", "#c8500a", "#0068a8", "#d9a400"


def draw_comparison(path: Path, comparison: Comparison) -> None:
    """Write a PNG: the curvatures of each task, and a map of each expert's features in both scenes."""
    maps = comparison.maps
    figure = Figure(figsize=(4.5 + 3.2 * len(maps), 3.6), dpi=160, layout="constrained")
    axes = figure.subplots(1, 1 + len(maps), squeeze=False, width_ratios=[1.4, *(1.0 for _ in maps)])[0]
    found = comparison.curvatures
    places = np.arange(len(found.tasks))
    # From 1, the ratio of what is flat.
    axes[0].barh(places - 0.2, np.array(found.pictures) - 1, 0.4, left=1, color=PICTURES, label="pictures")
    axes[0].barh(places + 0.2, np.array(found.actions) - 1, 0.4, left=1, color=ACTIONS, label="actions")
    axes[0].set_yticks(places, found.tasks, fontsize=7)
    axes[0].invert_yaxis()
    axes[0].set_xlabel("geodesic over Euclidean distance", fontsize=8)
    axes[0].set_title(f"Curvature, p = {found.p:.2g}", fontsize=9)
    axes[0].legend(fontsize=7, frameon=False)
    for place, (name, points) in zip(axes[1:], maps.items(), strict=True):
        for half, colour, label in zip(np.split(points, 2), (PLAIN, CHANGED), ("plain", "changed"), strict=True):
            place.scatter(*half.T, s=8, color=colour, label=label, alpha=0.7, linewidths=0)
        place.set_title(f"{name} expert: {comparison.separations[name]:.0%} like neighbours", fontsize=9)
        place.set_xticks([])
        place.set_yticks([])
        place.legend(fontsize=7, frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
