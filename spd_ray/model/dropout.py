"""Dropout, with random numbers that are cheap on a CPU."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16


def drop(input: Tensor, p: float, training: bool) -> Tensor:
    """F.dropout, on a CPU from 16 random bits an element: a fifth of the time of PyTorch's Bernoulli numbers.

    There p is rounded to a multiple of 1 / 65536.
    """
    if not training or p == 0.0:
        return input
    if input.device.type != "cpu":
        return F.dropout(input, p)
    dropped = round(p * LEVELS)
    words = torch.empty(math.ceil(input.numel() / 4), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.int16)[: input.numel()].view(input.shape) >= dropped - LEVELS // 2
    return input * kept.to(input.dtype).mul_(LEVELS / (LEVELS - dropped))


class Dropout(nn.Dropout):
    """nn.Dropout by `drop`."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        return drop(input, self.p, self.training)
