"""Score a whole dataset: group by group, resumable, in flat memory; then put the results together.

Episodes are scored in fixed groups of consecutive indices, and a group's results are kept as one file as
soon as it is done (``shards.py``). What is scored together never depends on when the job was stopped, so a
job that was killed and started again gives the same bytes. Two groups of episodes are in memory at a time: the one
that is scored, and the next one, which is decoded meanwhile (``ahead.py``).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from worldvalue.data.files import replacing
from worldvalue.scoring.ahead import Opened, opened_ahead
from worldvalue.scoring.segments import Summary, summarize
from worldvalue.scoring.shards import Scored, Shards
from worldvalue.types import DataError, Episode, EpisodeSource, ValueCurve


class ScoreGroup(Protocol):
    """A model at work on groups of episodes."""

    def decoded(self, episode: Episode) -> Episode:
        """The same episode with all that scoring it decodes in memory; called in other threads.

        Raises:
            DataError: it cannot be decoded.
        """
        ...

    def __call__(self, episodes: Sequence[Episode]) -> Sequence[ValueCurve | DataError]:
        """Score a group of episodes together; one that cannot be decoded comes back as its error."""
        ...


_SKETCH_POINTS = 32
_HEADER = (
    "episode_index",
    "name",
    "instruction",
    "frames",
    "seconds",
    "final_value",
    "worst_drop",
    "stalled_seconds",
    "mean_std",
    "flagged",
    "error",
)


class Done(NamedTuple):
    """How much a finished group holds.

    Attributes:
        episodes: in the group.
        frames: of those episodes that have values.
    """

    episodes: int
    frames: int

    @classmethod
    def of(cls, group: Sequence[Scored]) -> Done:
        """Count a group."""
        return cls(len(group), sum(len(scored.curve.timestamps) for scored in group if scored.curve))


@dataclass(frozen=True)
class Row:
    """One episode in the table of results: ``summary`` and ``sketch`` where it was scored, else ``error``.

    Attributes:
        index, name, instruction, error: as in Scored.
        summary: its numbers and flagged segments.
        sketch: ``(32,)`` float32 values at even times, for a thumbnail of the curve.
    """

    index: int
    name: str
    instruction: str
    error: str | None = None
    summary: Summary | None = None
    sketch: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Job:
    """A dataset to be scored, and where its finished groups are kept.

    Attributes:
        source: the dataset.
        score_group: the model at work; called with the episodes of one group that could be opened.
        shards: the finished groups.
        group: episodes in a group.
    """

    source: EpisodeSource
    score_group: ScoreGroup
    shards: Shards
    group: int

    @property
    def groups(self) -> list[range]:
        """Positions in the dataset of each group's episodes."""
        return [self._positions(number) for number in range(self._count)]

    def missing(self) -> list[int]:
        """Numbers of the groups that are not done yet."""
        finished = self.shards.finished()
        return [number for number in range(self._count) if number not in finished]

    def run(self) -> Iterator[list[Scored]]:
        """Score the missing groups one after the other; each is on disk before it is yielded."""
        yield from self._finish(self.missing())
        self.shards.tidy()

    def finish(self, number: int) -> list[Scored]:
        """Score a group and keep it on disk; one that is there already is read back."""
        if number in self.shards:
            return list(self.shards.read(number))
        (scored,) = self._finish([number])
        return scored

    def _finish(self, numbers: Sequence[int]) -> Iterator[list[Scored]]:
        groups = map(self._positions, numbers)
        for number, opened in zip(numbers, opened_ahead(self.source, groups, self.score_group.decoded), strict=True):
            scored = self._score(self._positions(number), opened)
            self.shards.write(number, scored)
            yield scored

    def results(self) -> Iterator[Scored]:
        """All episodes in order, read back from the finished groups one at a time."""
        for number in range(self._count):
            yield from self.shards.read(number)

    def rows(self) -> list[Row]:
        """The table of results."""
        return [_row(scored) for scored in self.results()]

    def curves(self, indices: Collection[int] | None = None) -> Iterator[tuple[Episode, ValueCurve]]:
        """Scored episodes with their curves, in order; only those of ``indices`` when given."""
        for position, scored in enumerate(self.results()):
            if scored.curve is not None and (indices is None or scored.index in indices):
                yield self.source[position], scored.curve

    @property
    def _count(self) -> int:
        return math.ceil(len(self.source) / self.group)

    def _positions(self, number: int) -> range:
        return range(number * self.group, min((number + 1) * self.group, len(self.source)))

    def _score(self, positions: range, opened: Sequence[Opened]) -> list[Scored]:
        episodes = {
            place: episode for place, episode in zip(positions, opened, strict=True) if isinstance(episode, Episode)
        }
        outcomes = self.score_group(list(episodes.values())) if episodes else []
        scored_now = dict(zip(episodes, outcomes, strict=True))
        return [_scored(place, one, scored_now.get(place)) for place, one in zip(positions, opened, strict=True)]


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write ``episodes.csv``: one line an episode; the numbers of an episode that failed are empty.

    ``flagged`` lists the segments as ``kind:first_frame-last_frame``, separated by blanks.
    """
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER)
        for row in rows:
            writer.writerow((row.index, row.name, row.instruction, *_numbers(row.summary), row.error or ""))


def _numbers(summary: Summary | None) -> list[str]:
    if summary is None:
        return [""] * 7
    numbers = [
        summary.seconds,
        summary.final_value,
        summary.worst_drop,
        summary.stalled_seconds,
        summary.mean_std,
    ]
    flagged = " ".join(f"{segment.kind}:{segment.start}-{segment.end}" for segment in summary.segments)
    return [str(summary.frames), *(f"{number:.4f}" for number in numbers), flagged]


def _scored(position: int, episode: Opened, outcome: ValueCurve | DataError | None) -> Scored:
    if isinstance(episode, DataError):
        return Scored(position, f"episode {position}", "", error=str(episode))
    told = (episode.index, episode.name, episode.instruction)
    if isinstance(outcome, DataError):
        return Scored(*told, error=str(outcome))
    return Scored(*told, curve=outcome)


def _row(scored: Scored) -> Row:
    told = (scored.index, scored.name, scored.instruction, scored.error)
    if scored.curve is None:
        return Row(*told)
    times = scored.curve.timestamps
    even = np.linspace(times[0], times[-1], _SKETCH_POINTS)
    sketch = np.interp(even, times, scored.curve.mean).astype(np.float32)
    return Row(*told, summary=summarize(scored.curve), sketch=sketch)
