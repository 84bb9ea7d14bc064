"""Where a pretrained model's files are: in a local folder, or on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from worldvalue.types import DataError, in_short

KINDS = ("*.json", "*.safetensors", "*.model", "*.txt")
"""Configurations, weights, vocabularies: no weights in other formats, no pictures."""


def pretrained_folder(name: str | Path, parts: Sequence[str] = ()) -> Path:
    """The folder that holds a pretrained model; one on the hub is fetched first, or found in the hub's cache.

    Args:
        name: a folder, or an id on the hub, such as ``Wan-AI/Wan2.2-TI2V-5B-Diffusers``.
        parts: the subfolders that are needed; nothing else is fetched. Without any, the files in the folder itself.

    Raises:
        DataError: there is no such folder, the hub does not give the model, or it lacks a part.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = _fetched(str(name), parts)
    for part in parts:
        if not (folder / part).is_dir():
            raise DataError(
                f"{name} has no folder '{part}'; give a model in diffusers layout, with {', '.join(parts)}."
            )
    return folder


def _fetched(name: str, parts: Sequence[str]) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise DataError(
            f"{name} is neither a folder nor an id on the Hugging Face hub (OWNER/NAME); give the one or the other."
        )
    wanted = [f"{part}/{kind}" for part in parts for kind in KINDS] or list(KINDS)
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except LocalEntryNotFoundError as error:
        raise DataError(
            f"{name} is no folder here and not in the Hugging Face hub's cache, and the hub is out of reach; connect, "
            "or fetch it elsewhere and give its folder."
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise DataError(
            f"{name} is no folder here, and the Hugging Face hub does not give it ({in_short(error)}); check the id "
            "and your right to it, or fetch it elsewhere and give its folder."
        ) from error
