"""The commands. Thin: each reads its options, calls one function of ours, and prints what came out.

Heavy libraries are imported inside the commands, so that ``worldvalue --help`` stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worldvalue import __version__
from worldvalue.types import DataError

if TYPE_CHECKING:
    from worldvalue.simulation.collect import Counts
    from worldvalue.simulation.simulator import Simulator
    from worldvalue.types import Mode

app = typer.Typer(
    name="worldvalue",
    help="Value models of robot manipulation: score episodes, collect simulated ones, train.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_state = {"debug": False}


@app.callback(invoke_without_command=True)
def _root(
    debug: Annotated[bool, typer.Option(help="Show the full traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    _state["debug"] = debug
    if version:
        typer.echo(__version__)
        raise typer.Exit


_Steps = Annotated[
    int, typer.Option(min=1, help="Euler steps of a noise sample; 1 as in the paper makes the band narrow.")
]


_Data = Annotated[
    list[Path],
    typer.Option(help="Episodes to learn from: anything 'score' reads, with labels.jsonl or expert. May be repeated."),
]
_Out = Annotated[Path, typer.Option(help="Folder of the run: checkpoints, log, result.")]
_RecipeName = Annotated[str, typer.Option(help="Name of a recipe.")]
_Override = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting of the recipe, e.g. training.steps=100.")
]
_Resume = Annotated[bool, typer.Option(help="Go on from the newest checkpoint in --out.")]


_Cluster = Annotated[
    str | None,
    typer.Option(help="Share the work on a Ray cluster: the address of its head, or auto for this machine's."),
]


bench_app = typer.Typer(help="Measure models on labelled episodes.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")


@bench_app.command("run")
def bench_run(
    suite: Annotated[list[Path], typer.Option(help="Labelled episodes: a dataset with labels.jsonl. May be repeated.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="A shipped model (tiny when not given) or a checkpoint folder. May be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for figures, tables, pictures, predictions.")] = Path("bench"),
    steps: _Steps = 4,
) -> None:
    """Measure models on labelled episodes; print the tables, the published figures beside them."""
    from worldvalue.benchmark.tables import to_markdown
    from worldvalue.scoring.sliding_windows import ScoreSettings
    from worldvalue.trials import bench

    typer.echo(to_markdown(bench(suite, model or ["tiny"], out, ScoreSettings(steps=steps))))
    typer.echo(f"Written to {out}: bench.json, bench.md, and bench.html with pictures.")


@bench_app.command("ablate")
def bench_ablate(
    data: _Data,
    suite: Annotated[Path, typer.Option(help="Labelled episodes to measure on.")],
    vae: Annotated[Path, typer.Option(help="Folder of a trained autoencoder ('train vae').")],
    out: Annotated[Path, typer.Option(help="Folder of all runs; what is complete there is not done again.")],
    variant: Annotated[list[str] | None, typer.Option(help="One of them alone; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each variant.")] = 2,
    recipe: _RecipeName = "tiny",
    settings: _Override = None,
) -> None:
    """Train and measure the paper's ablations and two baselines with the same data and steps; print the table."""
    from worldvalue.ablations import VARIANTS, Ablation

    ablation = Ablation(data, suite, vae, out, recipe, settings or [])
    typer.echo(ablation.run(variant or list(VARIANTS), seeds))


@app.command()
def calibrate(
    data: Annotated[Path, typer.Argument(help="Held-out labelled episodes: neither trained on nor measured on.")],
    model: Annotated[Path, typer.Option(help="A checkpoint folder; its config.json takes the result.")],
    steps: _Steps = 4,
) -> None:
    """Widen a model's 10-90 % band until it holds the truth in 80 % of the frames of held-out episodes."""
    from worldvalue.scoring.sliding_windows import ScoreSettings
    from worldvalue.trials import calibrate_band

    found = calibrate_band(data, model, ScoreSettings(steps=steps))
    typer.echo(
        f"The band held the truth in {found.covered:.0%} of the frames of {found.episodes} episodes; "
        f"{model / 'config.json'} now moves its ends by {found.margin:+.3f}."
    )


@app.command()
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
    camera: Annotated[list[str] | None, typer.Option(help="View to score; several are tiled.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Frames a second to look at; the model's own by default.")
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Frames between windows; 1 is full overlap.")] = 1,
    draws: Annotated[int, typer.Option(min=1, help="Noise samples, for the uncertainty.")] = 8,
    steps: _Steps = 4,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the model first: faster where there is much to score.")
    ] = False,
    cluster: _Cluster = None,
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
    settings = ScoreSettings(stride, draws, steps, rate=rate, cameras=cameras, compile=compiled)
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
        settings=f"{looked_at:g} frames a second, stride {stride}, {draws} draws of {steps} steps",
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


@app.command()
def rollout(
    model: Annotated[str, typer.Option(help="Checkpoint folder of a model that tells actions.")],
    out: Annotated[Path, typer.Option(help="Folder of the results and videos.")],
    task: Annotated[str, typer.Option(help="A robosuite task, as 'collect robosuite' names it.")] = "lift",
    episodes: Annotated[int, typer.Option(min=1, help="Number of rollouts.")] = 50,
    steps: Annotated[int, typer.Option(min=1, help="Euler steps of a chunk of actions.")] = 5,
    execute: Annotated[int, typer.Option(min=1, help="Actions carried out before the model is asked again.")] = 8,
    limit: Annotated[int, typer.Option(min=1, help="Steps of 0.1 s until a rollout has failed.")] = 400,
) -> None:
    """Let a model move the simulated robot and count what succeeds; start again to continue a stopped run."""
    from worldvalue.trials import try_policy

    succeeded = try_policy(model, task, episodes, out, steps, execute, limit)
    typer.echo(f"{task}: {succeeded} of {episodes} rollouts succeeded; videos are in {out}.")


@app.command()
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


collect_app = typer.Typer(help="Collect simulated episodes.", no_args_is_help=True)
app.add_typer(collect_app, name="collect")


_Seed = Annotated[int, typer.Option(min=0, help="Same seed, same episodes.")]
_Size = Annotated[int, typer.Option(min=16, help="Width and height of the pictures; even.")]
_Workers = Annotated[int | None, typer.Option(min=1, help="Processes; one per core by default.")]
_Split = Annotated[
    str | None, typer.Option(help="A split of simulation/splits.py instead, such as test: tasks, numbers and seed.")
]
_Collection = Annotated[Path, typer.Argument(help="Folder of the dataset to write.")]


@collect_app.command()
def robosuite(
    out: _Collection,
    tasks: Annotated[str, typer.Option(help="Tasks, separated by commas.")] = "lift,stack,bread,can,cereal,milk",
    expert: Annotated[int, typer.Option(min=0, help="Expert episodes of each task.")] = 10,
    hesitation: Annotated[int, typer.Option(min=0, help="Episodes of each task with a hesitation.")] = 0,
    retry: Annotated[int, typer.Option(min=0, help="Episodes of each task with a retry.")] = 0,
    failure: Annotated[int, typer.Option(min=0, help="Failed episodes of each task.")] = 0,
    seed: _Seed = 0,
    split: _Split = None,
    size: _Size = 128,
    workers: _Workers = None,
) -> None:
    """Collect episodes of robosuite tasks; the same command again continues a stopped collection."""
    from worldvalue.simulation.collect import even_counts
    from worldvalue.simulation.robosuite_episodes import ROBOSUITE

    modes: dict[Mode, int] = {"expert": expert, "hesitation": hesitation, "retry": retry, "failure": failure}
    _collect(ROBOSUITE, out, even_counts(tasks.split(","), modes), seed, split, size, workers)


@collect_app.command()
def metaworld(
    out: _Collection,
    tasks: Annotated[
        str | None, typer.Option(help="Tasks, separated by commas, such as drawer-open,push; all fifty by default.")
    ] = None,
    expert: Annotated[int, typer.Option(min=1, help="Expert episodes of each task.")] = 2,
    seed: _Seed = 0,
    split: _Split = None,
    size: _Size = 128,
    workers: _Workers = None,
) -> None:
    """Collect expert episodes of Meta-World tasks; the same command again continues a stopped collection."""
    from worldvalue.simulation.collect import even_counts
    from worldvalue.simulation.metaworld_episodes import METAWORLD

    names = tasks.split(",") if tasks else METAWORLD.tasks
    _collect(METAWORLD, out, even_counts(names, {"expert": expert}), seed, split, size, workers)


def _collect(
    simulator: Simulator, out: Path, counts: Counts, seed: int, split: str | None, size: int, workers: int | None
) -> None:
    from worldvalue.simulation.collect import collect
    from worldvalue.simulation.splits import find_split

    if split is not None:
        chosen = find_split(split, simulator)
        counts, seed = chosen.counts, chosen.seed
    collected = collect(simulator, out, counts, seed, size, workers)
    typer.echo(f"{out} is {'written' if collected else 'complete already'}.")


train = typer.Typer(help="Train models from recipes.", no_args_is_help=True)
app.add_typer(train, name="train")

_Vae = Annotated[Path | None, typer.Option(help="Folder of a trained autoencoder ('train vae').")]
_Codes = Annotated[
    Path | None,
    typer.Option(help="Folder of encoded frames, OUT/codes by default; runs with the same autoencoder can share it."),
]
_Init = Annotated[str | None, typer.Option(help="Shipped model or checkpoint folder to go on from.")]


@app.command()
def encode(
    data: Annotated[Path, typer.Argument(help="Episodes to learn from: anything 'score' reads.")],
    vae: Annotated[Path, typer.Option(help="Folder of a trained autoencoder ('train vae').")],
    codes: Annotated[Path, typer.Option(help="Folder of encoded frames, for 'train --codes'.")],
    recipe: _RecipeName = "tiny",
    settings: _Override = None,
    cluster: _Cluster = None,
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


@train.command("vae")
def train_vae(
    data: _Data, out: _Out, recipe: _RecipeName = "tiny", settings: _Override = None, resume: _Resume = False
) -> None:
    """Train the autoencoder of frames that the value models stand on."""
    from worldvalue.data import open_episodes
    from worldvalue.recipes import find_recipe
    from worldvalue.runs import train_autoencoder

    sources = [open_episodes(folder) for folder in data]
    chosen = find_recipe("wvm", recipe, settings or [])
    typer.echo(f"autoencoder: {train_autoencoder(chosen, sources, out, resume)}")


_Pretrained = Annotated[
    str | None,
    typer.Option(
        help="Video model to stand on: Wan's or LTX-Video's folder in diffusers layout or hub id, or as for --init."
    ),
]


def _trainer(model: str) -> Callable[..., None]:
    """The command that trains a model of ``RECIPES``."""

    def run(
        data: _Data,
        out: _Out,
        recipe: _RecipeName = "tiny",
        vae: _Vae = None,
        pretrained: _Pretrained = None,
        init: _Init = None,
        codes: _Codes = None,
        settings: _Override = None,
        resume: _Resume = False,
    ) -> None:
        from worldvalue.data import open_episodes
        from worldvalue.recipes import find_recipe
        from worldvalue.runs import train_value_model

        chosen, sources = find_recipe(model, recipe, settings or []), [open_episodes(folder) for folder in data]
        typer.echo(f"model: {train_value_model(chosen, sources, out, vae, pretrained, init, codes, resume)}")

    return run


for _name, _what in {
    "wvm": "Train a World Value Model; the result is a checkpoint folder for 'score --model'.",
    "viva": "Train a ViVa, whose value is a frame of the video; it also learns from failures.",
    "mv-wam": "Train an MV-WAM, which tells future video, actions and a value together.",
    "wav": "Train a WAV, which tells the values and actions of a chunk from a video that it imagines.",
    "frame-classifier": "Train the baseline that sorts single frames into 201 bins of value, without a world model.",
}.items():
    train.command(_name, help=_what)(_trainer(_name))


def main() -> None:
    """Run the command line; bad input becomes one sentence and exit code 2."""
    try:
        app()
    except (DataError, OSError) as error:
        if _state["debug"]:
            raise
        typer.echo(f"worldvalue: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
