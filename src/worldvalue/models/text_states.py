"""Text states of instructions on disk, for models whose text encoder is a pretrained one.

Such an encoder (umT5-xxl, T5-XXL) is larger than the model that reads its states, and says the same of an instruction
every time. It is loaded when an instruction comes that it has not yet read, and let go as soon as it has.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldvalue.backbones.hub import pretrained_folder
from worldvalue.backbones.text import TextEncoder
from worldvalue.data.files import user_cache
from worldvalue.types import DataError

PARTS = ("text_encoder", "tokenizer")
PIECES, PIECE = 16, 65536
"""A file of weights is known by its size and so many pieces of so many bytes: gigabytes are not read for that."""


class TextStates:
    """States of instructions, from one pretrained text encoder.

    They lie in ``text/`` of ``data.files.user_cache``, a file for each instruction in a folder for each encoder and
    length. The encoder is known by its configuration, its tokenizer and samples of its weights. Once all instructions
    have been read the weights may be removed: it is then known by the rest.

    Args:
        name: a folder with ``text_encoder/`` and ``tokenizer/``, or an id on the hub.
        length: L, tokens of an instruction.

    Raises:
        DataError: there is no such folder, or its weights are gone and have left no or several encoders' states.
    """

    def __init__(self, name: str, length: int) -> None:
        self.encoder = pretrained_folder(name, PARTS)
        self.length = length
        self.folder = _kept_in(self.encoder, length)

    def make(self, instructions: Iterable[str], device: torch.device | str) -> None:
        """See to it that the states of all these instructions are there; new ones are computed on ``device``.

        One by one, so that the states of an instruction do not depend on what else is asked for.

        Raises:
            DataError: the text encoder is needed and cannot be loaded.
        """
        missing = [text for text in sorted(set(instructions)) if not self._path(text).is_file()]
        if not missing:
            return
        encoder = TextEncoder.from_pretrained(self.encoder, self.length, torch.bfloat16, device).eval()
        with torch.inference_mode(), torch.autocast(torch.device(device).type, enabled=False):
            for text in missing:
                states = encoder(encoder.tokenize([text]).to(device))[0]
                self._write(text, states[states.any(-1)])

    def stacked(self, instructions: Sequence[str], dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """States ``(B, L, text_dim)`` of instructions that ``make`` has seen; those of padding are zero."""
        read = [load_file(self._path(text))["states"] for text in instructions]
        states = torch.zeros(len(read), self.length, read[0].shape[1], dtype=dtype)
        for row, words in zip(states, read, strict=True):
            row[: len(words)] = words
        return states

    def _path(self, instruction: str) -> Path:
        return self.folder / f"{_digest([instruction.encode()])}.safetensors"

    def _write(self, instruction: str, words: Tensor) -> None:
        """Under a name of this process's own first: several may be at the same instruction."""
        path = self._path(instruction)
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=".partial-") as partial:
            save_file({"states": words.cpu().contiguous()}, Path(partial, path.name), {"instruction": instruction})
            os.replace(Path(partial, path.name), path)


def _kept_in(encoder: Path, length: int) -> Path:
    """Folder of the states: of configuration, tokenizer and length first, of the weights below it."""
    files = sorted(path for part in PARTS for path in (encoder / part).iterdir() if path.is_file())
    weights = [path for path in files if path.suffix == ".safetensors"]
    told = (piece for path in files if path not in weights for piece in (path.name.encode(), path.read_bytes()))
    folder = user_cache() / "text" / _digest([str(length).encode(), *told])
    if weights:
        return folder / _digest(piece for path in weights for piece in _samples(path))
    kept = [path for path in folder.glob("*") if path.is_dir()]
    if len(kept) != 1:
        found = "those of several such encoders are" if kept else "no states of it are"
        raise DataError(f"{encoder / 'text_encoder'} holds no weights, and {found} in {folder}; copy the weights too.")
    return kept[0]


def _samples(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    yield f"{path.name}:{size}".encode()
    with path.open("rb") as file:
        for number in range(PIECES):
            file.seek(max(size - PIECE, 0) * number // (PIECES - 1))
            yield file.read(PIECE)


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()[:32]
