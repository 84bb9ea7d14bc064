"""Values of a user's data: ``score``, and ``calibrate`` for their band."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from worldvalue.cli.options import Cluster, Steps
from worldvalue.types import Compiler


def score(
    path: Annotated[Path, typer.Argument(help="A LeRobot dataset, a folder of videos, or a single video.")],
    model: Annotated[str, typer.Option(help="Name of a shipped model, or a checkpoint folder.")] = "tiny",
    instruction: Annotated[str | None, typer.Option(help="The task in words, where the data has none.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; NAME.worldvalue by default.")] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Put the values into the root of a LeRobot dataset.")
    ] = False,
    sarm_name: Annotated[
        bool, typer.Option("--sarm-name", help="Call the values sarm_progress.parquet, as LeRobot looks for.")
    ] = False,
    camera: Annotated[list[str] | None, typer.Option(help="Camera to look through; may be repeated.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Frames a second to look at; the model's own by default.")
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Frames between windows; 1 is full overlap.")] = 1,
    draws: Annotated[int, typer.Option(min=1, help="Noise samples, for the uncertainty.")] = 8,
    steps: Steps = None,
    compiler: Annotated[
        Compiler | None, typer.Option("--compile", help="What makes the model faster, where there is much to score.")
    ] = None,
    cluster: Cluster = None,
    png: Annotated[bool, typer.Option("--png", help="Also a picture of each episode.")] = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also each video with its curve below.")] = False,
) -> None:
    """Give every frame a value; write them, a table and a report. Start again to continue a stopped run."""
    from rich.console import Console

    from worldvalue.data import open_episodes
    from worldvalue.scoring.cluster import OnCluster, StartScoring
    from worldvalue.scoring.console import print_outcome
    from worldvalue.scoring.dataset import Request, run_here, score_dataset
    from worldvalue.scoring.sliding_windows import Scorer, ScoreSettings

    source = open_episodes(path, instruction)
    cameras = tuple(camera) if camera else None
    settings = ScoreSettings(stride, draws, steps, rate=rate, cameras=cameras, compile=compiler)
    start = partial(StartScoring, path, instruction, model, settings)
    run = OnCluster(cluster, start) if cluster else run_here
    scorer = Scorer.of(model, settings)
    if cluster:
        scorer.estimator.cpu()  # the workers have the GPUs
    scorer.check(source)
    resolved, looked_at = path.resolve(), rate or scorer.estimator.config.rate
    request = Request(
        out=out or Path(f"{resolved.stem if resolved.is_file() else resolved.name}.worldvalue"),
        model=model,
        settings=f"{looked_at:g} frames a second, stride {stride}, {draws} draws of {scorer.steps} steps",
        camera=camera[0] if camera else None,
        in_place=in_place,
        sarm_name=sarm_name,
        pictures=png,
        overlays=overlay,
    )
    everything = {**scorer.identity(), "instruction": instruction}
    outcome = score_dataset(source, scorer, settings.group, everything, request, Console(stderr=True), run)
    print_outcome(outcome, request.report, Console())
    if outcome.failures or outcome.undrawn:
        raise typer.Exit(1)


def calibrate(
    data: Annotated[Path, typer.Argument(help="Held-out labelled episodes: neither trained on nor measured on.")],
    model: Annotated[Path, typer.Option(help="A checkpoint folder; its config.json takes the result.")],
    steps: Steps = None,
) -> None:
    """Widen a model's 10-90 % band until it holds the truth in 80 % of the frames of held-out episodes."""
    from worldvalue.scoring.sliding_windows import ScoreSettings
    from worldvalue.trials import calibrate_band

    found = calibrate_band(data, model, ScoreSettings(steps=steps))
    typer.echo(
        f"The band held the truth in {found.covered:.0%} of the frames of {found.episodes} episodes; "
        f"{model / 'config.json'} now moves its ends by {found.margin:+.3f}."
    )
