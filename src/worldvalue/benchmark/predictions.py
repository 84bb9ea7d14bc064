"""A model's value curves of a dataset and of its controls, kept on disk.

They are found again by everything that they depend on: the model's weights, the settings, the dataset's files. A run
that was stopped goes on where it was, and a new metric needs no new inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldvalue.data.identity import dataset_identity
from worldvalue.scoring.job import Job, ScoreGroup
from worldvalue.scoring.shards import Shards
from worldvalue.types import DataError, EpisodeSource, ValueCurve


@dataclass(frozen=True)
class Contender:
    """A model that is measured.

    Attributes:
        name: what the tables call it.
        score_group: the model at work.
        group: episodes that it scores together.
        identity: everything about model and settings that the values depend on.
        value_range: its least and greatest value.
    """

    name: str
    score_group: ScoreGroup
    group: int
    identity: Mapping[str, Any]
    value_range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Predictions:
    """The curves of one contender for one dataset or control.

    Attributes:
        job: what is to be scored, and where its finished groups are.
    """

    job: Job

    @classmethod
    def of(cls, contender: Contender, part: str, source: EpisodeSource, folder: Path) -> Predictions:
        """Those of ``part``, the dataset itself or a control of it, below ``folder``."""
        identity = {**contender.identity, "dataset": dataset_identity(source, ignore=[folder]), "part": part}
        return cls(Job(source, contender.score_group, Shards(folder, identity), contender.group))

    def make(self, done: Callable[[int], None]) -> None:
        """Score what is missing; ``done`` is told how many episodes each group held, finished ones first."""
        job, missing = self.job, set(self.job.missing())
        done(sum(len(group) for number, group in enumerate(job.groups) if number not in missing))
        for scored in job.run():
            done(len(scored))

    def __iter__(self) -> Iterator[ValueCurve | DataError]:
        """A curve or an error for each episode, in order."""
        for scored in self.job.results():
            yield scored.curve if scored.curve is not None else DataError(str(scored.error))
