"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worldvalue.types import DataError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``: renamed to ``path`` when the block ends well, else removed.

    The caller creates a file or a folder under the temporary name; it keeps the suffix, by which writers of
    video choose the container. Leftovers of a killed run are removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    _remove(partial)
    try:
        yield partial
        os.replace(partial, path)
    finally:
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
