"""Digests by which finished work is found again: has this been computed with the same weights on the same files?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldvalue.types import EpisodeSource

if TYPE_CHECKING:
    import torch


def dataset_identity(source: EpisodeSource, ignore: Sequence[Path] = ()) -> dict[str, Any]:
    """Number of episodes and a digest of the names, sizes and times of change of the dataset's files.

    Args:
        source: the dataset; nothing of it is decoded.
        ignore: files and folders that are not part of the data, such as the outputs of this very job.
    """
    ignored = {path.resolve() for path in ignore}
    digest = hashlib.sha256()
    for path in _files(source.path.resolve(), ignored):
        status = path.stat() if path.exists() else path.lstat()  # a link that leads nowhere spoils its episode only
        digest.update(f"{path.relative_to(source.path.resolve())}:{status.st_size}:{status.st_mtime_ns}\n".encode())
    return {"episodes": len(source), "files": digest.hexdigest()}


def weights_identity(model: torch.nn.Module) -> str:
    """Digest of the names, types, shapes and contents of all parameters and buffers."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _files(root: Path, ignored: set[Path]) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if Path(folder, name) not in ignored)
        yield from (Path(folder, name) for name in sorted(names) if Path(folder, name) not in ignored)
