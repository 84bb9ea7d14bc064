"""Scoring as OpenVINO computes it: the same values but for rounding, on a CPU in a third to half of torch's time.

What the autoencoder makes of a picture and the model of a window is exported from torch, whole, converted and compiled.
OpenVINO fuses what torch does one by one: norms, activations, softmax, and the conversions between float types. Where
it has no fast operation for what a value model does, there is one of ours (``kernels``).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from worldvalue.models import Estimator
from worldvalue.scoring.kernels.library import library
from worldvalue.scoring.kernels.operations import decompositions, extensions, is_ours
from worldvalue.types import Batch, DataError, in_short


class Compiled:
    """A function of tensors that have a row for each of its results, as OpenVINO computes it.

    Rows of a new shape are a new model, and exporting it takes up to half a minute. Their number is rounded up to 1, 2,
    3, 4, 6, 8, 12, 16, ..., by repeating the last one, and each such number is compiled once, in a second or two.

    Args:
        function: of a list of tensors; a module, so that its weights are found.

    Raises:
        DataError: when called, the function has operations that OpenVINO does not know.
    """

    def __init__(self, function: nn.Module) -> None:
        self._function = function
        self._models: dict[tuple[torch.Size, ...], Any] = {}
        self._requests: dict[tuple[torch.Size, ...], Any] = {}

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        """The function's results, float32."""
        count = len(tensors[0])
        rows = [_filled(x, _rounded(count)) for x in tensors]
        request = self._request(rows)
        told = request.infer({place: x.numpy() for place, x in enumerate(rows)}, share_inputs=True)
        return torch.from_numpy(told[0][:count].copy())

    def _request(self, rows: list[Tensor]) -> Any:
        shapes = tuple(x.shape for x in rows)
        if shapes not in self._requests:
            of_a_row = tuple(shape[1:] for shape in shapes)
            if of_a_row not in self._models:
                self._models[of_a_row] = _converted(self._function, rows)
            model = self._models[of_a_row].clone()
            model.reshape({place: list(shape) for place, shape in enumerate(shapes)})
            self._requests[shapes] = _compiled(model)
        return self._requests[shapes]


def _rounded(count: int) -> int:
    """The next number that has no more than two binary digits before its zeros."""
    step = 1 << max(0, (count - 1).bit_length() - 2)
    return -(-count // step) * step


def _filled(rows: Tensor, count: int) -> Tensor:
    """``count`` rows, the last one repeated; bytes, or float32."""
    missing = count - len(rows)
    if missing:
        rows = torch.cat((rows, rows[-1:].expand(missing, *rows.shape[1:])))
    return (rows if rows.dtype == torch.uint8 else rows.float()).contiguous()


class _PerPicture(nn.Module):
    """What an autoencoder makes of single pictures."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.vae = estimator.vae

    def forward(self, rows: list[Tensor]) -> Tensor:
        return self.vae.per_picture(rows[0])


class _Values(nn.Module):
    """A model's values of windows, from what is seen, by name, then text, prefix and noise."""

    def __init__(self, estimator: Estimator, seen: Sequence[str], steps: int) -> None:
        super().__init__()
        self.estimator = estimator
        self.seen = seen
        self.steps = steps

    def forward(self, rows: list[Tensor]) -> Tensor:
        *seen, text, prefix, noise = rows
        return self.estimator.values(dict(zip(self.seen, seen, strict=True)), text, prefix, noise, self.steps)


def computed_by_openvino(estimator: Estimator) -> None:
    """Let OpenVINO compute an estimator's items and values in place of torch, from their next call on.

    Raises:
        DataError: OpenVINO is not installed, or the estimator is not on a CPU.
    """
    _openvino()
    if "values" in vars(estimator):
        return  # another scorer has done it
    if estimator.device.type != "cpu":
        raise DataError("OpenVINO computes on a CPU, and the model is on a GPU; compile with torch instead.")
    with torch.inference_mode(False):
        plain = deepcopy(estimator).float().requires_grad_(False)  # what is exported must have one float type
    compiled: dict[tuple[tuple[str, ...], int], Compiled] = {}

    def values(seen: Batch, text: Tensor, prefix: Tensor, noise: Tensor, steps: int) -> Tensor:
        names = tuple(sorted(seen))
        if (names, steps) not in compiled:
            compiled[names, steps] = Compiled(_Values(plain, names, steps))
        return compiled[names, steps]([*(seen[name] for name in names), text, prefix, noise])

    estimator.values = values  # type: ignore[method-assign]
    if estimator.vae.caches_frames:
        per_picture = Compiled(_PerPicture(plain))
        estimator.vae.per_picture = lambda pictures: per_picture([pictures])  # type: ignore[method-assign]


def _openvino() -> Any:
    # Where OpenVINO finds this package it reports its use to its makers, unasked.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise DataError("There is no OpenVINO here; pip install 'worldvalue[openvino]'.") from error
    return openvino


def _converted(function: nn.Module, rows: Sequence[Tensor]) -> Any:
    """OpenVINO's model of a function of any number of rows."""
    examples, count = [x[:1].repeat_interleave(2, 0) for x in rows], torch.export.Dim("rows", min=2)
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own ways
        given = ([x.clone() for x in examples],)  # those of inference mode cannot be exported
        exported = torch.export.export(function.eval(), given, dynamic_shapes=([{0: count}] * len(examples),))
        kernels = library()
        try:
            written = exported.run_decompositions(decompositions(kernels))
            return _openvino().convert_model(written, extension=extensions(kernels) if kernels else None)
        except Exception as error:  # OpenVINO's own have no other base
            unknown = [line for line in str(error).splitlines() if "conversion rule" in line]
            why = unknown[0].strip("- ") if unknown else in_short(error)
            raise DataError(f"OpenVINO cannot compute this model; compile it with torch instead ({why}).") from error


def _compiled(model: Any) -> Any:
    core = _openvino().Core()
    bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # several workers would all take the first cores
        # its fused operations would copy what operations of ours read and write
        "SNIPPETS_MODE": "DISABLE" if is_ours(model) else "ENABLE",
    }
    return core.compile_model(model, "CPU", settings).create_infer_request()
