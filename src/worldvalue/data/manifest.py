"""``labels.jsonl``: one JSON object a line says what is known about each episode of a folder or dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worldvalue.data.files import replacing
from worldvalue.types import EVENT_KINDS, MODES, DataError, Event, Labels

MANIFEST_NAME = "labels.jsonl"


@dataclass(frozen=True)
class ManifestRow:
    """One line of a manifest.

    Attributes:
        instruction: the task in words.
        fps: nominal frame rate.
        labels: what is known; ``labels.length`` is 0 when the line gives no ``T`` (the video then decides).
        video: the episode's video, relative to the manifest's folder; None in a LeRobot dataset.
        episode_index: the episode's number in a LeRobot dataset; None in a folder of videos.
        seed: what the simulation of the episode started from.
    """

    instruction: str
    fps: float
    labels: Labels
    video: str | None = None
    episode_index: int | None = None
    seed: int | None = None


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write a manifest, replacing an older one; unknown things are left out of a line."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(_to_json(row), ensure_ascii=False) + "\n")


def read_manifest(path: Path) -> list[ManifestRow]:
    """Read a manifest; blank lines are skipped.

    Whether a segment fits its episode is seen when that one is opened (``labels_for``): a wrong one spoils no other.

    Raises:
        DataError: the file is missing, or a line cannot be understood (the message gives its number).
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give a manifest.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; write one JSON object a line.") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(_from_json(json.loads(line)))
        except json.JSONDecodeError as error:
            raise DataError(f"{path} line {number} is not JSON ({error.msg}).") from error
        except ValueError as error:
            raise DataError(f"{path} line {number}: {error}") from error
    return rows


def labels_for(row: ManifestRow, length: int, manifest: Path) -> Labels:
    """The row's labels for an episode that has ``length`` frames.

    Raises:
        DataError: the labels were made for another length, or the segment lies outside the episode.
    """
    labels = row.labels
    what = f"{manifest}: the labels of {row.video or f'episode {row.episode_index}'}"
    if labels.length and labels.length != length:
        raise DataError(f"{what} are for T = {labels.length} frames but it has {length}; label this recording afresh.")
    try:
        check_segment(labels, length)
        check_events(labels, length)
    except ValueError as error:
        raise DataError(f"{what} are wrong: {error}") from error
    return replace(labels, length=length)


def check_segment(labels: Labels, length: int) -> None:
    """Raise ValueError unless ``m..n`` lies in an episode of ``length`` frames."""
    m, n = labels.m, labels.n
    if (m is None) != (n is None):
        raise ValueError("m and n belong together; give both or neither.")
    if m is None or n is None:
        return
    if m > n:
        raise ValueError(f"the segment starts at m = {m}, after its end n = {n}; correct the labels.")
    if m < 0 or n >= length:
        raise ValueError(f"the segment m = {m}, n = {n} lies outside the episode's frames 0 to {length - 1}.")


def check_events(labels: Labels, length: int) -> None:
    """Raise ValueError unless every event lies in an episode of ``length`` frames."""
    for event in labels.events:
        if not 0 <= event.frame < length:
            raise ValueError(f"the {event.kind} at frame {event.frame} lies outside the frames 0 to {length - 1}.")


def _to_json(row: ManifestRow) -> dict[str, Any]:
    labels = row.labels
    line = {
        "video": row.video,
        "episode_index": row.episode_index,
        "instruction": row.instruction,
        "fps": row.fps,
        "task": labels.task,
        "mode": labels.mode,
        "m": labels.m,
        "n": labels.n,
        "T": labels.length or None,
        "success": labels.success,
        "kinds": list(labels.kinds) or None,
        "counterfactual": labels.counterfactual,
        "events": [[event.frame, event.kind] for event in labels.events] or None,
        "seed": row.seed,
    }
    return {key: value for key, value in line.items() if value is not None}


def _from_json(line: Any) -> ManifestRow:
    if not isinstance(line, dict):
        raise ValueError("a line must be one JSON object.")
    instruction = _get(line, "instruction", str)
    if not instruction:
        raise ValueError("there is no instruction; say in words what the robot was to do.")
    fps = _get(line, "fps", (int, float))
    if not fps or not 0 < fps < float("inf"):
        raise ValueError("fps is missing or not above 0; give the frame rate.")
    kinds = _get(line, "kinds", list) or []
    labels = Labels(
        length=_get(line, "T", int) or 0,
        mode=_get(line, "mode", str),
        m=_get(line, "m", int),
        n=_get(line, "n", int),
        success=_get(line, "success", bool),
        task=_get(line, "task", str),
        kinds=tuple(str(kind) for kind in kinds),
        counterfactual=_get(line, "counterfactual", str),
        events=tuple(_event(entry) for entry in _get(line, "events", list) or []),
    )
    if labels.mode is not None and labels.mode not in MODES:
        raise ValueError(f"the mode '{labels.mode}' is not one of: {', '.join(MODES)}.")
    if labels.length < 0:
        raise ValueError(f"T = {labels.length} is no number of frames.")
    return ManifestRow(
        instruction=instruction,
        fps=float(fps),
        labels=labels,
        video=_get(line, "video", str),
        episode_index=_get(line, "episode_index", int),
        seed=_get(line, "seed", int),
    )


def _event(entry: Any) -> Event:
    match entry:
        case [int(frame), str(kind)] if kind in EVENT_KINDS:
            return Event(frame, kind)
    raise ValueError(f"{json.dumps(entry)} is no event; write [frame, kind] with a kind of: {', '.join(EVENT_KINDS)}.")


def _get(line: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    """The value under ``key``, None when absent or null."""
    value = line.get(key)
    is_bool = isinstance(value, bool)
    if value is None or (isinstance(value, kind) and (not is_bool or kind is bool)):
        return value
    raise ValueError(f"{key} = {json.dumps(value)} has the wrong type.")
