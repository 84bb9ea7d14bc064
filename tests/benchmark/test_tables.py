"""From a result to tables, a page and pictures, and the command that makes them all."""

import json
from pathlib import Path

import pytest
from tests.small import small_estimator, write_painted_videos
from typer.testing import CliRunner

from worldvalue.benchmark.evaluate import HEADLINE, METRICS
from worldvalue.benchmark.published import PUBLISHED
from worldvalue.benchmark.tables import tables, to_html, to_markdown
from worldvalue.cli import app
from worldvalue.types import DataError, Labels


def _figures(mean: float | None, left_out: list[dict[str, str]]) -> dict:
    figure = {"mean": mean, "trajectories": 4, "ill_defined": 1}
    return {
        "metrics": {metric.name: {**figure, "tasks": {"lift": figure}} for metric in METRICS},
        "success_auroc": 0.75,
        "events": {
            "milestone": {"sensitivity": 0.5, "detection_rate": 0.9, "events": 12, "ill_defined": 0},
            "error": {"sensitivity": None, "detection_rate": None, "events": 0, "ill_defined": 0},
        },
        "controls": {
            "still": {"videos": 20, "ill_defined": 0, "voc": 0.01, "absolute_voc": 0.3, "rise": 0.02},
            "reversed": {"videos": 0},
            "misinstructed": {"videos": 7, "grounding": 0.6, "rise": 0.1, "rise_when_right": 0.8},
            "counterfactual": {"videos": 0},
        },
        "left_out": left_out,
    }


RESULTS = {
    "tiny": {"robots": _figures(0.9, []), "hands": _figures(0.5, [])},
    "<other>": {"robots": _figures(0.3, []), "hands": _figures(None, [{"episode": "a|b", "reason": "It is damaged."}])},
}


def test_every_embodiment_weighs_the_same_in_the_headline() -> None:
    headline = tables(RESULTS)[0]
    assert headline.rows[-6:-3] == [
        ["tiny, robots", *["0.90 (4)"] * 3],
        ["tiny, hands", *["0.50 (4)"] * 3],
        ["**tiny**", *["**0.70** (8)"] * 3],
    ]
    assert headline.rows[-1] == ["**<other>**", *["**0.30** (4)"] * 3]  # no figure is not a figure of 0


def test_counterfactual_scenes_are_not_in_a_models_mean() -> None:
    figures = _figures(0.2, [])
    figures["controls"]["counterfactual"] = {"videos": 4, "grounding": 0.5, "rise": 0.1, "rise_when_right": 0.1}
    assert tables({"tiny": {"robots": _figures(0.9, []), "of four": figures}})[0].rows[-1][1] == "**0.90** (4)"
    assert tables({"tiny": {"of four": figures}})[0].rows[-1][1] == "**0.20** (4)"


def test_published_figures_are_marked_and_complete() -> None:
    rows = {row[0]: row[1:] for row in tables(RESULTS)[0].rows}
    assert rows["WVM *"] == ["0.99", "0.04", "0.75"]
    assert rows["RoboReward *"] == ["0.84", "0.31", "ill-defined"]
    assert all(set(figures) == set(HEADLINE.values()) for figures in PUBLISHED.values())


def test_markdown_has_the_controls_and_says_what_was_left_out() -> None:
    text = to_markdown(RESULTS)
    assert "| VOC of videos of one repeated picture, 0 is best | 0.01 (20) | 0.01 (20) |" in text
    assert "| VOC of experts' videos played backwards, -1 is best | - | - |" in text
    assert "| milestone detection rate MDR ↑ | 0.90 (12) | 0.90 (12) |" in text
    assert "| error sensitivity ES ↑ | - | - |" in text
    assert "- Left out, <other> on hands: a|b: It is damaged." in text


def test_the_page_escapes_what_it_shows() -> None:
    page = to_html("a < b", RESULTS, {})
    assert "<title>a &lt; b</title>" in page
    assert "<b>&lt;other&gt;</b>" in page
    assert "<other>" not in page


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    labels = [Labels(40, "expert", success=True), Labels(40, "hesitation", 10, 25, True), Labels(40, "failure")]
    return write_painted_videos(tmp_path / "videos", labels)


def test_the_command_measures_two_models_and_leaves_figures_tables_and_pictures(videos: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        small_estimator(seed).save(tmp_path / f"model{seed}")
    models = [word for seed in (0, 1) for word in ("--model", str(tmp_path / f"model{seed}"))]
    out = tmp_path / "out"
    arguments = ["bench", "run", "--suite", str(videos), *models, "--out", str(out), "--steps", "1"]
    told = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert told.exit_code == 0
    written = json.loads((out / "bench.json").read_text())
    assert written["settings"]["steps"] == 1
    assert [list(figures) for figures in written["models"].values()] == [["videos"], ["videos"]]
    assert (out / "bench.md").read_text() in told.output
    assert (out / "bench.html").read_text().count("<img") == 2 * 2 == len(list((out / "pictures").rglob("*.png")))


def test_the_same_name_twice_is_refused(videos: Path, tmp_path: Path) -> None:
    arguments = ["bench", "run", "--suite", str(videos), "--model", "tiny", "--model", "tiny"]
    with pytest.raises(DataError, match="'tiny' is there more than once"):
        CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert not (tmp_path / "out").exists()
