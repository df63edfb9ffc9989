"""Dropout, with random numbers that are cheap on a CPU.

Why so: docs/decisions.md #cheap-dropout.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spd_ray.kernels.between import Bits

LEVELS = 2**16


def drop(input: Tensor, p: float, training: bool) -> Tensor:
    """F.dropout, on a CPU from 16 random bits an element: a fifth of the time of PyTorch's Bernoulli numbers.

    There p is rounded to a multiple of 1 / 65536. A compiled graph draws its own.
    """
    if not training or p == 0.0:
        return input
    if input.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(input, p)
    bits = random_bits(input.numel(), p)
    kept = bits.numbers.view(input.shape) >= bits.least
    return input * kept.to(input.dtype).mul_(bits.scale)


def random_bits(count: int, p: float) -> Bits:
    """What drops `count` elements with probability p, to be applied in one pass with what comes next."""
    dropped = round(p * LEVELS)
    words = torch.empty(math.ceil(count / 4), dtype=torch.int64).random_(-(2**63), None)
    return Bits(words.view(torch.int16)[:count], dropped - LEVELS // 2, LEVELS / (LEVELS - dropped))


class Dropout(nn.Dropout):
    """nn.Dropout by `drop`."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        return drop(input, self.p, self.training)

    def bits_for(self, input: Tensor) -> Bits | None:
        """`random_bits` for what this layer would drop of `input`; None where it drops nothing."""
        return random_bits(input.numel(), self.p) if self.training and self.p > 0 else None
