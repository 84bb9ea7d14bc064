"""The block that all streams are made of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from worldvalue.backbones.joint_attention import StreamBlock, apart, attend


@pytest.mark.parametrize("copies", [1, 3])
def test_attention_with_gradients_is_torchs_own_and_keeps_copies_apart(copies: int) -> None:
    torch.manual_seed(0)
    tokens, context = 4, 6
    query, key, value = (
        torch.randn(2, 2, count, 8, requires_grad=True)
        for count in (copies * tokens, context + copies * tokens, context + copies * tokens)
    )
    found = attend(query, key, value, apart(copies, tokens, context, query.device))
    rows = []
    for copy in range(copies):
        own = slice(copy * tokens, (copy + 1) * tokens)
        seen = [torch.cat((x[:, :, :context], x[:, :, context:][:, :, own]), 2) for x in (key, value)]
        alone = torch.nn.functional.scaled_dot_product_attention(query[:, :, own], *seen)
        rows.append(alone.transpose(1, 2).flatten(2))
    expected = torch.cat(rows, 1)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad((x * weights).sum(), (query, key, value)) for x in (found, expected))
    torch.testing.assert_close(ours, theirs)


@torch.no_grad()
def test_an_exported_block_gives_what_the_plain_one_gives_its_keys_with_their_channels_in_another_order() -> None:
    torch.manual_seed(0)
    block = StreamBlock(width=16, ffn_width=32, heads=2, head_dim=8, cross_heads=2, cross_head_dim=4).eval()
    for norm in (block.attn1.norm_q, block.attn1.norm_k):
        torch.nn.init.normal_(norm.weight)
    angles = torch.rand(1, 6, 1, 4).repeat_interleave(2, dim=-1)
    text, context = (tuple(torch.randn(2, 2, n, e) for _ in range(2)) for n, e in ((3, 4), (5, 8)))
    halves = torch.arange(8).unflatten(0, (-1, 2)).T.flatten()
    given = (torch.randn(2, 6, 16), torch.randn(2, 6, 6, 16), text, (angles.cos(), angles.sin()))
    exported = torch.export.export(block, (*given, context)).module()
    hidden, (keys, values) = block(*given, context)
    found, (turned, same) = exported(*given, (context[0][..., halves], context[1]))
    torch.testing.assert_close(found, hidden)
    torch.testing.assert_close(turned, keys[..., halves])
    torch.testing.assert_close(same, values)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with a C++ compiler")
def test_a_compiled_block_has_the_gradients_of_the_plain_one() -> None:
    # With another way of writing the rotation the compiler's gradients of the keys were not numbers.
    torch.manual_seed(0)
    block = StreamBlock(width=64, ffn_width=64, heads=2, head_dim=32, cross_heads=2, cross_head_dim=32)
    hidden, modulation = torch.randn(2, 64, 64), torch.randn(2, 4, 6, 64)  # 16 tokens in a row share theirs
    text = (torch.randn(2, 2, 4, 32), torch.randn(2, 2, 4, 32))
    angles = torch.rand(1, 64, 1, 16).repeat_interleave(2, dim=-1)

    def gradients(call: Callable[..., Any]) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel([SDPBackend.MATH]):
            after, (keys, values) = call(hidden, modulation, text, (angles.cos(), angles.sin()))
        loss = after.float().square().mean() + keys.float().square().mean() + values.float().square().mean()
        # Some are unused: the keys of the text are made outside the block's forward.
        found = torch.autograd.grad(loss, list(block.parameters()), allow_unused=True)
        return torch.cat([gradient.flatten() for gradient in found if gradient is not None])

    plain, compiled = gradients(block), gradients(torch.compile(block, dynamic=False))
    assert (compiled - plain).norm() < 0.02 * plain.norm()  # bf16 rounds after other steps
