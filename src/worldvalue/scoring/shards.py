"""What a scoring job has already done: one small parquet file for each group of episodes.

The files lie in ``OUT/.shards/KEY/``, where the key is a digest of everything that the values depend on
(the model's weights, the settings, the dataset's files). A job that is started again finds its own files by
that key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from worldvalue.data.files import remove_leftovers, replacing
from worldvalue.types import ValueCurve

Identity = Mapping[str, Any]
"""Everything the values depend on, as JSON-able entries: model, settings, dataset."""

_CURVE_TYPES = {
    "timestamps": pa.float64(),
    "mean": pa.float32(),
    "std": pa.float32(),
    "q10": pa.float32(),
    "q50": pa.float32(),
    "q90": pa.float32(),
    "scored": pa.int64(),
}
assert list(_CURVE_TYPES) == [field.name for field in fields(ValueCurve)]
_TOLD = {"index": pa.int64(), "name": pa.string(), "instruction": pa.string(), "error": pa.string()}
_SCHEMA = pa.schema(list(_TOLD.items()) + [(name, pa.list_(kind)) for name, kind in _CURVE_TYPES.items()])


@dataclass(frozen=True)
class Scored:
    """What became of one episode: either a curve or the sentence that says why there is none.

    Attributes:
        index, name, instruction: as in Episode; an episode that could not even be opened has its place in the
            dataset as its index, and no instruction.
        curve: its values, None when it failed.
        error: one sentence, None when it did not fail.
    """

    index: int
    name: str
    instruction: str
    curve: ValueCurve | None = None
    error: str | None = None


class Shards:
    """The finished groups of one job, on disk."""

    def __init__(self, out: Path, identity: Identity) -> None:
        """Find this job's groups under ``out``; nothing is written before there is a first one."""
        text = json.dumps(identity, sort_keys=True, indent=1)
        self.root = out.absolute() / ".shards"
        self.key = hashlib.sha256(text.encode()).hexdigest()[:12]
        self.identity = json.loads(text)
        self._folder = self.root / self.key

    def __contains__(self, group: int) -> bool:
        return self._path(group).exists()

    def finished(self) -> set[int]:
        """Numbers of all finished groups, by one look at the folder: over a network each question takes its time."""
        return {int(path.stem.removeprefix("group_")) for path in self._folder.glob("group_*.parquet")}

    def write(self, group: int, episodes: Sequence[Scored]) -> None:
        """Keep one finished group; it appears whole or not at all, also where several processes write it at once."""
        told = self._folder / "identity.json"
        if not told.exists():
            with replacing(told, shared=True) as partial:
                partial.write_text(json.dumps(self.identity, indent=1) + "\n", encoding="utf-8")
        rows = [_to_row(scored) for scored in episodes]
        with replacing(self._path(group), shared=True) as partial:
            pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial)

    def read(self, group: int) -> Iterator[Scored]:
        """The episodes of a finished group, in order."""
        table = pq.read_table(self._path(group))
        for position in range(table.num_rows):
            yield _from_row(table.slice(position, 1))

    def tidy(self) -> None:
        """Remove what killed writers left, once all groups are finished."""
        remove_leftovers(self._folder)

    def strangers(self) -> list[str]:
        """One sentence for each other job whose groups lie in the same folder; they are never reused."""
        return [
            f"{folder} holds {len(list(folder.glob('group_*.parquet')))} groups of an earlier run that differs in "
            f"{_difference(self.identity, folder)}; they were not used and can be deleted."
            for folder in sorted(self.root.glob("*"))
            if folder.is_dir() and folder != self._folder
        ]

    def _path(self, group: int) -> Path:
        return self._folder / f"group_{group:06d}.parquet"


def _difference(identity: Identity, folder: Path) -> str:
    try:
        other = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "what it scored"
    changed = [name for name in {**identity, **other} if identity.get(name) != other.get(name)]
    return " and ".join(changed)


def _to_row(scored: Scored) -> dict[str, Any]:
    row = {
        "index": scored.index,
        "name": scored.name,
        "instruction": scored.instruction,
        "error": scored.error,
    }
    if scored.curve is not None:
        row |= {name: getattr(scored.curve, name) for name in _CURVE_TYPES}
    return row


def _from_row(row: pa.Table) -> Scored:
    told = {name: row[name][0].as_py() for name in _TOLD}
    if told["error"] is not None:
        return Scored(**told)
    columns = {name: row[name].combine_chunks().flatten().to_numpy() for name in _CURVE_TYPES}
    return Scored(**told, curve=ValueCurve(**columns))
