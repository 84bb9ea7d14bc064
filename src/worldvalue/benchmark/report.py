"""What a benchmark run leaves behind: the figures as JSON, the tables as Markdown and as a page with pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from worldvalue.benchmark.evaluate import HEADLINE
from worldvalue.benchmark.predictions import Predictions
from worldvalue.benchmark.tables import Results, to_html, to_markdown
from worldvalue.data.files import replacing
from worldvalue.types import DataError, EpisodeSource, ValueCurve

_LOWER_IS_BETTER = {"hesitation_rmse"}


def write_results(out: Path, settings: Mapping[str, Any], results: Results, pictures: Mapping[str, Path]) -> None:
    """Write ``bench.json``, ``bench.md`` and ``bench.html``.

    Args:
        out: the folder.
        settings: what else made the figures.
        results: by model, then by dataset.
        pictures: PNG files by caption.
    """
    told = json.dumps({"settings": settings, "models": results}, indent=2, ensure_ascii=False, allow_nan=False)
    texts = {
        "bench.json": told + "\n",
        "bench.md": to_markdown(results),
        "bench.html": to_html("Suboptimal-Value-Bench", results, pictures),
    }
    for name, text in texts.items():
        with replacing(out / name) as partial:
            partial.write_text(text, encoding="utf-8")


def draw_examples(
    source: EpisodeSource, result: Mapping[str, Any], predictions: Predictions, folder: Path, title: str
) -> dict[str, Path]:
    """Draw the best, the median and the worst episode of each mode; the PNG files by caption.

    An episode whose frames cannot be decoded once more is passed over.

    Args:
        source: the dataset.
        result: its figures, from ``run_suite``.
        predictions: the curves they were made from.
        folder: takes the pictures.
        title: begins the captions.
    """
    from worldvalue.scoring.pictures import save_picture

    wanted = {
        position: f"{title}, {words}"
        for mode, name in HEADLINE.items()
        for position, words in _examples(mode, name, result["episodes"])
    }
    drawn = {}
    for position, curve in enumerate(predictions):
        if position in wanted and isinstance(curve, ValueCurve):
            path = folder / f"{position:06d}.png"
            folder.mkdir(parents=True, exist_ok=True)
            try:
                save_picture(path, source[position], curve)
            except DataError:
                continue
            drawn[wanted[position]] = path
    return {caption: drawn[caption] for caption in wanted.values() if caption in drawn}


def _examples(mode: str, name: str, episodes: Sequence[Mapping[str, Any]]) -> Iterable[tuple[int, str]]:
    """Positions of the mode's best, median and worst episode by its figure, each with words for a caption."""
    sign = 1 if name in _LOWER_IS_BETTER else -1
    known = [one for one in episodes if one["mode"] == mode and one["figures"].get(name) is not None]
    ranked = sorted(known, key=lambda one: sign * one["figures"][name])
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    for place, rank in places.items() if ranked else ():
        one = ranked[rank]
        yield one["position"], f"{mode}, {place} of {len(ranked)}: {one['figures'][name]:.2f} ({one['task']})"
