"""How what torch exports is written for OpenVINO: by operations of ours where they can be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldvalue.backbones.joint_attention import plain_attention

_WIDTHS = (32, 64, 96, 128)  # of a head, for our attention
_LANES = 16  # of whose multiples our group norm takes channels


def decompositions(library: Path | None) -> dict[Any, Callable[..., Tensor]]:
    """What torch's own operations become before OpenVINO sees them, with our library or without it."""
    norm, attention = torch.ops.aten.group_norm.default, torch.ops.aten.scaled_dot_product_attention.default
    # Of torch's fused attention OpenVINO would make one that copies the keys first.
    without: dict[Any, Callable[..., Tensor]] = {norm: group_norm, attention: _scaled(plain_attention)}
    return {norm: _kept_group_norm, attention: _scaled(_kept_attention)} if library else without


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5, _cudnn: bool = True) -> Tensor:
    """Group norm by statistics of each channel: OpenVINO's own wants pictures in a layout that convolutions do not."""

    def of_group(channels: Tensor) -> Tensor:
        grouped = channels.unflatten(1, (groups, -1))
        return grouped.mean(2, keepdim=True).expand_as(grouped).flatten(1)[..., None, None]

    x = x - of_group(x.mean((2, 3)))  # first, since the statistics are rounded to bfloat16
    variance = of_group(torch.linalg.vector_norm(x, dim=(2, 3)).square() / x[0, 0].numel())
    return x * ((variance + eps).rsqrt() * weight[:, None, None]) + bias[:, None, None]


def _scaled(attention: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Attention as torch's is called, by one that has a scale for each width."""

    def attended(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if dropout_p or is_causal or enable_gqa:
            raise NotImplementedError("attention with dropout, a causal mask or shared heads")
        if scale is not None:
            query = query * (scale * query.shape[-1] ** 0.5)
        return attention(query, key, value, attn_mask)

    return attended


def _kept_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    if query.shape[-1] not in _WIDTHS or (mask is not None and (mask.dtype != torch.bool or mask.ndim != 2)):
        return plain_attention(query, key, value, mask)
    return _attention(query, key, value, *([] if mask is None else [mask]))  # OpenVINO cannot read None


@torch.library.custom_op("worldvalue::attention", mutates_args=())
def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention under a name of ours, of those that ours can do."""
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, mask)


@_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    return torch.empty_like(query)


def _kept_group_norm(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5, _cudnn: bool = True
) -> Tensor:
    if x.shape[1] % _LANES:
        return group_norm(x, groups, weight, bias, eps)
    return _group_norm(x, groups, weight, bias, eps)


@torch.library.custom_op("worldvalue::group_norm", mutates_args=())
def _group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Group norm under a name of ours: torch's would be taken apart before OpenVINO sees it."""
    return torch.nn.functional.group_norm(x, groups, weight, bias, eps)


@_group_norm.register_fake
def _(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x)


def extensions(library: Path) -> list[Any]:
    """What OpenVINO is to make of what ``decompositions`` has kept, and of SiLU behind it."""
    from openvino.frontend.pytorch import ConversionExtension

    ours = Operations(library)
    converted = {
        "worldvalue.attention": ours.attention,
        "worldvalue.group_norm": ours.group_norm,
        "aten.silu": ours.silu,
    }
    return [ConversionExtension(f"{name}.default", convert) for name, convert in converted.items()]


class Operations:
    """Makes nodes of an OpenVINO model, each of what torch's operation is given (OpenVINO's ``NodeContext``)."""

    def __init__(self, library: Path) -> None:
        from openvino import Type, opset13
        from openvino.utils.node_factory import NodeFactory

        self._opset = opset13
        self._bf16, self._f32 = Type.bf16, Type.f32
        self._factory = NodeFactory()
        self._factory.add_extension(str(library))

    def attention(self, context: Any) -> list[Any]:
        """Softmax attention ``(B, H, N, E)``; ours reads keys and values where they are, before they are joined."""
        query, key, value, *mask = (context.get_input(place) for place in range(context.get_input_size()))
        width = query.get_partial_shape()[3].get_length()
        parts = [part for pair in zip(_joined(key), _joined(value), strict=True) for part in pair]
        told = [self._opset.convert(x, self._bf16).output(0) for x in (query, *parts)]
        node = self._factory.create("Attention", [*told, *mask], {"scale": width**-0.5})
        return self._float(self._turned(node, 0, 2, 1, 3))

    def group_norm(self, context: Any) -> list[Any]:
        """Group norm of ``(B, C, H, W)``."""
        pictures, weight, bias = (context.get_input(place) for place in (0, 2, 3))
        groups, eps = (context.get_values_from_const_input(place) for place in (1, 4))
        told = self._opset.convert(self._turned(pictures, 0, 2, 3, 1), self._bf16).output(0)
        attributes = {"groups": groups, "eps": eps, "silu": False}
        return self._pictures(self._factory.create("GroupNorm", [told, weight, bias], attributes))

    def silu(self, context: Any) -> list[Any]:
        """SiLU, in one with our group norm where it is of one."""
        x = context.get_input(0)
        norm = x.get_node()
        for kind in ("Convert", "Transpose"):
            norm = norm.input_value(0).get_node() if norm.get_type_name() == kind else norm
        if norm.get_type_name() != "GroupNorm":
            return self._opset.swish(x).outputs()
        attributes = {**norm.get_attributes(), "silu": True}
        return self._pictures(self._factory.create("GroupNorm", norm.input_values(), attributes))

    def _pictures(self, node: Any) -> list[Any]:
        """``(B, H, W, C)`` as the channels stand in torch."""
        return self._float(self._turned(node, 0, 3, 1, 2))

    def _turned(self, x: Any, *axes: int) -> Any:
        return self._opset.transpose(x, self._opset.constant(list(axes)))

    def _float(self, node: Any) -> list[Any]:
        return self._opset.convert(node, self._f32).outputs()


def _joined(tokens: Any) -> list[Any]:
    """What keys or values ``(B, H, M, E)`` are put together of, token after token."""
    node = tokens.get_node()
    joined = node.get_type_name() == "Concat" and node.get_attributes()["axis"] in (2, -2)
    return list(node.input_values()) if joined else [tokens]


def is_ours(model: Any) -> bool:
    """Whether an OpenVINO model has operations of ours."""
    return any(node.get_type_name() in ("Attention", "GroupNorm") for node in model.get_ops())
