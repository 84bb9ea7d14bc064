"""Our operations for OpenVINO, against torch in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldvalue.backbones.joint_attention import apart
from worldvalue.models import load_model
from worldvalue.scoring.kernels import library as built
from worldvalue.scoring.kernels.operations import group_norm, is_ours
from worldvalue.scoring.openvino import Compiled, _converted, _PerPicture, _Values

needs_kernels = pytest.mark.skipif(built.library() is None, reason="no CPU with AMX here, or nothing compiles C++")


class Computed(nn.Module):
    """A function of tensors, as ``Compiled`` takes it, which knows all sizes but the number of rows."""

    def __init__(self, function: Callable[..., Tensor], rows: Sequence[Tensor]) -> None:
        super().__init__()
        self.function = function
        self.shapes = [x.shape[1:] for x in rows]

    def forward(self, rows: list[Tensor]) -> Tensor:
        return self.function(*(x.unflatten(1, shape) for x, shape in zip(rows, self.shapes, strict=True)))


def by_openvino(function: Callable[..., Tensor], rows: Sequence[Tensor], ours: bool = True) -> Tensor:
    """What OpenVINO makes of rows of bfloat16 numbers, by operations of ours or without them."""
    computed, flat = Computed(function, rows), [x.flatten(1) for x in rows]
    assert is_ours(_converted(computed, flat)) == ours
    return Compiled(computed)(flat)


def both(function: Callable[..., Tensor], *rows: Tensor) -> tuple[Tensor, Tensor]:
    """What OpenVINO makes of rows by operations of ours, and torch of the same in double precision."""
    rows = tuple(x.bfloat16().float() for x in rows)
    return by_openvino(function, rows), function(*(x.double() for x in rows)).float()


@needs_kernels
@pytest.mark.parametrize(
    ("queries", "keys", "heads", "width"),
    [(40, 64, 8, 32), (1, 1, 1, 32), (17, 33, 2, 64), (50, 16, 3, 96), (16, 100, 2, 128)],
)
@torch.no_grad()
def test_attention_is_torchs(queries: int, keys: int, heads: int, width: int) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, heads, count, width) for count in (queries, keys, keys))
    ours, exact = both(F.scaled_dot_product_attention, 2 * query, key, value)
    torch.testing.assert_close(ours, exact, atol=0.02, rtol=0.02)


@needs_kernels
@pytest.mark.parametrize(("copies", "tokens", "context"), [(8, 5, 64), (3, 7, 20)])
@torch.no_grad()
def test_attention_reads_keys_in_parts_and_sees_what_the_mask_lets_it(copies: int, tokens: int, context: int) -> None:
    torch.manual_seed(0)
    own = copies * tokens
    mask = apart(copies, tokens, context, torch.device("cpu"))

    def attended(query: Tensor, keys: Tensor, values: Tensor, own_keys: Tensor, own_values: Tensor) -> Tensor:
        key, value = torch.cat((keys, own_keys), 2), torch.cat((values, own_values), 2)
        return F.scaled_dot_product_attention(query, key, value, mask)

    seen = [torch.randn(2, 4, count, 32) for count in (own, context, context, own, own)]
    ours, exact = both(attended, *seen)
    torch.testing.assert_close(ours, exact, atol=0.02, rtol=0.02)
    seen[3][:, :, -tokens:] += 50  # of the last copy alone
    seen[4][:, :, -tokens:] += 50
    other, _ = both(attended, *seen)
    assert torch.equal(other[:, :, :-tokens], ours[:, :, :-tokens])
    assert not torch.equal(other[:, :, -tokens:], ours[:, :, -tokens:])


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_kernels), False])
@torch.no_grad()
def test_attention_has_the_scale_it_is_given(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr("worldvalue.scoring.openvino.library", lambda: None)
    torch.manual_seed(0)
    rows = [torch.randn(2, 2, count, 32).bfloat16().float() for count in (6, 9, 9)]

    def attended(*rows: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*rows, scale=0.5)

    torch.testing.assert_close(by_openvino(attended, rows, compiled), attended(*rows), atol=0.02, rtol=0.02)


@needs_kernels
@torch.no_grad()
def test_attention_neither_overflows_nor_hides_what_is_not_a_number() -> None:
    query, key, value = torch.full((2, 1, 3, 32), 30.0), torch.randn(2, 1, 40, 32), torch.randn(2, 1, 40, 32)
    key[:, :, 7] = 40.0  # logits of thousands, of which one stands out
    ours, exact = both(F.scaled_dot_product_attention, query, key, value)
    torch.testing.assert_close(ours, exact, atol=0.02, rtol=0.02)
    key[1, 0, 3, 5] = float("nan")
    ours, _ = both(F.scaled_dot_product_attention, query, key, value)
    assert ours[0].isfinite().all()
    assert ours[1].isnan().all()


@needs_kernels
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize(("channels", "groups", "height", "width"), [(32, 8, 16, 16), (48, 3, 5, 7)])
@torch.no_grad()
def test_group_norm_is_torchs_with_silu_and_without(
    silu: bool, channels: int, groups: int, height: int, width: int
) -> None:
    torch.manual_seed(0)
    norm = nn.GroupNorm(groups, channels, eps=1e-6)
    nn.init.normal_(norm.weight, 1)
    nn.init.normal_(norm.bias)

    def normed(x: Tensor) -> Tensor:
        told = F.group_norm(x, groups, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)
        return F.silu(told) if silu else told

    pictures = torch.randn(3, channels, height, width)
    for shift in (0, 100):  # a mean much larger than the spread
        ours, exact = both(normed, pictures + shift)
        torch.testing.assert_close(ours, exact, atol=0.02, rtol=0.02)


def test_without_ours_group_norm_is_torchs() -> None:
    torch.manual_seed(0)
    x, weight, bias = 3 * torch.randn(2, 8, 5, 7) + 2, torch.randn(8), torch.randn(8)
    torch.testing.assert_close(group_norm(x, 4, weight, bias, 1e-3), F.group_norm(x, 4, weight, bias, 1e-3))


@needs_kernels
@torch.no_grad()
def test_what_ours_cannot_do_openvino_does() -> None:
    weight, bias = torch.randn(6), torch.randn(6)

    def other(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        pictures = F.silu(F.group_norm(value, 2, weight, bias))  # of 6 channels
        return F.scaled_dot_product_attention(query, key, pictures)  # heads of 20 channels

    rows = [torch.randn(2, 6, 9, 20) for _ in range(3)]
    torch.testing.assert_close(by_openvino(other, rows, ours=False), other(*rows), atol=0.05, rtol=0.05)


@needs_kernels
@pytest.mark.slow
@torch.no_grad()
def test_all_attention_and_group_norm_of_the_shipped_model_is_ours() -> None:
    estimator = load_model("tiny").float().requires_grad_(False)
    seen, text, picture = torch.randn(2, 5, 1, 6, 16, 16), torch.randn(2, 16, 128), torch.zeros(2, 128, 128, 3)
    windows = [seen, text, torch.rand(2, 8), torch.randn(2, 8, 4)]
    values, codes = (
        [node.get_type_name() for node in _converted(function, rows).get_ops()]
        for function, rows in (
            (_Values(estimator, ["items"], 1), windows),
            (_PerPicture(estimator), [picture.to(torch.uint8)]),
        )
    )
    video, stream = 4, 5  # layers: of the video's last one only keys and values are read
    assert values.count("Attention") == 2 * (video + stream)  # over tokens and over the text
    assert codes.count("GroupNorm") == 2 * 5 + 1  # two a block, one at the end, each with SiLU
    assert not {"Softmax", "ScaledDotProductAttention", "GroupNormalization", "ReduceL2", "Swish"} & {*values, *codes}


@needs_kernels
@torch.no_grad()
def test_any_number_of_threads_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, told = [torch.randn(4, 3, 20, 32) for _ in range(3)], []
    for count in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)  # torch itself starts no more
        told.append(by_openvino(F.scaled_dot_product_attention, rows))
    assert torch.equal(*told)


@needs_kernels
def test_the_library_is_compiled_once_and_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = built.library.__wrapped__
    monkeypatch.setenv("CXX", "false")  # a compiler that always fails
    assert compiler() is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    monkeypatch.delenv("CXX")
    library = compiler()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [library]
    written = library.stat().st_mtime_ns
    assert compiler() == library
    assert library.stat().st_mtime_ns == written
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiler() is None
