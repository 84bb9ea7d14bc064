"""What models can do: ``bench``, ``rollout``, ``manifold``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worldvalue.cli.options import Data, Override, RecipeName, Steps

TrainedVAE = Annotated[Path, typer.Option(help="Folder of a trained autoencoder ('train vae').")]
Runs = Annotated[Path, typer.Option(help="Folder of all runs; what is complete there is not done again.")]

bench_app = typer.Typer(help="Measure models on labelled episodes.", no_args_is_help=True)


@bench_app.command("run")
def bench_run(
    suite: Annotated[list[Path], typer.Option(help="Labelled episodes: a dataset with labels.jsonl. May be repeated.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="A shipped model (tiny when not given) or a checkpoint folder. May be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for figures, tables, pictures, predictions.")] = Path("bench"),
    steps: Steps = None,
) -> None:
    """Measure models on labelled episodes; print the tables, the published figures beside them."""
    from worldvalue.benchmark.tables import to_markdown
    from worldvalue.scoring.sliding_windows import ScoreSettings
    from worldvalue.trials import bench

    models = [(name, name) for name in model or ["tiny"]]
    typer.echo(to_markdown(bench(suite, models, out, ScoreSettings(steps=steps))))
    typer.echo(f"Written to {out}: bench.json, bench.md, and bench.html with pictures.")


@bench_app.command("ablate")
def bench_ablate(
    data: Data,
    suite: Annotated[Path, typer.Option(help="Labelled episodes to measure on.")],
    vae: TrainedVAE,
    out: Runs,
    variant: Annotated[list[str] | None, typer.Option(help="One of them alone; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each variant.")] = 2,
    recipe: RecipeName = "tiny",
    settings: Override = None,
) -> None:
    """Train and measure the paper's ablations and two baselines with the same data and steps; print the table."""
    from worldvalue.ablations import VARIANTS, Ablation
    from worldvalue.variants import Trainings

    ablation = Ablation(Trainings(data, vae, out, recipe, settings or []), suite)
    typer.echo(ablation.run(variant or list(VARIANTS), seeds))


@bench_app.command("compare")
def bench_compare(
    data: Data,
    suite: Annotated[list[Path], typer.Option(help="Labelled episodes to measure on. May be repeated.")],
    vae: TrainedVAE,
    out: Runs,
    model: Annotated[list[str] | None, typer.Option(help="One of them alone; may be repeated.")] = None,
    recipe: RecipeName = "tiny",
    settings: Override = None,
    steps: Steps = None,
    draws: Annotated[int, typer.Option(min=1, help="Noise samples; MV-WAM and WAV imagine a video for each.")] = 2,
) -> None:
    """Train WVM, ViVa, MV-WAM and WAV with the same data and as many steps; print what each costs and its figures."""
    from worldvalue.family import FAMILY, compare
    from worldvalue.scoring.sliding_windows import ScoreSettings
    from worldvalue.variants import Trainings

    trainings = Trainings(data, vae, out, recipe, settings or [])
    typer.echo(compare(trainings, model or list(FAMILY), suite, ScoreSettings(draws=draws, steps=steps)))


def rollout(
    model: Annotated[str, typer.Option(help="Checkpoint folder of a model that tells actions.")],
    out: Annotated[Path, typer.Option(help="Folder of the results and videos.")],
    task: Annotated[str, typer.Option(help="A robosuite task, as 'collect robosuite' names it.")] = "lift",
    episodes: Annotated[int, typer.Option(min=1, help="Number of rollouts.")] = 50,
    steps: Annotated[int, typer.Option(min=1, help="Euler steps of a chunk of actions.")] = 5,
    execute: Annotated[int, typer.Option(min=1, help="Actions carried out before the model is asked again.")] = 8,
    limit: Annotated[int, typer.Option(min=1, help="Steps of 0.1 s until a rollout has failed.")] = 400,
    first: Annotated[int, typer.Option(min=0, help="First scene; choose settings on others than you report.")] = 0,
    size: Annotated[int, typer.Option(min=16, help="Width and height of the data's pictures; even.")] = 128,
) -> None:
    """Let a model move the simulated robot and count what succeeds; start again to continue a stopped run."""
    from worldvalue.trials import Rollouts, try_policy

    succeeded = try_policy(model, Rollouts(task, episodes, first, size, steps, execute, limit), out)
    typer.echo(f"{task}: {succeeded} of {episodes} rollouts succeeded; videos are in {out}.")


def manifold(
    plain: Annotated[Path, typer.Argument(help="Successful episodes with actions.")],
    changed: Annotated[Path, typer.Argument(help="Episodes of the same instructions in changed scenes.")],
    out: Annotated[Path, typer.Option(help="Folder of the numbers and the picture.")] = Path("manifold"),
    model: Annotated[
        str | None, typer.Option(help="An MV-WAM's checkpoint folder, to compare what its experts make of both.")
    ] = None,
) -> None:
    """Compare the manifolds of pictures and actions, and a model's features, between two scenes of the same tasks."""
    from worldvalue.trials import compare_two_scenes

    found = compare_two_scenes(plain, changed, out, model)
    curvatures = found.curvatures
    for task, pictures, actions in zip(curvatures.tasks, curvatures.pictures, curvatures.actions, strict=True):
        typer.echo(f"{task}: pictures {pictures:.2f}, actions {actions:.2f}")
    typer.echo(f"p = {curvatures.p:.2g} that both are alike, of {found.pairs} pairs.")
    for name, share in found.separations.items():
        typer.echo(f"{name} expert: {share:.0%} of the neighbours of its features are of the same scene.")
    typer.echo(f"Written to {out}: manifold.json, manifold.png.")
