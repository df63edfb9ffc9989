"""Magnitude masks: exactly k weights kept, nested from one pruning event to the next."""

from collections.abc import Sequence

import torch
from torch import Tensor


def zeros_asked(numel: int, sparsity: float) -> int:
    """How many of `numel` weights are zero at `sparsity`: round(sparsity * numel).

    >>> zeros_asked(4096, 0.9)
    3686
    """
    return round(sparsity * numel)


def magnitude_mask(weight: Tensor, mask: Tensor, sparsity: float) -> Tensor:
    """The projection of Eq. (3), Huang et al. 2022, onto ||w||_0 <= k: keep the k largest |w|.

    `weight` and `mask` have one shape, `mask` is bool with True for kept. Only weights that `mask` keeps can
    be kept (masks are nested: nothing regrows), and exactly `numel - zeros_asked(numel, sparsity)` are, unless
    `mask` already keeps fewer: then it is returned as it is. Among equal magnitudes the earlier one is kept.

    Departs from: the public code's `>= threshold`, which keeps more than k weights on ties.
    """
    kept = weight.numel() - zeros_asked(weight.numel(), sparsity)
    if kept >= int(mask.sum()):
        return mask
    magnitude = weight.detach().abs().masked_fill(~mask, -1.0).flatten()
    order = torch.argsort(magnitude, descending=True, stable=True)
    nested = torch.zeros_like(mask).flatten()
    nested[order[:kept]] = True
    return nested.view_as(mask)


def global_magnitude_masks(weights: Sequence[Tensor], masks: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """`magnitude_mask` over all matrices at once: one ranking, so that matrices end at different sparsities."""
    flat = [torch.cat([tensor.detach().flatten() for tensor in tensors]) for tensors in (weights, masks)]
    kept = magnitude_mask(flat[0], flat[1], sparsity)
    parts = kept.split([mask.numel() for mask in masks])
    return [part.view_as(mask) for part, mask in zip(parts, masks, strict=True)]
