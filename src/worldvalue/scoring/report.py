"""The report: one HTML file that needs nothing else, with a table of all episodes and a drawing of each.

Written as a stream, one episode in memory at a time. Its size is bounded: the table, the drawings and the
filmstrips each stop at a number of episodes, the ones with the deepest drops first, and the page says so.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldvalue.data.files import replacing
from worldvalue.scoring.job import Row
from worldvalue.scoring.segments import Summary, summarize
from worldvalue.scoring.svg import Strip, draw_curve, draw_sketch
from worldvalue.scoring.views import filmstrip, noting_damage, true_values
from worldvalue.types import Episode, ValueCurve

MAX_LISTED = 5000
MAX_DRAWN = 1000
MAX_PICTURED = 200
_STRIP_HEIGHT = 112
_TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True)
class About:
    """What the head and foot of the page say.

    Attributes:
        title: name of the dataset.
        model: name of the model.
        settings: how it scored, in a few words.
        sidecar: name of the file that holds the values.
        camera: the view to show; None for each episode's default.
    """

    title: str
    model: str
    settings: str
    sidecar: str
    camera: str | None = None


def write_report(
    path: Path,
    rows: Sequence[Row],
    curves: Callable[[Collection[int]], Iterable[tuple[Episode, ValueCurve]]],
    about: About,
    undrawn: dict[str, str],
) -> None:
    """Write the page. Where an episode's frames cannot be had, the reason stands in their place.

    Args:
        path: the HTML file.
        rows: the table of results, all episodes; at least one was scored.
        curves: given episode indices, yields those episodes with their curves, one at a time.
        about: what the page says about itself.
        undrawn: takes in the names of episodes whose frames could not be had, and why.
    """
    listed, drawn, pictured = (_worst(rows, limit) for limit in (MAX_LISTED, MAX_DRAWN, MAX_PICTURED))
    contents: dict[str, Iterable[str]] = {
        "title": [escape(about.title)],
        "about": [escape(f"Scored by the model {about.model}, {about.settings}.")],
        "overview": [_overview(rows)],
        "table": (_table_row(row, row.index in drawn) for row in rows if row.index in listed),
        "limits": [_limits(rows)],
        "sections": (
            _section(episode, curve, about.camera, episode.index in pictured, undrawn)
            for episode, curve in curves(drawn)
        ),
        "sidecar": [escape(about.sidecar)],
    }
    pieces = re.split(r"\{\{(\w+)\}\}", _TEMPLATE.read_text(encoding="utf-8"))
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as page:
        for position, piece in enumerate(pieces):
            page.writelines(contents[piece] if position % 2 else [piece])


def _worst(rows: Sequence[Row], limit: int) -> set[int]:
    """Indices of the scored episodes, at most ``limit``: those with the deepest drops."""
    scored = [(row.summary.worst_drop, row.index) for row in rows if row.summary]
    return {index for _, index in sorted(scored, key=lambda entry: (-entry[0], entry[1]))[:limit]}


def _limits(rows: Sequence[Row]) -> str:
    scored = sum(row.summary is not None for row in rows)
    parts = {"rows of the table": MAX_LISTED, "curves": MAX_DRAWN, "frames": MAX_PICTURED}
    kept = ", ".join(f"{part} of {limit:,}" for part, limit in parts.items() if scored > limit)
    hint = "Click a column to sort, a row to see the episode."
    return hint if not kept else f"{hint} To stay light this page holds {kept} episodes, those with the deepest drops."


def _overview(rows: Sequence[Row]) -> str:
    summaries = [row.summary for row in rows if row.summary]
    flagged = [{segment.kind for segment in summary.segments} for summary in summaries]
    median = np.median([summary.final_value for summary in summaries])
    tiles = {
        "episodes scored": f"{len(summaries):,}",
        "of video": _clock(sum(summary.seconds for summary in summaries)),
        "median final value": f"{median:.2f}",
        "with a fall": f"{sum('fall' in kinds for kinds in flagged):,}",
        "with a stall": f"{sum('stall' in kinds for kinds in flagged):,}",
    }
    text = "".join(f"<li><b>{number}</b><span>{label}</span></li>" for label, number in tiles.items())
    failed = [row for row in rows if row.error is not None]
    return f'<ul class="tiles">{text}</ul>' + (_failures(failed) if failed else "")


def _failures(failed: Sequence[Row]) -> str:
    entries = "".join(f"<li>{escape(f'#{row.index} {row.error}')}</li>" for row in failed[:MAX_LISTED])
    count = "1 episode" if len(failed) == 1 else f"{len(failed):,} episodes"
    return f'<div class="failed"><b>{count} could not be scored</b><ul>{entries}</ul></div>'


def _table_row(row: Row, linked: bool) -> str:
    assert row.summary is not None
    assert row.sketch is not None
    summary, name, words = row.summary, escape(row.name), escape(row.instruction)
    name = f'<a href="#e{row.index}">{name}</a>' if linked else name
    flags = "".join(f'<span class="dot {s.kind}" title="{s.kind}"></span>' for s in summary.segments)
    numbers = (
        (summary.final_value, 2),
        (summary.worst_drop, 2),
        (summary.stalled_seconds, 1),
        (summary.mean_std, 3),
        (summary.seconds, 1),
    )
    cells = "".join(f'<td data-v="{number:.5f}">{number:.{digits}f}</td>' for number, digits in numbers)
    return (
        f'<tr><td class="text">{row.index}</td><td class="text words">{name}</td>'
        f'<td class="text words" title="{words}">{words}</td>'
        f'<td class="text" data-v="{len(summary.segments)}">{flags}</td>'
        f'<td class="text" data-v="{row.sketch.mean():.5f}">{draw_sketch(row.sketch)}</td>{cells}</tr>\n'
    )


def _section(
    episode: Episode, curve: ValueCurve, camera: str | None, with_frames: bool, undrawn: dict[str, str]
) -> str:
    summary, strip = summarize(curve), None
    if with_frames:
        with noting_damage(episode, undrawn):
            strip = _strip(filmstrip(episode, _STRIP_HEIGHT, camera))
    drawing = draw_curve(curve, summary.segments, true_values(episode), strip)
    if episode.name in undrawn:
        drawing += f'<p class="failed">{escape(undrawn[episode.name])}</p>'
    return (
        f'<section id="e{episode.index}"><h2><span class="soft">#{episode.index}</span> '
        f"{escape(episode.instruction)}</h2>{_facts(episode, summary)}{drawing}</section>\n"
    )


def _facts(episode: Episode, summary: Summary) -> str:
    facts = [
        ("final value", f"{summary.final_value:.2f}"),
        ("worst drop", f"{summary.worst_drop:.2f}"),
        ("stalled", f"{summary.stalled_seconds:.1f} s"),
        ("std", f"{summary.mean_std:.3f}"),
        ("length", f"{summary.seconds:.1f} s"),
    ]
    if episode.labels and episode.labels.mode:
        facts.append(("labelled", " ".join([episode.labels.mode, *episode.labels.kinds])))
    if episode.success is not None:
        facts.append(("success", "yes" if episode.success else "no"))
    text = "".join(f"<span>{label} <b>{escape(value)}</b></span>" for label, value in facts)
    return f'<div class="facts"><span>{escape(episode.name)}</span>{text}</div>'


def _strip(frames: NDArray[np.uint8]) -> Strip:
    """The frames side by side, with a thin white gap, as one JPEG."""
    from PIL import Image

    count, _, width, _ = frames.shape
    gap = max(1, width // 50)
    padded = np.pad(frames[:, :, : width - gap], ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    file = io.BytesIO()
    Image.fromarray(np.concatenate(list(padded), axis=1)).save(file, "JPEG", quality=78)
    source = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return Strip(source, count, aspect=width / frames.shape[1])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d} min"
