"""Sparse x dense products with gradients: compiled where they can be, plain torch where they cannot.

Activations are feature-major in tiles, (tiles, features, width), width tokens side by side (64, or 32 or 16).
Shapes: O output and I input features, N kept weights, T tokens.

Why so: docs/decisions.md #compiled-once-a-machine-or-plain-torch.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from spd_ray.kernels.build import available

WIDTH = 64  # tokens of a tile
MOST_COLUMNS = 1 << 16


@dataclass(frozen=True)
class Pattern:
    """Where a matrix (O, I) has its kept weights: its CSR index, and that of its transpose."""

    shape: tuple[int, int]
    columns: Tensor  # (N,) uint16, ascending in a row
    rows: Tensor  # (O + 1,) int32, where each row begins
    transposed_columns: Tensor  # (N,) uint16
    transposed_rows: Tensor  # (I + 1,) int32
    order: Tensor  # (N,) int64: values[order] are the transpose's values

    @classmethod
    def of(cls, mask: Tensor) -> "Pattern":
        """The pattern of a boolean mask (O, I). Raises ValueError if a row or column is longer than 65,536."""
        if mask.dim() != 2 or max(mask.shape) > MOST_COLUMNS:
            raise ValueError(f"a matrix of at most {MOST_COLUMNS} a side is expected, got {tuple(mask.shape)}")
        out, inputs = mask.shape
        row, column = mask.nonzero(as_tuple=True)
        order = (column * out + row).argsort()
        return cls(
            (out, inputs),
            column.to(torch.int32).to(torch.uint16),
            _starts(row, out),
            row[order].to(torch.int32).to(torch.uint16),
            _starts(column, inputs),
            order,
        )

    def values_of(self, weight: Tensor) -> Tensor:
        """The kept weights (N,) of a dense `weight` (O, I), row after row."""
        return weight.flatten()[self._flat()]

    def dense(self, values: Tensor) -> Tensor:
        """The matrix (O, I) whose kept weights are `values` (N,)."""
        weight = values.new_zeros(self.shape[0] * self.shape[1])
        return weight.index_put((self._flat(),), values).view(self.shape)

    def _flat(self) -> Tensor:
        counts = (self.rows[1:] - self.rows[:-1]).long()
        row = torch.arange(self.shape[0]).repeat_interleave(counts)
        return row * self.shape[1] + self.columns.to(torch.int32).long()


def _starts(indices: Tensor, length: int) -> Tensor:
    counts = torch.bincount(indices, minlength=length)
    return F.pad(counts.cumsum(0), (1, 0)).to(torch.int32)


def to_tiles(x: Tensor, width: int = WIDTH) -> Tensor:
    """(T, features) fp32 -> (tiles, features, width); the last tile is filled up with zeros. With gradient."""
    return _Tile.apply(x, width) if _compiled(x) else _tile_in_torch(x, width)


def from_tiles(x: Tensor, tokens: int) -> Tensor:
    """(tiles, features, width) -> (tokens, features): `to_tiles` undone. With gradient."""
    if _compiled(x):
        return _Untile.apply(x, tokens)
    return x.transpose(1, 2).flatten(0, 1)[:tokens]


def sparse_linear(x: Tensor, values: Tensor, pattern: Pattern, bias: Tensor | None = None) -> Tensor:
    """Tiles (tiles, I, width) -> (tiles, O, width): the matrix of `values` and `pattern` times x, plus bias (O,).

    Gradients flow to x, values and bias. `values` (N,) are fp32 or bf16, in which case sums and x stay fp32. On the
    CPU in fp32 the compiled kernels compute; elsewhere, and where they cannot be built, plain torch. Raises
    RuntimeError for shapes that do not fit.
    """
    if x.dim() != 3 or x.shape[1] != pattern.shape[1]:
        raise RuntimeError(f"x: (tiles, {pattern.shape[1]} features, width) is expected, got {tuple(x.shape)}")
    if not _compiled(x) or values.dtype not in (torch.float32, torch.bfloat16):
        y = torch.matmul(pattern.dense(values).to(x.dtype), x)
        return y if bias is None else y + bias[:, None]
    return _SparseLinear.apply(x, values, bias, pattern)


def _compiled(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and available()


def _tile_in_torch(x: Tensor, width: int) -> Tensor:
    tokens, features = x.shape
    padded = F.pad(x, (0, 0, 0, -tokens % width))
    return padded.view(-1, width, features).transpose(1, 2).contiguous()


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, pattern: Pattern) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, values)
        ctx.pattern = pattern
        return torch.ops.spd_ray.product(values.contiguous(), pattern.columns, pattern.rows, x, bias, None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        dy = grads[0].contiguous()
        x, values = ctx.saved_tensors
        pattern = ctx.pattern
        dx = dvalues = dbias = None
        if ctx.needs_input_grad[0]:
            transposed = values[pattern.order]
            dx = torch.ops.spd_ray.product(
                transposed, pattern.transposed_columns, pattern.transposed_rows, dy, None, None
            )
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            dvalues, dbias = torch.ops.spd_ray.dots(pattern.columns, pattern.rows, dy, x)
            dvalues = dvalues.to(values.dtype)
        return dx, dvalues, dbias if ctx.needs_input_grad[2] else None, None


class _Tile(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, width: int) -> Tensor:
        ctx.tokens = x.shape[0]
        return torch.ops.spd_ray.tile(x.contiguous(), width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return torch.ops.spd_ray.untile(grads[0].contiguous(), ctx.tokens), None


class _Untile(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, tokens: int) -> Tensor:
        ctx.width, ctx.tiles = x.shape[2], x.shape[0]
        return torch.ops.spd_ray.untile(x.contiguous(), tokens)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        tiles = torch.ops.spd_ray.tile(grads[0].contiguous(), ctx.width)
        return F.pad(tiles, (0, 0, 0, 0, 0, ctx.tiles - tiles.shape[0])), None
