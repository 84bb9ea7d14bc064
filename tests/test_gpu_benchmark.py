"""``benchmarks/gpu.py`` runs from end to end; what it finds on a busy machine does not matter."""

from dataclasses import replace

import numpy as np
import torch
from gpu import measured

from tests.small import small_recipe


def test_every_figure_is_found_and_stands_beside_its_bound() -> None:
    recipe = small_recipe()
    recipe = replace(recipe, estimator=replace(recipe.estimator, model=replace(recipe.estimator.model, text=None)))
    rows = {row.figure.split(" (")[0]: row for row in measured(recipe, torch.device("cpu"), repeats=1, episodes=2)}
    assert all(np.isfinite(row.found) and row.found > 0 for row in rows.values())
    parts = ("decode", "autoencoder", "transformer", "value stream", "the rest")
    assert set(rows) >= {f"scoring, ms a frame, {part}" for part in parts}
    for name in ("training, windows a second, latents at hand", "scoring, ms a frame, transformer", "online step, ms"):
        assert rows[name].bound is not None
    assert rows["online step, ms"].published is not None
