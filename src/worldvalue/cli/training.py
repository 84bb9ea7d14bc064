"""Models of one's own: ``train``, and ``encode`` and ``plan`` before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from worldvalue.cli.options import Cluster, Data, Out, Override, RecipeName, Resume

train_app = typer.Typer(help="Train models from recipes.", no_args_is_help=True)

_Vae = Annotated[Path | None, typer.Option(help="Folder of a trained autoencoder ('train vae').")]
_Codes = Annotated[
    Path | None,
    typer.Option(help="Folder of encoded frames, OUT/codes by default; runs with the same autoencoder can share it."),
]
_Init = Annotated[
    str | None,
    typer.Option(help="Shipped model or checkpoint folder to go on from: its shape and pictures, the recipe's losses."),
]


def encode(
    data: Annotated[Path, typer.Argument(help="Episodes to learn from: anything 'score' reads.")],
    vae: Annotated[Path, typer.Option(help="Folder of a trained autoencoder ('train vae').")],
    codes: Annotated[Path, typer.Option(help="Folder of encoded frames, for 'train --codes'.")],
    recipe: RecipeName = "tiny",
    settings: Override = None,
    cluster: Cluster = None,
) -> None:
    """Encode the frames of episodes before training; start again to continue a stopped run."""
    from worldvalue.recipes import find_recipe
    from worldvalue.runs import encode_frames

    left_out = encode_frames(find_recipe("wvm", recipe, settings or []), data, vae, codes, cluster)
    for told in left_out:
        typer.echo(f"left out: {told}", err=True)
    typer.echo(f"codes: {codes}")
    if left_out:
        raise typer.Exit(1)


def plan(
    model: Annotated[str, typer.Argument(help="What is trained, as 'train' names it.")] = "wvm",
    recipe: RecipeName = "wan22_5b",
    gpus: Annotated[int, typer.Option(min=1, help="Number of GPUs.")] = 8,
    gpu_memory: Annotated[float, typer.Option(min=1, help="Memory of each, in GB of 10^9 bytes.")] = 80,
    gpu_tflops: Annotated[
        float,
        typer.Option(
            min=0.001,
            help="10^12 bf16 operations a second that each is expected to do in training. The default is 40 % of an "
            "A100's peak of 312; that of an H100's or H200's 989 would be 396.",
        ),
    ] = 125,
    settings: Override = None,
) -> None:
    """Say what training takes before it is started: memory of each GPU by part, steps a day. Nothing is computed."""
    from worldvalue.planner import plan
    from worldvalue.recipes import find_recipe

    typer.echo(plan(find_recipe(model, recipe, settings or []), gpus, gpu_tflops * 1e12).table(gpu_memory * 1e9))


@train_app.command("vae")
def train_vae(
    data: Data, out: Out, recipe: RecipeName = "tiny", settings: Override = None, resume: Resume = False
) -> None:
    """Train the autoencoder of frames that the value models stand on."""
    from worldvalue.data import open_episodes
    from worldvalue.recipes import find_recipe
    from worldvalue.runs import train_autoencoder

    sources = [open_episodes(folder) for folder in data]
    chosen = find_recipe("wvm", recipe, settings or [])
    _told_once(f"autoencoder: {train_autoencoder(chosen, sources, out, resume)}")


_Pretrained = Annotated[
    str | None,
    typer.Option(
        help="Video model to stand on: Wan's or LTX-Video's folder in diffusers layout or hub id, or as for --init."
    ),
]


def _told_once(result: str) -> None:
    """Print what came out, on the first process alone."""
    from worldvalue.training.parallelize import started_processes

    if started_processes().is_main_process:
        typer.echo(result)


def _trainer(model: str) -> Callable[..., None]:
    """The command that trains a model of ``RECIPES``."""

    def run(
        data: Data,
        out: Out,
        recipe: RecipeName = "tiny",
        vae: _Vae = None,
        pretrained: _Pretrained = None,
        init: _Init = None,
        codes: _Codes = None,
        settings: Override = None,
        resume: Resume = False,
    ) -> None:
        from worldvalue.data import open_episodes
        from worldvalue.models import read_config
        from worldvalue.recipes import find_recipe
        from worldvalue.runs import train_value_model

        chosen = find_recipe(model, recipe, settings or [], read_config(init) if init else None)
        sources = [open_episodes(folder) for folder in data]
        _told_once(f"model: {train_value_model(chosen, sources, out, vae, pretrained, init, codes, resume)}")

    return run


for _name, _what in {
    "wvm": "Train a World Value Model; the result is a checkpoint folder for 'score --model'.",
    "viva": "Train a ViVa, whose value is a frame of the video; it also learns from failures.",
    "mv-wam": "Train an MV-WAM, which tells future video, actions and a value together.",
    "wav": "Train a WAV, which tells the values and actions of a chunk from a video that it imagines.",
    "frame-classifier": "Train the baseline that sorts single frames into 201 bins of value, without a world model.",
}.items():
    train_app.command(_name, help=_what)(_trainer(_name))
