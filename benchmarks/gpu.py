"""What one device does at a recipe's size with random weights: its ceilings, training, scoring, one online step.

Run: ``python benchmarks/gpu.py [--recipe wan22_5b] [--out FILE.json]`` on a machine with a GPU (some minutes), or on
the CPU with ``--recipe tiny``. It prints a table for ``docs/performance.md``. Bounds are what the operations take at
the rate of this device's own bf16 matrix product, measured in the same run; in an online step also what reading all
weights once takes at the rate of its own copies.

Published, at the paper's size: WVM trained at 6.7 windows a second on an A100 (appendix A.1: 30,000 steps of 1,024
windows in 40 hours on 32), ViVa takes 0.18 s a frame on an A800 (table 12). Both have a peak of 312 TFLOP/s; the
figures are scaled from there to this device's ceiling.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from flops import forward_flops
from measure import copy_ceiling, counted, held_bytes, matmul_ceiling, most_bytes, timed, usual_time
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from worldvalue.data import ManifestRow, encode_video, open_episodes, write_manifest
from worldvalue.models import Estimator
from worldvalue.models.wvm import WVM, WVMConfig
from worldvalue.planner import plan
from worldvalue.recipes import Recipe, find_recipe
from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings
from worldvalue.training.loop import OptimizerStep
from worldvalue.training.parallelize import adamw, parallelize, started_processes
from worldvalue.types import Compiler, Episode, FrameReader, Labels

PEAK = 312e12
TRAINED, SCORED = 6.7, 1 / 0.18
FPS, SECONDS = 10, 8
Made = TypeVar("Made")


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        figure: its name and unit.
        found: what was measured.
        bound: the best there could be.
        published: by a paper, scaled to this device.
    """

    figure: str
    found: float
    bound: float | None = None
    published: float | None = None

    def __str__(self) -> str:
        best = "" if self.bound is None else f"{self.bound:.4g}"
        share = "" if not self.bound else f"{min(self.found / self.bound, self.bound / self.found):.0%}"
        told = "" if self.published is None else f"{self.published:.4g}"
        return f"| {self.figure} | {self.found:.4g} | {best} | {share} | {told} |"


@dataclass(frozen=True)
class Bench:
    """A recipe on a device.

    Attributes:
        recipe: of a World Value Model.
        device: where it runs.
        repeats: of each measurement; the median counts.
        matmul: operations a second of a large bf16 matrix product.
        copy: bytes a second of a large copy.
    """

    recipe: Recipe
    device: torch.device
    repeats: int
    matmul: float
    copy: float

    def published(self, figure: float) -> float | None:
        """A rate, scaled from the device it was measured on; None for a model of another size."""
        return figure * self.matmul / PEAK if self.recipe.estimator.model.text is None else None

    @property
    def compiler(self) -> Compiler | None:
        """Who makes the model faster: torch, on a GPU."""
        return Compiler.TORCH if self.device.type == "cuda" else None

    def usual_time(self, work: Callable[[], object]) -> float:
        """Median seconds of a call."""
        return usual_time(work, self.device, self.repeats)

    def autocast(self) -> torch.autocast:
        """As models are trained and used."""
        return torch.autocast(self.device.type, torch.bfloat16)


class RandomTexts:
    """In the place of a pretrained text encoder's states on disk."""

    def __init__(self, config: WVMConfig) -> None:
        self.states = torch.randn(config.text_length, config.value.text_dim, dtype=torch.bfloat16)

    def make(self, instructions: Sequence[str], device: torch.device) -> None:
        """They are there."""

    def stacked(self, instructions: Sequence[str]) -> Tensor:
        """``(B, L, text_dim)``, the same for all."""
        return self.states.expand(len(instructions), -1, -1)


class Parts:
    """What calls of some functions cost, added up by part.

    Args:
        cost: of a call.
    """

    def __init__(self, cost: Callable[[Callable[[], object]], float]) -> None:
        self.cost = cost
        self.spent: dict[str, float] = defaultdict(float)

    def watched(self, part: str, function: Callable[..., Made]) -> Callable[..., Made]:
        """The function, whose calls are added to a part."""

        def call(*args: Any, **kwargs: Any) -> Made:
            made: list[Made] = []
            self.spent[part] += self.cost(lambda: made.append(function(*args, **kwargs)))
            return made[0]

        return call

    @contextmanager
    def of(self, estimator: Estimator) -> Iterator[None]:
        """Watch an estimator at work."""
        vae, model = estimator.vae, estimator.model
        methods = ((vae, "items", "autoencoder"), (model, "encode", "autoencoder"), (model, "observe", "transformer"))
        places = (*methods, (model, "predict", "value stream"))
        for owner, name, part in places:
            setattr(owner, name, self.watched(part, getattr(owner, name)))
        try:
            yield
        finally:
            for owner, name, _ in places:
                delattr(owner, name)


class WatchedReader:
    """A reader of frames whose time counts as decoding."""

    def __init__(self, reader: FrameReader, parts: Parts) -> None:
        self._read = parts.watched("decode", reader.read)

    def read(self, camera: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """See ``FrameReader.read``."""
        return self._read(camera, indices)


def ceilings(bench: Bench) -> list[Row]:
    """What bounds all the rest."""
    return [
        Row("bf16 matrix product, TFLOP/s", bench.matmul / 1e12),
        Row("copy, read and written, GB/s", bench.copy / 1e9),
    ]


def training(bench: Bench, estimator: Estimator) -> list[Row]:
    """Whole steps of the optimizer on the same windows, made of pictures or of codes as the autoencoder allows."""
    settings, model = bench.recipe.training, estimator.model
    assert isinstance(model, WVM), "written for a World Value Model"
    batch = windows(estimator, settings.batch, len(model.window.shown))
    forward = checked_flops(bench, estimator, batch) * settings.batch
    processes = started_processes()
    called, optimizer = parallelize(estimator, settings, processes), adamw(estimator, settings)
    step = OptimizerStep(estimator, called, model.config.weights, optimizer, settings, processes)
    taken = bench.usual_time(lambda: step(0, repeat(batch)))
    memory = held_bytes(estimator, optimizer) + most_bytes(lambda: step(0, repeat(batch)), bench.device)

    @torch.no_grad()
    def encode() -> Tensor:
        with bench.autocast():
            return model.encode(estimator.vae, batch["items"])

    encoding, encoded = bench.usual_time(encode), counted(encode)
    rates = {
        "latents made in the loop": (taken, 3 * forward + encoded),
        "latents at hand": (taken - encoding, 3 * forward),
    }
    expected = plan(bench.recipe, gpus=1, rate=bench.matmul)
    return [
        *(
            Row(
                f"training, windows a second, {name}",
                settings.batch / seconds,
                settings.batch * bench.matmul / flops,
                bench.published(TRAINED),
            )
            for name, (seconds, flops) in rates.items()
        ),
        Row("training, model TFLOP a window, forwards and backwards", 3 * forward / settings.batch / 1e12),
        Row(
            f"training, memory at {settings.batch} windows, GB (bound: as planned)", memory / 1e9, expected.total / 1e9
        ),
    ]


def checked_flops(bench: Bench, estimator: Estimator, batch: dict[str, Tensor]) -> float:
    """Operations of the forward pass of a window by formula.

    Raises:
        AssertionError: torch's counter finds others.
    """
    model = estimator.model
    assert isinstance(model, WVM)

    def losses() -> None:
        with torch.no_grad(), bench.autocast():
            model.losses({**batch, "latents": model.encode(estimator.vae, batch["items"])})

    def beside() -> None:
        with torch.no_grad(), bench.autocast():
            model.encode(estimator.vae, batch["items"])
            if model.text is not None:
                model.text(batch["tokens"])

    count = len(batch["items"])
    found, formula = (counted(losses) - counted(beside)) / count, forward_flops(model.config, count)
    assert abs(found / formula - 1) < 1e-3, f"torch counts {found:.6g} operations, the formula gives {formula:.6g}"
    return formula


def windows(estimator: Estimator, count: int, frames: int) -> dict[str, Tensor]:
    """A random batch of windows with so many frames."""
    picture, model, device = estimator.config.picture, estimator.model, estimator.device
    shown = torch.randint(256, (count * frames, picture.views, picture.height, picture.width, 3), dtype=torch.uint8)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        items = estimator.vae.items(shown).unflatten(0, (count, frames))
    return {**{name: tensor.to(device) for name, tensor in model.example_batch(count).items()}, "items": items}


def scoring(bench: Bench, estimator: Estimator, episodes: Sequence[Episode]) -> list[Row]:
    """Scored frames a second from video files to curves as ``worldvalue score`` does it, and where the time goes.

    One group, so that its decoding adds to the time; of many groups a next one is decoded while one is scored.
    """
    scorer = Scorer(estimator, ScoreSettings(group=len(episodes), compile=bench.compiler))
    operations, seconds = Parts(counted), Parts(lambda work: timed(work, bench.device))
    with operations.of(estimator):
        scorer(episodes)
    taken = bench.usual_time(lambda: scorer(episodes))
    with seconds.of(estimator):
        watched = [replace(episode, reader=WatchedReader(episode.reader, seconds)) for episode in episodes]
        total = timed(lambda: scorer(watched), bench.device)
    seconds.spent["the rest"] = total - sum(seconds.spent.values())
    frames = sum(len(episode.indices_at(estimator.config.rate)) for episode in episodes)
    least = (operations.spent["autoencoder"] + operations.spent["transformer"]) / bench.matmul
    name = f"scoring, frames a second, {scorer.settings.draws} draws of {scorer.steps} steps"
    rows = [Row(f"{name} (bound: autoencoder, transformer)", frames / taken, frames / least, bench.published(SCORED))]
    for part, spent in seconds.spent.items():
        bound = 1000 * operations.spent[part] / bench.matmul / frames
        rows.append(Row(f"scoring, ms a frame, {part}", 1000 * spent / frames, bound or None))
    return rows


def online(bench: Bench, estimator: Estimator) -> list[Row]:
    """A step while a robot runs: from a new picture to the values of a window, one draw of one step."""
    model = estimator.model
    assert isinstance(model, WVM)
    batch, size = windows(estimator, 1, model.window.seen), bench.recipe.estimator.picture
    picture = torch.randint(256, (1, 1, size.height, size.width, 3), dtype=torch.uint8)
    text = batch["text"] if model.text is None else model.text(batch["tokens"]).detach()
    noise, prefix = (torch.randn(1, 1, *shape, device=bench.device) for shape in (model.noise_shape, ()))

    @torch.no_grad()
    def step(newest: Tensor) -> Tensor:
        with bench.autocast():
            items = torch.cat((batch["items"][:, 1:], estimator.vae.items(newest)[None]), dim=1)
            return estimator.values({"items": items}, text, prefix, noise, steps=1)

    autoencoder: Any = estimator.vae.autoencoder
    weights = chain.from_iterable(part.parameters() for part in (autoencoder.encoder, model.video, model.value))
    read = sum(tensor.nbytes for tensor in weights) / bench.copy
    bound = 1000 * max(counted(lambda: step(picture)) / bench.matmul, read)
    published = bench.published(SCORED)

    def row(name: str, step: Callable[[Tensor], Tensor]) -> Row:
        taken = bench.usual_time(lambda: step(picture.to(bench.device)))
        return Row(name, 1000 * taken, bound, None if published is None else 1000 / published)

    rows = [row("online step, ms", step)]
    if bench.device.type == "cuda":
        rows.append(row("online step with CUDA graphs, ms", torch.compile(step, mode="reduce-overhead")))
    return rows


def write_videos(folder: Path, count: int, height: int, width: int) -> None:
    """Videos of a square that moves over a picture with soft shades."""
    rows = []
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    for number in range(count):
        frames = np.repeat(np.stack((across, down, 255 - across), axis=-1)[None].astype(np.uint8), FPS * SECONDS, 0)
        for time, frame in enumerate(frames):
            left = (number + time) * width // (count + FPS * SECONDS)
            frame[height // 2 :, left : left + width // 8] = 255 - number
        encode_video(folder / f"{number}.mp4", frames, FPS)
        rows.append(ManifestRow("push the square", FPS, Labels(len(frames)), video=f"{number}.mp4"))
    write_manifest(folder / "labels.jsonl", rows)


def measured(recipe: Recipe, device: torch.device, repeats: int, episodes: int) -> list[Row]:
    """All rows of the table, of a new model with random weights that scores so many episodes in lock step."""
    torch.manual_seed(0)
    with device:
        estimator = Estimator(recipe.estimator)
    for layer in estimator.modules():
        if isinstance(layer, nn.Linear | _ConvNd):
            layer.to(torch.bfloat16)  # as models are loaded to score; training makes them float32 again
    estimator.stored_texts = RandomTexts(recipe.estimator.model)  # type: ignore[assignment, arg-type]
    bench = Bench(recipe, device, repeats, matmul_ceiling(device), copy_ceiling(device))
    picture = recipe.estimator.picture
    with TemporaryDirectory() as folder:
        write_videos(Path(folder), episodes, picture.height, picture.width)
        opened = list(open_episodes(Path(folder)))
        found = [*ceilings(bench), *scoring(bench, estimator.eval(), opened), *online(bench, estimator)]
    return found + training(bench, estimator.train())


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="wan22_5b")
    parser.add_argument("--batch", type=int, default=8, help="windows of a training step")
    parser.add_argument("--episodes", type=int, default=16, help="scored in lock step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe, gpu = find_recipe("wvm", asked.recipe), device.type == "cuda"
    settings = replace(recipe.training, batch=asked.batch, compile=gpu, recompute=gpu)
    name = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} thread(s)"
    rows = measured(replace(recipe, training=settings), device, asked.repeats, asked.episodes)
    print(f"{asked.recipe} on {name}, torch {torch.__version__}\n")
    print("| figure | measured | bound | of the bound | published, scaled |\n|---|---:|---:|---:|---:|")
    print(*rows, sep="\n")
    if asked.out:
        asked.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
