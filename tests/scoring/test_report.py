"""The report: whole without a network, bounded in size, and its drawings say what the curve says."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worldvalue.data import open_episodes
from worldvalue.scoring import report
from worldvalue.scoring.job import Job, ScoreGroup
from worldvalue.scoring.report import About, write_report
from worldvalue.scoring.segments import Segment
from worldvalue.scoring.shards import Shards
from worldvalue.scoring.svg import draw_curve
from worldvalue.types import ValueCurve

ABOUT = About("<my> {{table}} data", "tiny", "2 frames a second", "worldvalue_progress.parquet")


class Page(HTMLParser):
    """Counts tags, keeps attributes and text, and checks that what opens also closes."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(make_folder: Callable[..., Path], tmp_path: Path, score_group: ScoreGroup) -> Callable[[], Page]:
    job = Job(open_episodes(make_folder(5, bad=[3])), score_group, Shards(tmp_path / "out", {}), group=5)
    list(job.run())

    def write() -> Page:
        write_report(tmp_path / "report.html", job.rows(), job.curves, ABOUT, {})
        return Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return write


def test_the_page_needs_nothing_from_outside(page: Callable[[], Page]):
    links = [value for name, value in page().attributes if name in ("src", "href")]
    assert links
    assert all(link and link.startswith(("data:image/jpeg;base64,", "#")) for link in links)


def test_every_episode_has_its_row_and_its_drawing(page: Callable[[], Page]):
    written = page()
    assert written.tags.count("section") == 4
    assert written.tags.count("image") == 4
    anchors = {value for name, value in written.attributes if name == "id"}
    jumps = {value[1:] for name, value in written.attributes if name == "href" and value and value[0] == "#"}
    assert jumps <= anchors
    assert {"e0", "e1", "e2", "e4"} <= anchors
    assert "1 episode could not be scored" in written.text


def test_names_and_instructions_are_text_not_markup(page: Callable[[], Page]):
    text = page().text
    assert "<my> {{table}} data" in text
    assert "make it <red> & \u201c0\u201d" in text


def test_a_large_report_keeps_the_worst_and_says_so(page: Callable[[], Page], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report, "MAX_DRAWN", 2)
    monkeypatch.setattr(report, "MAX_PICTURED", 1)
    written = page()
    assert written.tags.count("section") == 2
    assert written.tags.count("image") == 1
    assert "curves of 2, frames of 1 episodes, those with the deepest drops" in written.text


def test_the_filmstrip_shows_the_frames_in_order(page: Callable[[], Page]):
    source = next(value for name, value in page().attributes if name == "href" and value and value[:5] == "data:")
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1]))))
    height, width, _ = strip.shape
    assert (height, width) == (32, 8 * 48)
    red = [strip[16, 48 * place + 20, 0] for place in range(8)]
    # Frame k of 8 is the one in the middle of its eighth of the episode, which reddens evenly.
    np.testing.assert_allclose(red, 250 * (np.arange(8) + 0.5) / 8, atol=250 / 12)


def straight_curve(values: np.ndarray) -> ValueCurve:
    mean = values.astype(np.float32)
    return ValueCurve(np.arange(len(mean)) / 10, mean, mean * 0, mean, mean, mean, np.arange(0, len(mean), 5))


def points(drawing: str, name: str) -> np.ndarray:
    found = re.search(rf'class="{name}" points="([^"]*)"', drawing)
    assert found
    return np.array([pair.split(",") for pair in found[1].split()], dtype=float)


def test_the_drawing_has_the_curve_on_its_axes():
    drawing = draw_curve(straight_curve(np.linspace(0, 1, 101)), [], truth=np.linspace(0, 0.5, 101))
    mean, truth = points(drawing, "mean"), points(drawing, "truth")
    start, end, low, high, left, right, top, bottom = map(float, re.findall(r'data-span="([^"]*)"', drawing)[0].split())
    assert (start, end) == (0, 10)
    np.testing.assert_allclose(mean[[0, -1], 0], [left, right])
    # The data's zero and one in the drawing's own units, by its axes.
    zero, one = (top + (high - value) / (high - low) * (bottom - top) for value in (0, 1))
    np.testing.assert_allclose(mean[[0, -1], 1], [zero, one], atol=0.06)
    np.testing.assert_allclose(truth[-1, 1], (zero + one) / 2, atol=0.06)


def test_a_segment_is_shaded_from_its_first_to_its_last_frame():
    segment = Segment("fall", 25, 50, 2.5, -0.25)
    drawing = draw_curve(straight_curve(np.linspace(0, 1, 101)), [segment])
    x, width = map(float, re.findall(r'<g class="fall">.*?<rect x="([\d.]+)".*?width="([\d.]+)"', drawing)[0])
    left, right = points(drawing, "mean")[[0, -1], 0]
    assert x == pytest.approx(left + 0.25 * (right - left), abs=0.1)
    assert width == pytest.approx(0.25 * (right - left), abs=0.1)
    assert "fall \N{MINUS SIGN}0.25" in drawing


def test_a_long_curve_is_thinned_and_a_short_one_is_drawn():
    assert len(points(draw_curve(straight_curve(np.zeros(20_000)), []), "mean")) <= 402
    assert len(points(draw_curve(straight_curve(np.zeros(1)), []), "mean")) == 1


def test_values_below_zero_stay_on_the_drawing():
    drawing = draw_curve(straight_curve(np.linspace(0, -1, 101)), [])
    *_, top, bottom = map(float, re.findall(r'data-span="([^"]*)"', drawing)[0].split())
    y = points(drawing, "mean")[:, 1]
    assert top <= y.min() < y.max() <= bottom
