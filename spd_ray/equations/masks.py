"""Masks by scores: exactly k weights kept, nested from one pruning event to the next."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def zeros_asked(numel: int, sparsity: float) -> int:
    """How many of `numel` weights are zero at `sparsity`: round(sparsity * numel).

    >>> zeros_asked(4096, 0.9)
    3686
    """
    return round(sparsity * numel)


def highest(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """The `count` highest `scores` of those that the bool tensor `among` names; of equal ones the earlier.

    >>> highest(torch.tensor([1.0, 9.0, 2.0, 2.0]), torch.tensor([True, False, True, True]), 2).tolist()
    [False, False, True, True]
    """
    order = torch.argsort(scores.masked_fill(~among, -torch.inf).flatten(), descending=True, stable=True)
    found = torch.zeros_like(among).flatten()
    found[order[:count]] = True
    return found.view_as(among)


def nested_mask(scores: Tensor, mask: Tensor, sparsity: float) -> Tensor:
    """Keep the k weights of the highest scores.

    `scores` and `mask` have one shape, `mask` is bool with True for kept. Only weights that `mask` keeps can
    be kept (masks are nested: nothing regrows), and exactly `numel - zeros_asked(numel, sparsity)` are, unless
    `mask` already keeps fewer: then it is returned as it is. Among equal scores the earlier one is kept.

    Departs from: the public code's `>= threshold`, which keeps more than k weights on ties.
    """
    kept = scores.numel() - zeros_asked(scores.numel(), sparsity)
    if kept >= int(mask.sum()):
        return mask
    return highest(scores, mask, kept)


def magnitude_mask(weight: Tensor, mask: Tensor, sparsity: float) -> Tensor:
    """The projection of Eq. (3), Huang et al. 2022, onto ||w||_0 <= k: `nested_mask` by |w|."""
    return nested_mask(weight.detach().abs(), mask, sparsity)


def global_nested_masks(scores: Iterable[Tensor], masks: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """`nested_mask` over all matrices at once: one ranking, so that matrices end at different sparsities."""
    flat = [torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (scores, masks)]
    kept = nested_mask(flat[0], flat[1], sparsity)
    parts = kept.split([mask.numel() for mask in masks])
    return [part.view_as(mask) for part, mask in zip(parts, masks, strict=True)]
