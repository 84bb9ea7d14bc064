from __future__ import annotations

import json

import pytest

from worldvalue.data import ManifestRow, read_manifest, write_manifest
from worldvalue.data.manifest import labels_for
from worldvalue.types import DataError, Event, Labels

LINE = {
    "video": "a.mp4",
    "instruction": "lift the cube",
    "fps": 10,
    "T": 50,
    "mode": "retry",
    "m": 10,
    "n": 20,
}
ROWS = [
    ManifestRow("lift the cube", 10.0, Labels(50, "retry", 10, 20, True, "lift", ("miss_beside",)), "a.mp4", None, 7),
    ManifestRow("öffne die Tür", 29.97, Labels(30, success=False), episode_index=0),
    ManifestRow("stack", 2.0, Labels(0), video="b/c.mp4"),
    ManifestRow(
        "take the can",
        10.0,
        Labels(50, counterfactual="take the milk", events=(Event(3, "error"), Event(9, "milestone"))),
        "d.mp4",
    ),
]


def test_what_is_written_is_read_back(tmp_path):
    write_manifest(tmp_path / "labels.jsonl", ROWS)
    assert read_manifest(tmp_path / "labels.jsonl") == ROWS


def test_the_keys_are_those_of_the_contract_and_unknown_things_are_left_out(tmp_path):
    write_manifest(tmp_path / "labels.jsonl", ROWS)
    lines = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text("utf-8").splitlines()]
    full = dict(LINE, fps=10.0, task="lift", success=True, kinds=["miss_beside"], seed=7)
    assert lines[0] == full
    assert lines[1] == {
        "episode_index": 0,
        "instruction": "öffne die Tür",
        "fps": 29.97,
        "T": 30,
        "success": False,
    }
    assert lines[2] == {"video": "b/c.mp4", "instruction": "stack", "fps": 2.0}
    assert lines[3]["counterfactual"] == "take the milk"
    assert lines[3]["events"] == [[3, "error"], [9, "milestone"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "lucky"}, "'lucky' is not one of: expert, hesitation, retry, failure"),
        ({"fps": 0}, "fps is missing or not above 0"),
        ({"fps": None}, "fps is missing or not above 0"),
        ({"fps": float("nan")}, "fps is missing or not above 0"),
        ({"instruction": ""}, "no instruction"),
        ({"T": -4}, "no number of frames"),
        ({"T": 50.5}, "T = 50.5 has the wrong type"),
        ({"m": True}, "m = true has the wrong type"),
        ({"events": [[3, "joy"]]}, r'\[3, "joy"\] is no event; write \[frame, kind\]'),
        ({"events": [["3", "error"]]}, "is no event"),
        ({"counterfactual": 3}, "counterfactual = 3 has the wrong type"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, change, message):
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps(LINE) + "\n\n" + json.dumps(LINE | change) + "\n", "utf-8")
    with pytest.raises(DataError, match=f"labels.jsonl line 3: .*{message}"):
        read_manifest(path)


@pytest.mark.parametrize(("line", "message"), [("{", "line 1 is not JSON"), ("[1]", "one JSON object")])
def test_a_line_that_is_no_object_is_refused(tmp_path, line, message):
    path = tmp_path / "labels.jsonl"
    path.write_text(line, "utf-8")
    with pytest.raises(DataError, match=message):
        read_manifest(path)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path):
    path = tmp_path / "labels.jsonl"
    with pytest.raises(DataError, match="does not exist"):
        read_manifest(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m": 30}, "m = 30, after its end n = 20"),
        ({"n": 50}, "outside the episode's frames 0 to 49"),
        ({"m": -1}, "outside"),
        ({"n": None}, "belong together"),
    ],
)
def test_a_wrong_segment_is_told_when_its_episode_is_opened_and_spoils_no_other(tmp_path, change, message):
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps(LINE | change) + "\n" + json.dumps(LINE) + "\n", "utf-8")
    wrong, right = read_manifest(path)
    with pytest.raises(DataError, match=rf"labels\.jsonl: the labels of a\.mp4 are wrong: .*{message}"):
        labels_for(wrong, 50, path)
    assert labels_for(right, 50, path) == Labels(50, "retry", 10, 20)


def test_an_event_outside_the_recording_is_told(tmp_path):
    row = ManifestRow("lift", 10.0, Labels(0, events=(Event(30, "error"),)), "a.mp4")
    with pytest.raises(DataError, match=r"a\.mp4 are wrong: the error at frame 30 lies outside the frames 0 to 29"):
        labels_for(row, 30, tmp_path / "labels.jsonl")


def test_labels_take_the_length_of_the_recording_and_must_fit_it(tmp_path):
    manifest = tmp_path / "labels.jsonl"
    open_ended = ManifestRow("lift", 10, Labels(0, "retry", 3, 8), "a.mp4")
    assert labels_for(open_ended, 20, manifest) == Labels(20, "retry", 3, 8)
    with pytest.raises(DataError, match=r"a\.mp4 are wrong: .*outside the episode's frames 0 to 7"):
        labels_for(open_ended, 8, manifest)
    with pytest.raises(DataError, match="T = 50 frames but it has 49"):
        labels_for(ROWS[0], 49, manifest)
