"""The figures of one or more models as tables, in Markdown and as a page."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from worldvalue.benchmark.evaluate import HEADLINE, METRICS, Metric
from worldvalue.benchmark.published import PUBLISHED

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By model, then by dataset: what ``run_suite`` returns."""

_TEMPLATE = Path(__file__).with_name("bench.html")
_HEADLINES = [metric for metric in METRICS if metric.name in HEADLINE.values()]
_OTHERS = [metric for metric in METRICS if metric.name not in HEADLINE.values()]
_EVENTS = {
    "milestone sensitivity MS ↑": ("milestone", "sensitivity"),
    "milestone detection rate MDR ↑": ("milestone", "detection_rate"),
    "error sensitivity ES ↑": ("error", "sensitivity"),
    "error detection rate ErrDR ↑": ("error", "detection_rate"),
}
"""ViVa's figures of annotated events, by title: kind of event and figure."""
_EXPLANATION = (
    "Mean over tasks of the mean over trajectories, then over datasets but those with counterfactual instructions; "
    "trajectories in brackets. A trajectory without a correlation (constant, too few frames) counts as 0, one without "
    "a time bias as 1, and is counted under ill-defined. Rows marked * are published figures, measured by the WVM "
    "paper's authors on their own data."
)


@dataclass(frozen=True)
class Table:
    """Rows of cells under a heading."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(results: Results) -> list[Table]:
    """The paper's figures beside the published ones, by task, the other figures, and the controls."""
    models = list(results)
    datasets = list(next(iter(results.values())))
    made = [_headline(results)]
    made += [_by_task(dataset, model, results[model][dataset]) for dataset in datasets for model in models]
    for dataset in datasets:
        figures = [results[model][dataset] for model in models]
        made += [
            Table(f"Other figures, {dataset}", ["figure", *models], _other_rows(figures)),
            Table(f"Controls, {dataset}", ["control", *models], _control_rows(figures)),
        ]
    return made


def notes(results: Results) -> list[str]:
    """How to read the tables, and which episodes are not in them."""
    told = [_EXPLANATION]
    for model, datasets in results.items():
        for dataset, figures in datasets.items():
            told += [f"Left out, {model} on {dataset}: {e['episode']}: {e['reason']}" for e in figures["left_out"]]
    return told


def to_markdown(results: Results) -> str:
    """All tables and notes in Markdown."""
    parts = [f"## {table.title}\n\n{markdown(table)}" for table in tables(results)]
    return "\n\n".join(parts) + "\n\n" + "\n".join(f"- {note}" for note in notes(results)) + "\n"


def to_html(title: str, results: Results, pictures: Mapping[str, Path]) -> str:
    """All tables, notes and pictures as a page that needs nothing else; ``pictures`` are PNG files by caption."""
    contents = {
        "title": escape(title),
        "tables": "".join(map(_html, tables(results))),
        "notes": "".join(f"<li>{escape(note)}</li>" for note in notes(results)),
        "pictures": "".join(_figure(caption, path) for caption, path in pictures.items()),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: contents[match[1]], _TEMPLATE.read_text(encoding="utf-8"))


def _headline(results: Results) -> Table:
    rows = [
        [f"{peer} *", *("ill-defined" if peers[m.name] is None else f"{peers[m.name]:.2f}" for m in _HEADLINES)]
        for peer, peers in PUBLISHED.items()
    ]
    for model, datasets in results.items():
        if len(datasets) > 1:
            rows += [[f"{model}, {name}", *map(_cell, _headlines(figures))] for name, figures in datasets.items()]
        # Counterfactual scenes are there for grounding: a model's mean is not theirs.
        plain = [figures for figures in datasets.values() if not figures["controls"]["counterfactual"]["videos"]]
        rows.append([f"**{model}**", *(_mean_over(plain or datasets.values(), metric) for metric in _HEADLINES)])
    return Table("Suboptimal-Value-Bench", ["model", *(metric.title for metric in _HEADLINES)], rows)


def _headlines(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [result["metrics"][metric.name] for metric in _HEADLINES]


def _mean_over(datasets: Iterable[Mapping[str, Any]], metric: Metric) -> str:
    figures = [figures["metrics"][metric.name] for figures in datasets]
    known = [figure for figure in figures if figure["mean"] is not None]
    if not known:
        return "-"
    return f"**{np.mean([f['mean'] for f in known]):.2f}** ({sum(f['trajectories'] for f in known)})"


def _by_task(dataset: str, model: str, result: Mapping[str, Any]) -> Table:
    figures = _headlines(result)
    names = sorted({task for figure in figures for task in figure["tasks"]})
    rows = [[task, *(_cell(figure["tasks"].get(task)) for figure in figures)] for task in names]
    rows.append(["mean over tasks", *map(_cell, figures)])
    rows.append(["ill-defined", *map(_ill_defined, figures)])
    return Table(f"By task: {model} on {dataset}", ["task", *(metric.title for metric in _HEADLINES)], rows)


def _other_rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for metric in _OTHERS:
        figures = [result["metrics"][metric.name] for result in results]
        bad = any(figure["ill_defined"] for figure in figures)
        told = [f"{_cell(f)}, {f['ill_defined']} ill-defined" if bad else _cell(f) for f in figures]
        rows.append([metric.title, *told])
    aurocs = [result["success_auroc"] for result in results]
    rows.append(["AUROC of the final value, success against failure ↑", *map(_plain, aurocs)])
    for title, (kind, figure) in _EVENTS.items():
        rows.append([title, *(_of_events(result["events"][kind], figure) for result in results)])
    return rows


def _control_rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    lines = {
        "VOC of videos of one repeated picture, 0 is best": ("still", "voc"),
        "the same, mean of the absolute values": ("still", "absolute_voc"),
        "gain in value of these from first to last frame, 0 is best": ("still", "rise"),
        "VOC of experts' videos played backwards, -1 is best": ("reversed", "voc"),
        "grounding: the right instruction gains more than another task's ↑": ("misinstructed", "grounding"),
        "counterfactual grounding: more than with another object of the scene ↑": ("counterfactual", "grounding"),
    }
    return [
        [title, *(_of_videos(result["controls"][part], figure) for result in results)]
        for title, (part, figure) in lines.items()
    ]


def _of_events(events: Mapping[str, Any], figure: str) -> str:
    return f"{events[figure]:.2f} ({events['events']})" if events["events"] else "-"


def _of_videos(control: Mapping[str, Any], figure: str) -> str:
    return f"{control[figure]:.2f} ({control['videos']})" if control["videos"] else "-"


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["mean"] is None:
        return "-"
    return f"{figure['mean']:.2f} ({figure['trajectories']})"


def _plain(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.2f}"


def _ill_defined(figure: Mapping[str, Any]) -> str:
    return f"{figure['ill_defined']} of {figure['trajectories']}"


def markdown(table: Table) -> str:
    """The table in Markdown, without its title."""
    rows = [table.head, ["---", *("---:" for _ in table.head[1:])], *table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _html(table: Table) -> str:
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in table.head)
    rows = "".join("<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<section><h2>{escape(table.title)}</h2><table><tr>{head}</tr>{rows}</table></section>\n"


def _inline(cell: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(cell))


def _figure(caption: str, path: Path) -> str:
    source = base64.b64encode(path.read_bytes()).decode("ascii")
    image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{source}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>\n"
