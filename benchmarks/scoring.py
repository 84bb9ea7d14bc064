"""Speed of scoring: frames per second, against a plain reference and against this machine's bf16 matmul.

Run: ``python benchmarks/scoring.py [--model tiny] [--episodes 16] [--out docs/scoring_benchmark.json]``. Everything is
measured in one run, in turns, so that another load on the machine meets all parts alike. Frames are random pictures
in memory: decoding is left out, it is the same for both.

The plain reference scores the way the training step looks at a window: batch 1, fp32, the whole 9-frame window
through the autoencoder and both halves of the video stream, nothing kept between windows, draws or steps.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from worldvalue import flow_matching as fm
from worldvalue.backbones.video_vae import pictures_to_float
from worldvalue.data.windows import scoring_starts
from worldvalue.models import Estimator, load_model
from worldvalue.models.wvm import spread, unspread
from worldvalue.scoring.sliding_windows import ScoreSettings, score_group
from worldvalue.types import Episode

SECONDS = 22
FPS = 10.0


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


@torch.inference_mode()
def plain_windows(estimator: Estimator, episode: Episode, settings: ScoreSettings, windows: int) -> None:
    """The reference: a number of windows of one episode, one by one, everything computed anew each time."""
    model, chunk = estimator.model, estimator.config.model.chunk
    scored = episode.indices_at(estimator.config.rate)
    levels = fm.sigma_schedule(settings.steps, model.config.sigma_shift)
    for start in scoring_starts(len(scored), chunk, settings.stride)[:windows]:
        positions = (start + np.arange(2 * chunk + 1)).clip(0, len(scored) - 1)
        frames = pictures_to_float(torch.from_numpy(episode.frames(scored[positions])))
        for _ in range(settings.draws):
            x = torch.randn(1, chunk, 1)
            for now, after in pairwise(levels):
                latents = estimator.vae.per_window(estimator.vae.per_frame(frames)[None])
                current, future = latents.chunk(2, dim=2)
                context = model.observe(current, model.text(model.text.tokenize([episode.instruction])))
                text = model.video.embed_text(model.text(model.text.tokenize([episode.instruction])))
                model.video(future, now.expand(1), text, 1, context.keys_values)
                v = model._value_velocity(spread(torch.zeros(1, 1, 1)), x, now.expand(1), context)
                x = fm.euler_step(x, v, now.expand(1), after.expand(1))
        unspread(x)


def matmul_ceiling() -> float:
    """bf16 matmul of this machine now, in FLOP/s."""
    a, b = (torch.randn(2048, 2048, dtype=torch.bfloat16) for _ in range(2))
    torch.mm(a, b)
    seconds = timed(lambda: [torch.mm(a, b) for _ in range(5)])
    return 5 * 2 * 2048**3 / seconds


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--episodes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    estimator, settings = load_model(options.model), ScoreSettings()
    group = episodes(estimator, options.episodes)
    frames = sum(len(episode.indices_at(estimator.config.rate)) for episode in group)
    counter = FlopCounterMode(display=False)
    with counter:  # also the warm-up
        score_group(estimator, group, settings)
    plain = 4
    plain_windows(estimator, group[0], settings, 1)
    ours, reference, ceiling = [], [], []
    for _ in range(options.rounds):
        ours.append(timed(lambda: score_group(estimator, group, settings)))
        reference.append(timed(lambda: plain_windows(estimator, group[0], settings, plain)) / plain)
        ceiling.append(matmul_ceiling())
    rate = frames / float(np.median(ours))
    flops = counter.get_total_flops() / frames
    figures = {
        "model": options.model,
        "threads": torch.get_num_threads(),
        "scored_frames_per_second": rate,
        "video_frames_per_second": rate * FPS / estimator.config.rate,
        "plain_reference_frames_per_second": 1 / float(np.median(reference)),
        "speedup": rate * float(np.median(reference)),
        "megaflops_per_scored_frame": flops / 1e6,
        "bf16_matmul_gflops": float(np.median(ceiling)) / 1e9,
        "share_of_matmul_ceiling": rate * flops / float(np.median(ceiling)),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    for name, figure in figures.items():
        print(f"{name:36} {figure if isinstance(figure, str | int) else f'{figure:.4g}'}")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
