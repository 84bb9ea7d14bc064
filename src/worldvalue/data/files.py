"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worldvalue.types import DataError

_SHARED = "shared-"


@contextmanager
def replacing(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside ``path``: renamed to ``path`` when the block ends well, else removed.

    The caller creates a file or a folder under the temporary name; it keeps the suffix, by which writers of
    video choose the container. Leftovers of a killed run are removed first.

    Args:
        path: what is to be written.
        shared: other processes, on other machines too, may be writing the same file. Each has a temporary name of its
            own then, the last one's file stays, and leftovers lie there until ``remove_leftovers``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = f"{_SHARED}{uuid.uuid4().hex}-" if shared else ""
    partial = path.with_name(f".partial-{unique}{path.name}")
    _remove(partial)
    try:
        yield partial
        os.replace(partial, path)
    except FileNotFoundError:
        if not (shared and path.exists()):  # else another has written it, and removed what it took for a leftover
            raise
    finally:
        _remove(partial)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers of a folder's shared files left there, once all of them are written."""
    for partial in folder.glob(f".partial-{_SHARED}*"):
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def user_cache() -> Path:
    """Where what can be computed again is kept between runs: ``worldvalue/`` in ``XDG_CACHE_HOME``, or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "worldvalue"


def claim_folder(folder: Path, settings: str, holds: str) -> None:
    """Make a folder that of work with these settings, which it keeps as ``settings.json``.

    Args:
        folder: made if it is not there.
        settings: everything that the work depends on, as JSON.
        holds: what is in a folder with other settings.

    Raises:
        DataError: the folder is that of other work.
    """
    path = folder / "settings.json"
    if path.is_file() and path.read_text(encoding="utf-8") != settings:
        raise DataError(f"{folder} holds {holds}; choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(settings, encoding="utf-8")
