"""Weights from safetensors files into a module, straight to the device and type they are used in.

The module is made inside ``unfilled``, so that its parameters take no memory; ``fill`` then puts the files' tensors in
their place. At no time is there a second copy of more than one tensor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from transformers import PreTrainedModel
from transformers.utils import logging

from worldvalue.types import DataError, in_short

Model = TypeVar("Model", bound=PreTrainedModel)


def unfilled() -> AbstractContextManager[None]:
    """Modules made inside it have parameters without memory; buffers are made as ever."""
    return init_empty_weights(include_buffers=False)


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The files of the weights called ``stem`` in a folder: one, or those that an index names.

    Raises:
        DataError: there are none, the index cannot be read, or a file that it names is missing.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        if not single.is_file():
            raise DataError(f"{folder} has no {single.name}; copy the whole folder, with its weights as safetensors.")
        return [single]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{index} does not say where the weights are; copy it again.") from error
    for name in names:
        if not (folder / name).is_file():
            raise DataError(f"{folder} has no {name}, which {index.name} names; copy the whole folder.")
    return [folder / name for name in names]


def fill(
    module: nn.Module,
    files: Sequence[Path],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    parts: tuple[str, ...] = ("",),
    remedy: str = "copy the folder again",
) -> None:
    """Put stored weights in the place of a module's own.

    Args:
        module: made inside ``unfilled`` or not; ends on ``device`` with all its parts.
        files: safetensors files that together hold its weights, under its own names.
        device: where they go.
        dtype: of linear and convolution layers, which autocast computes in a type of its own anyway; other numbers are
            float32. Under autocast of that type nothing changes by it but the memory.
        parts: only what begins with one of these; by default all.
        remedy: what to do about files that do not fit, for the sentence.

    Raises:
        DataError: a file cannot be read, a weight is missing or has another shape, or there are others.
    """
    expected = {name: tensor.shape for name, tensor in module.state_dict().items() if name.startswith(parts)}
    stored = _stored_shapes(files, parts, remedy)
    _check(module, files, expected, stored, remedy)
    low = _layers_of_autocast(module)
    state: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, "pt", device=str(device)) as opened:
            for name in opened.keys() & expected.keys():
                tensor = opened.get_tensor(name)
                kind = dtype if name in low else torch.float32
                state[name] = tensor.to(kind) if tensor.is_floating_point() else tensor
    module.load_state_dict(state, strict=False, assign=True)
    for part in module.modules():
        if isinstance(part, PreTrainedModel):
            part.tie_weights()  # they are stored under two names
    module.to(device)


def load_transformers(
    kind: type[Model], folder: Path, dtype: torch.dtype, device: torch.device | str = "cpu", **how: Any
) -> Model:
    """A model of transformers with its stored weights; transformers itself knows by which names a file may call them.

    Args:
        kind: its class.
        folder: that holds its configuration and weights.
        dtype, device: of the weights.
        how: further arguments of ``from_pretrained``.

    Raises:
        DataError: a file cannot be read, or a weight is missing or has another shape.
    """
    spoken = logging.get_verbosity()
    logging.set_verbosity_error()  # it lists what else a file holds, such as SigLIP's text tower
    try:
        model, report = kind.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": device},
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, in one sentence
            use_safetensors=True,
            **how,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{folder} cannot be read ({in_short(error)}); copy the folder again.") from error
    finally:
        logging.set_verbosity(spoken)
    for name in sorted(report["missing_keys"]):
        raise DataError(f"{folder} lacks the weight '{name}'; copy the folder again.")
    for name, found, needed in sorted(report["mismatched_keys"]):
        told = f"'{name}' of shape {tuple(found)}, {tuple(needed)} is needed"
        raise DataError(f"{folder} has {told}; it does not belong to its config.json: copy the folder again.")
    return model


def _stored_shapes(files: Sequence[Path], parts: tuple[str, ...], remedy: str) -> dict[str, tuple[Path, torch.Size]]:
    """File and shape of every tensor, from the files' headers."""
    found = {}
    for file in files:
        try:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (no mapping: it has keys, and is not iterable)
                    if name.startswith(parts):
                        found[name] = file, torch.Size(opened.get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            raise DataError(f"{file} cannot be read as safetensors ({in_short(error)}); {remedy}.") from error
    return found


def _check(
    module: nn.Module,
    files: Sequence[Path],
    expected: Mapping[str, torch.Size],
    stored: Mapping[str, tuple[Path, torch.Size]],
    remedy: str,
) -> None:
    for name, shape in expected.items():
        if name not in stored:
            where = files[0] if len(files) == 1 else f"{files[0].parent} ({len(files)} files)"
            raise DataError(f"{where} lacks the weight '{name}'; {remedy}.")
        file, found = stored[name]
        if found != shape:
            raise DataError(f"{file} has '{name}' of shape {tuple(found)}, {tuple(shape)} is needed; {remedy}.")
    if isinstance(module, ModelMixin):
        return  # files of its models may hold more than this version knows; diffusers leaves that out too
    for name in sorted(stored.keys() - expected.keys()):
        raise DataError(f"{stored[name][0]} holds '{name}', for which the model has no place; {remedy}.")


def _layers_of_autocast(module: nn.Module) -> set[str]:
    """Names of the weights and biases of linear and convolution layers."""
    layers = (item for item in module.named_modules() if isinstance(item[1], nn.Linear | _ConvNd))
    return {f"{path}.{name}" if path else name for path, layer in layers for name, _ in layer.named_parameters()}
