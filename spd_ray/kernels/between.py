"""What a layer computes between its products, each in one pass and with gradient: fp32, CPU, compiled kernels.

Shapes: T tokens, H features; B sequences, A heads, L positions.

Why so: docs/decisions.md #a-sparse-layer-is-fused.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEATURES = 16  # `add_norm` takes multiples of it


class Bits(NamedTuple):
    """Dropout: an element is kept, times `scale`, where its random number is at least `least`."""

    numbers: Tensor  # int16, one an element or more
    least: int
    scale: float


def add_norm(h: Tensor, x: Tensor, norm: nn.LayerNorm, bits: Bits | None) -> Tensor:
    """LayerNorm over dropout(h) + x, all (..., H); H a multiple of `FEATURES`."""
    return _AddNorm.apply(h, x, norm.weight, norm.bias, norm.eps, *(bits or (None, 0, 1.0)))


def softmax(scores: Tensor, mask: Tensor | None, scale: float, bits: Bits | None) -> tuple[Tensor, Tensor]:
    """Probabilities (B, A, L, L) of scale * scores + mask, and what dropout leaves of them. No gradient of the mask."""
    found = _Softmax.apply(scores, mask, scale, *(bits or (None, 0, 1.0)))
    return (found, found) if bits is None else found


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        eps: float,
        numbers: Tensor | None,
        least: int,
        scale: float,
    ) -> Tensor:
        flat, also = (one.flatten(0, -2).contiguous() for one in (h, x))
        y, normal, inverse = torch.ops.spd_ray.add_norm(flat, numbers, least, scale, also, gamma, beta, eps)
        ctx.save_for_backward(normal, inverse, gamma, numbers)
        ctx.least, ctx.scale = least, scale
        return y.view(h.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        normal, inverse, gamma, numbers = ctx.saved_tensors
        dy, shape = grads[0].contiguous(), grads[0].shape
        found = torch.ops.spd_ray.add_norm_gradient(dy, normal, inverse, gamma, numbers, ctx.least, ctx.scale)
        dh, dx, dgamma, dbeta = found
        return dh.view(shape), dx.view(shape), dgamma, dbeta, None, None, None, None


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        mask: Tensor | None,
        scale: float,
        numbers: Tensor | None,
        least: int,
        kept_scale: float,
    ) -> Any:
        p, dropped = torch.ops.spd_ray.softmax(scores.contiguous(), mask, scale, numbers, least, kept_scale)
        ctx.save_for_backward(p, numbers)
        ctx.scale, ctx.least, ctx.kept_scale = scale, least, kept_scale
        ctx.set_materialize_grads(False)
        return p if numbers is None else (p, dropped)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        p, numbers = ctx.saved_tensors
        dp, ddropped = (None if grad is None else grad.contiguous() for grad in (*grads, None)[:2])
        dscores = torch.ops.spd_ray.softmax_gradient(p, dp, ddropped, ctx.scale, numbers, ctx.least, ctx.kept_scale)
        return dscores, None, None, None, None, None
