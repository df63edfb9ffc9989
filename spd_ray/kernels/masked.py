"""Masked linears in training, computed from their kept weights alone: token-major in and out, dense parameters.

Gradients are those of F.linear(x, weight * mask): of a pruned weight zero. Fp32 on the CPU, with compiled kernels.
Shapes: T tokens, O output, I input, F feed-forward features; B sequences, L positions, A heads, d = O / A.

Why so: docs/decisions.md #a-sparse-layer-is-fused.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spd_ray.kernels.products import WIDTH, Pattern

Gradients = tuple[Tensor | None, Tensor, Tensor]  # of x in tiles (None where it is not asked for), weight and bias


class KeptLinear(NamedTuple):
    """A linear and which of its weights are kept."""

    weight: Tensor  # (O, I)
    bias: Tensor | None  # (O,)
    pattern: Pattern


def masked_linear(x: Tensor, linear: KeptLinear) -> Tensor:
    """(..., I) -> (..., O). Raises RuntimeError for shapes that do not fit."""
    return _over_tokens(_MaskedLinear, x, linear)


def masked_feed_forward(x: Tensor, first: KeptLinear, second: KeptLinear) -> Tensor:
    """(..., I) -> (..., O): the second linear over GELU of the first; features in tiles from one to the other."""
    return _over_tokens(_MaskedFeedForward, x, first, second)


def masked_heads(x: Tensor, linears: Sequence[KeptLinear], heads: int) -> tuple[Tensor, ...]:
    """(B, L, I) -> for each of the `linears` (B, A, L, d), as attention reads its queries, keys and values."""
    return _MaskedHeads.apply(x, heads, len(linears), *(part for linear in linears for part in linear))


def _over_tokens(function: Any, x: Tensor, *linears: KeptLinear) -> Tensor:
    y = function.apply(x.flatten(0, -2), *(part for linear in linears for part in linear))
    return y.view(*x.shape[:-1], -1)


class _MaskedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern) -> Tensor:
        tiles = torch.ops.spd_ray.tile(x.contiguous(), WIDTH)
        values = _kept(weight, pattern)
        ctx.save_for_backward(tiles, values)
        ctx.pattern, ctx.has_bias = pattern, bias is not None
        return torch.ops.spd_ray.untile(_product(values, pattern, tiles, bias), len(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, values = ctx.saved_tensors
        dy = torch.ops.spd_ray.tile(grads[0].contiguous(), WIDTH)
        dx, dweight, dbias = _gradients(dy, x, values, ctx.pattern, ctx.needs_input_grad[0])
        tokens = len(grads[0])
        return (
            None if dx is None else torch.ops.spd_ray.untile(dx, tokens),
            dweight,
            dbias if ctx.has_bias else None,
            None,
        )


class _MaskedFeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor | None,
        pattern1: Pattern,
        weight2: Tensor,
        bias2: Tensor | None,
        pattern2: Pattern,
    ) -> Tensor:
        tiles = torch.ops.spd_ray.tile(x.contiguous(), WIDTH)
        values1, values2 = _kept(weight1, pattern1), _kept(weight2, pattern2)
        before, after = torch.ops.spd_ray.product_and_gelu(values1, pattern1.columns, pattern1.rows, tiles, bias1)
        ctx.save_for_backward(tiles, before, after, values1, values2)
        ctx.patterns, ctx.has_bias = (pattern1, pattern2), (bias1 is not None, bias2 is not None)
        return torch.ops.spd_ray.untile(_product(values2, pattern2, after, bias2), len(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, before, after, values1, values2 = ctx.saved_tensors
        pattern1, pattern2 = ctx.patterns
        dy = torch.ops.spd_ray.tile(grads[0].contiguous(), WIDTH)
        _, dweight2, dbias2 = _gradients(dy, after, values2, pattern2, False)
        columns, rows = pattern2.transposed_columns, pattern2.transposed_rows
        inner = torch.ops.spd_ray.product_through_gelu(values2[pattern2.order], columns, rows, dy, before)
        dx, dweight1, dbias1 = _gradients(inner, x, values1, pattern1, ctx.needs_input_grad[0])
        tokens = len(grads[0])
        return (
            None if dx is None else torch.ops.spd_ray.untile(dx, tokens),
            dweight1,
            dbias1 if ctx.has_bias[0] else None,
            None,
            dweight2,
            dbias2 if ctx.has_bias[1] else None,
            None,
        )


class _MaskedHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, heads: int, count: int, *parts: Any) -> tuple[Tensor, ...]:
        batch, length, _ = x.shape
        tiles = torch.ops.spd_ray.tile(x.flatten(0, 1).contiguous(), WIDTH)
        linears = [KeptLinear(*parts[3 * index : 3 * index + 3]) for index in range(count)]
        values = [_kept(linear.weight, linear.pattern) for linear in linears]
        ctx.save_for_backward(tiles, *values)
        ctx.patterns, ctx.has_bias = [one.pattern for one in linears], [one.bias is not None for one in linears]
        return tuple(
            torch.ops.spd_ray.heads_of_tiles(_product(own, one.pattern, tiles, one.bias), batch, length, heads)
            for own, one in zip(values, linears, strict=True)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *all_values = ctx.saved_tensors
        dx: Tensor | None = None
        of_linears: list[Tensor | None] = []
        for grad, values, pattern, has_bias in zip(grads, all_values, ctx.patterns, ctx.has_bias, strict=True):
            dy = torch.ops.spd_ray.tiles_of_heads(grad.contiguous(), WIDTH)
            dx, dweight, dbias = _gradients(dy, x, values, pattern, ctx.needs_input_grad[0], dx)
            of_linears += [dweight, dbias if has_bias else None, None]
        batch, _, length, _ = grads[0].shape
        if dx is not None:
            dx = torch.ops.spd_ray.untile(dx, batch * length).view(batch, length, -1)
        return dx, None, None, *of_linears


def _kept(weight: Tensor, pattern: Pattern) -> Tensor:
    return torch.ops.spd_ray.gather(weight.contiguous(), pattern.columns, pattern.rows, pattern.shape[1])


def _product(values: Tensor, pattern: Pattern, x: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.spd_ray.product(values, pattern.columns, pattern.rows, x, bias, None)


def _gradients(
    dy: Tensor, x: Tensor, values: Tensor, pattern: Pattern, of_x: bool, more: Tensor | None = None
) -> Gradients:
    """From tiles dy (tiles, O, width) and x (tiles, I, width); `more` is added to the gradient of x."""
    dx = None
    if of_x:
        columns, rows = pattern.transposed_columns, pattern.transposed_rows
        dx = torch.ops.spd_ray.product(values[pattern.order], columns, rows, dy, None, more)
    dvalues, dbias = torch.ops.spd_ray.dots(pattern.columns, pattern.rows, dy, x)
    dweight = torch.ops.spd_ray.scatter(dvalues, pattern.columns, pattern.rows, pattern.shape[1])
    return dx, dweight, dbias
