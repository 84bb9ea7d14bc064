"""Instruction -> text encoder states, computed once per distinct instruction.

The encoder is transformers' UMT5, or T5 where a pretrained model has that. With a pretrained one comes its tokenizer;
the tiny one reads bytes (ByT5's tokenizer needs no files) and is trained together with the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    ByT5Tokenizer,
    PreTrainedTokenizerBase,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from worldvalue.backbones.weights import load_transformers
from worldvalue.types import Batch, DataError, in_short

ENCODERS = {"umt5": UMT5EncoderModel, "t5": T5EncoderModel}
"""Classes by the ``model_type`` of a text encoder's configuration: Wan's and LTX-Video's."""


class TextEncoder(nn.Module):
    """UMT5 or T5 encoder with its tokenizer; padding states are zero.

    Words see what they see in the pipelines of the encoder's video model: other words in Wan's (UMT5), the padding too
    in LTX-Video's (T5).

    Args:
        config: keys of ``transformers.UMT5Config``.
        max_length: tokens of an instruction; longer ones are cut.
        pool: so many neighbouring states become their mean; 4 bytes make about one subword.
        tokenizer: bytes (ByT5) when None.
        encoder: a pretrained one in the place of a new one.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        max_length: int,
        pool: int = 1,
        tokenizer: PreTrainedTokenizerBase | None = None,
        encoder: UMT5EncoderModel | T5EncoderModel | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder or UMT5EncoderModel(UMT5Config(**config))
        self.max_length = max_length
        self.pool = pool
        self.tokenizer = tokenizer if tokenizer is not None else ByT5Tokenizer()

    @classmethod
    def from_pretrained(
        cls, folder: Path, max_length: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> TextEncoder:
        """Encoder and tokenizer from ``text_encoder/`` and ``tokenizer/`` of a folder in diffusers layout.

        Raises:
            DataError: a file is missing or damaged, or the encoder is neither UMT5 nor T5.
        """
        try:
            kind = json.loads((folder / "text_encoder" / "config.json").read_text(encoding="utf-8"))["model_type"]
            tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise DataError(
                f"{folder} holds no usable text encoder ({in_short(error)}); copy the folder again."
            ) from error
        if kind not in ENCODERS:
            raise DataError(f"{folder / 'text_encoder'} is a {kind}; give a model with one of: {', '.join(ENCODERS)}.")
        encoder = load_transformers(ENCODERS[kind], folder / "text_encoder", dtype, device)
        return cls({}, max_length, tokenizer=tokenizer, encoder=encoder)

    @property
    def dim(self) -> int:
        """Width of the states."""
        return self.encoder.config.d_model

    def tokenize(self, instructions: Sequence[str]) -> Tensor:
        """Token ids ``(B, max_length)`` int64, padded with the tokenizer's padding id."""
        return self.tokenizer(
            list(instructions),
            padding="max_length",
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        ).input_ids

    def forward(self, tokens: Tensor) -> Tensor:
        """States ``(B, max_length / pool, dim)`` of token ids ``(B, max_length)``; equal rows are encoded once."""
        distinct, where = tokens.unique(dim=0, return_inverse=True)
        mask = distinct != self.tokenizer.pad_token_id
        seen = torch.ones_like(distinct) if isinstance(self.encoder, T5EncoderModel) else mask.long()
        states = self.encoder(input_ids=distinct, attention_mask=seen).last_hidden_state
        states = states * mask.unsqueeze(-1).to(states.dtype)
        return states.unflatten(1, (-1, self.pool)).mean(2)[where]


def own_encoder(config: Mapping[str, Any] | None, max_length: int, pool: int) -> TextEncoder | None:
    """The encoder that a model trains with itself; None for a model that is given text states."""
    return None if config is None else TextEncoder(config, max_length, pool)


def states_of(batch: Batch, encoder: TextEncoder | None) -> Tensor:
    """Text states ``(B, L, dim)`` of a batch: its ``tokens`` encoded, or without an encoder its ``text``."""
    return batch["text"] if encoder is None else encoder(batch["tokens"])


def example_text(encoder: TextEncoder | None, batch: int, max_length: int, dim: int) -> dict[str, Tensor]:
    """What ``states_of`` reads, for an example batch."""
    if encoder is None:
        return {"text": torch.randn(batch, max_length, dim)}
    return {"tokens": encoder.tokenize(["pick up the cube"] * batch)}
