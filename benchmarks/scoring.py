"""Speed of scoring: frames per second, against a plain reference and against this machine's bf16 matmul.

Run: ``python benchmarks/scoring.py [--model tiny] [--episodes 16] [--out docs/scoring_benchmark.json]``. Everything is
measured in one run. Another load on the machine takes from all parts, but not from all alike (products more than the
rest): so all are measured in laps of some tenths of a second at most, and of each lap the best of some rounds counts.
Frames are random pictures in memory: decoding is left out, it is the same for both.

The plain reference scores the way the training step looks at a window: batch 1, fp32, the whole 9-frame window
through the autoencoder once, then for each draw and step both halves of the video stream and the value stream, no
keys and values kept. Both do the same draws and steps; the ratio is also told for one draw of one step, where keeping
keys and values cannot help.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from measure import best_times, counted, large_product
from torch import Tensor

from worldvalue import flow_matching as fm
from worldvalue.backbones.video_vae import pictures_to_float
from worldvalue.data.windows import scoring_starts
from worldvalue.models import Estimator, load_model
from worldvalue.models.wvm import WVM
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings
from worldvalue.types import Compiler, Episode

SECONDS = 22
FPS = 10.0
PLAIN = 4  # windows of the reference; at stride 1 a window is a frame
LAPS, PRODUCTS = 40, 5  # matrix products, a tenth of a second or two in a lap


class Noise:
    """Random pictures, the same ones every time."""

    def __init__(self, frames: int, height: int, width: int) -> None:
        self.pictures = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)

    def read(self, camera: str, indices: Sequence[int]) -> np.ndarray:
        """Frames ``(n, H, W, 3)``."""
        return self.pictures[list(indices)]


def episodes(estimator: Estimator, count: int) -> list[Episode]:
    """Episodes of the paper's mean length."""
    frames = int(SECONDS * FPS)
    picture = estimator.config.picture
    reader = Noise(frames, picture.height, picture.width)
    times = np.arange(frames) / FPS
    return [Episode(i, f"noise {i}", "lift the cube", FPS, times, ("noise",), reader) for i in range(count)]


def our_windows(scorer: Scorer, group: list[Episode], lap: Callable[[], None]) -> None:
    """Our scoring of a group; a lap ends with each call of the autoencoder or the model."""
    estimator = scorer.estimator

    def watched(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def then(*given: Any, **named: Any) -> Tensor:
            made = call(*given, **named)
            lap()
            return made

        return then

    watch_values = patch.object(estimator, "values", watched(estimator.values))
    with watch_values, patch.object(estimator.vae, "per_picture", watched(estimator.vae.per_picture)):
        scorer(group)


@torch.inference_mode()
def plain_windows(scorer: Scorer, episode: Episode, windows: int, lap: Callable[[], None]) -> None:
    """The reference: a number of windows of one episode, one by one; a lap ends with each step."""
    estimator, settings = scorer.estimator, scorer.settings
    model, chunk = estimator.model, estimator.model.window.chunk
    assert isinstance(model, WVM), "the plain reference is written for a World Value Model"
    scored = episode.indices_at(estimator.config.rate)
    levels = fm.sigma_schedule(scorer.steps, model.config.sigma_shift)
    text = estimator.text_states([episode.instruction])[episode.instruction][None]
    for start in scoring_starts(len(scored), chunk, settings.stride)[:windows]:
        positions = (start + np.arange(2 * chunk + 1)).clip(0, len(scored) - 1)
        frames = pictures_to_float(torch.from_numpy(episode.frames(scored[positions])))
        current, future = estimator.vae.per_window(estimator.vae.per_frame(frames)[None]).chunk(2, dim=2)
        for _ in range(settings.draws):
            x = torch.randn(1, 1, chunk, 1)
            for now, after in pairwise(levels):
                context = model.observe({"latents": current, "text": text})
                model.video(future, now.expand(1), context.video_text, 1, context.video)
                v = model.stream(context, torch.zeros(1, 1))(x, now.expand(1, 1))
                x = fm.euler_step(x, v, now.expand(1), after.expand(1))
                lap()


def count_flops(estimator: Estimator, group: list[Episode]) -> float:
    """FLOPs of one scored frame."""
    return counted(partial(Scorer(estimator, ScoreSettings()), group)) / scored_frames(estimator, group)


def scored_frames(estimator: Estimator, group: list[Episode]) -> int:
    """Frames that the model looks at in a group."""
    return sum(len(episode.indices_at(estimator.config.rate)) for episode in group)


def products(product: Callable[[], object], lap: Callable[[], None]) -> None:
    """The ceiling: large matrix products, some in a lap."""
    for _ in range(LAPS):
        for _ in range(PRODUCTS):
            product()
        lap()


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--episodes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", type=Compiler, choices=list(Compiler), help="what makes our scoring faster")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    estimator = load_model(options.model)
    group = episodes(estimator, options.episodes)
    flops = count_flops(estimator, group)
    faster = load_model(options.model)  # the reference stays as it is
    settings = (ScoreSettings(compile=options.compile), ScoreSettings(draws=1, steps=1, compile=options.compile))
    scorers = [(Scorer(faster, asked), Scorer(estimator, replace(asked, compile=None))) for asked in settings]
    product, operations = large_product()
    works = [partial(products, product)]
    for ours, reference in scorers:
        works += [partial(our_windows, ours, group), partial(plain_windows, reference, group[0], PLAIN)]
    best_times(works, rounds=1)  # the warm-up
    taken = best_times(works, options.rounds)
    done = [LAPS * PRODUCTS * operations, *(scored_frames(estimator, group), PLAIN) * 2]
    ceiling, rate, plain, rate_single, plain_single = (work / time for work, time in zip(done, taken, strict=True))
    figures = {
        "model": options.model,
        "threads": torch.get_num_threads(),
        "compiled by": options.compile or "nobody",
        "draws and steps": f"{settings[0].draws} x {scorers[0][0].steps}",
        "scored frames per second": rate,
        "video frames per second": rate * FPS / estimator.config.rate,
        "plain reference, scored frames per second": plain,
        "ratio to the plain reference": rate / plain,
        "ratio at one draw of one step": rate_single / plain_single,
        "MFLOP per scored frame": flops / 1e6,
        "bf16 matmul GFLOP/s": ceiling / 1e9,
        "share of the matmul ceiling": rate * flops / ceiling,
        "peak memory GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    for name, figure in figures.items():
        print(f"{name:44} {figure if isinstance(figure, str | int) else f'{figure:.4g}'}")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
