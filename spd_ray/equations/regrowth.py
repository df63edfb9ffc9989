"""Masks that grow again, as pure functions: weights that score low give their places to weights that were pruned.

Symbols: w a weight, g = dL/dw the dense gradient (also where w is pruned), k weights are kept.
"""

import math

from torch import Tensor

from spd_ray.equations.masks import highest, zeros_asked


def exchanged_share(step: int, end: int, share: float) -> float:
    """The share of the kept weights that gives way after `step` steps; none at `end`.

    f_decay of Evci et al. 2020, Section 3: alpha / 2 (1 + cos(pi t / T_end)), alpha = `share`.

    >>> [round(exchanged_share(t, 8, 0.3), 6) for t in (0, 4, 8)]
    [0.3, 0.15, 0.0]
    """
    return share / 2.0 * (1.0 + math.cos(math.pi * step / end))


def exploration_score(gradient: Tensor, active: Tensor, step: int, bonus: float, epsilon: float) -> Tensor:
    """|g| + c ln t / (N + epsilon), Huang et al. 2022 (arXiv:2211.16667): which pruned weights come back.

    N = `active` is how many events have left the weight in the mask, t = `step`, c = `bonus`; with c = 0 it is RigL's.

    >>> import torch
    >>> counts = torch.tensor([0.0, 1.0])
    >>> exploration_score(torch.tensor([-1.0, 2.0]), counts, step=1, bonus=0.5, epsilon=1.0).tolist()
    [1.0, 2.0]
    >>> [round(x, 4) for x in exploration_score(torch.zeros(2), counts, step=8, bonus=1.0, epsilon=1.0).tolist()]
    [2.0794, 1.0397]
    """
    return gradient.abs() + bonus * math.log(step) / (active + epsilon)


def exchanged_mask(scores: Tensor, growth: Tensor, mask: Tensor, sparsity: float, share: float) -> Tensor:
    """Drop and grow, Evci et al. 2020, Algorithm 1: of k weights that are kept, floor(share k) have the highest growth.

    The others are those of `mask` with the highest `scores`. What was just dropped may come back at once. A mask that
    has pruned nothing yet exchanges nothing.

    >>> import torch
    >>> scores, growth = torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([0.0, 0.0, 5.0, 6.0])
    >>> exchanged_mask(scores, growth, torch.tensor([True, True, True, False]), 0.5, 0.5).tolist()
    [True, False, False, True]
    """
    kept = scores.numel() - zeros_asked(scores.numel(), sparsity)
    grown = 0 if bool(mask.all()) else int(share * kept)
    strong = highest(scores, mask, kept - grown)
    return strong | highest(growth, ~strong, grown)


def partition(turn: int, layers: int, partitions: int) -> list[int]:
    """The layers that are dense after event `turn` = 0, 1, ...: one after the other of so many runs of layers.

    The cyclic schedule of Ma et al. 2021 (arXiv:2106.09857), Section 3; no more partitions than layers.

    >>> [partition(turn, layers=4, partitions=2) for turn in range(3)], partition(1, layers=2, partitions=4)
    ([[0, 1], [2, 3], [0, 1]], [1])
    """
    count = min(partitions, layers)
    return [layer for layer in range(layers) if layer * count // layers == turn % count]
