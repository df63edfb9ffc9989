"""Scores by which weights are pruned, as pure functions: the rows of `criterion_table`.

Symbols: w a weight, g = dL/dw the gradient of a batch's loss, `product` = w g elementwise, both of one step.
Statistics are tensors by name, none at first. Scores have the shape of the weight; the higher stay.

Why so: docs/decisions.md #one-table-of-criteria.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Statistics = Mapping[str, Tensor]
Settings = Mapping[str, Any]
NUMBERS_AT_ONCE = 2**22  # of inverses that are held at once


def magnitude_score(weight: Tensor, statistics: Statistics, settings: Settings) -> Tensor:
    """|w|: Eq. (3), Huang et al. 2022."""
    return weight.abs()


def movement_update(product: Tensor, statistics: Statistics, settings: Settings) -> dict[str, Tensor]:
    """S <- S - w g. Sanh et al. 2020, Section 4: S^(T) = -alpha sum_{t<T} (dL/dW W)^(t), a score for each weight.

    A weight scores high that moves away from 0. The rate alpha of the paper's scores changes no order, so it is 1.

    >>> first = movement_update(torch.tensor([2.0, -1.0]), {}, {})
    >>> movement_update(torch.tensor([1.0, -1.0]), first, {})["movement"].tolist()
    [-3.0, 2.0]
    """
    return {"movement": statistics.get("movement", torch.zeros_like(product)) - product}


def movement_score(weight: Tensor, statistics: Statistics, settings: Settings) -> Tensor:
    """S; 0 where no step has been seen."""
    return statistics.get("movement", torch.zeros_like(weight))


def soft_movement_update(product: Tensor, statistics: Statistics, settings: Settings) -> dict[str, Tensor]:
    """Scores S from 0 by Adam on the loss plus a penalty: Sanh et al. 2020, Section 4, "soft movement pruning".

    Of n weights the gradient by S is w g (straight through) + lambda / n sigma'(S), that of lambda mean(sigma(S)), with
    lambda = `penalty`; the rate is `score_lr`. Adam's first step has the length of the rate, whatever the gradient is.
    The paper's code takes the mean of these means over its matrices too: its lambda is theirs times the penalty here.

    >>> settings = {"penalty": 0.0, "score_lr": 0.5}
    >>> soft_movement_update(torch.tensor([2.0, -0.1]), {}, settings)["soft_movement"].round(decimals=4).tolist()
    [-0.5, 0.5]
    """
    zeros = torch.zeros_like(product)
    scores, first, second = (statistics.get(name, zeros) for name in ("soft_movement", "score_first", "score_second"))
    taken = statistics.get("score_steps", product.new_zeros(())) + 1.0
    kept = torch.sigmoid(scores)
    gradient = product + settings["penalty"] / product.numel() * kept * (1.0 - kept)
    first = first.lerp(gradient, 0.1)
    second = second.lerp(gradient.square(), 0.001)
    direction = first / (1.0 - 0.9**taken) / ((second / (1.0 - 0.999**taken)).sqrt() + 1e-8)
    scores = scores - settings["score_lr"] * direction
    return {"soft_movement": scores, "score_first": first, "score_second": second, "score_steps": taken}


def soft_movement_score(weight: Tensor, statistics: Statistics, settings: Settings) -> Tensor:
    """sigma(S): a weight stays while it is above `threshold`; 1/2 where no step has been seen.

    >>> soft_movement_score(torch.ones(2), {"soft_movement": torch.tensor([0.0, -9.0])}, {}).gt(0.1).tolist()
    [True, False]
    """
    return torch.sigmoid(statistics.get("soft_movement", torch.zeros_like(weight)))


def passing_share(scores: Iterable[Tensor], masks: Iterable[Tensor], threshold: float) -> float:
    """The share of all weights that are kept and whose score is above `threshold`.

    >>> passing_share([torch.tensor([0.5, 0.05, 0.5, 0.5])], [torch.tensor([True, True, True, False])], 0.1)
    0.5
    """
    passing, count = 0, 0
    for own, mask in zip(scores, masks, strict=True):
        passing, count = passing + int(((own > threshold) & mask).sum()), count + mask.numel()
    return passing / count


def platon_update(product: Tensor, statistics: Statistics, settings: Settings) -> dict[str, Tensor]:
    """The moving averages of PLATON, Zhang et al. 2022, Section 3: from 0, with I the mean of |w g| of `window` steps,

    sensitivity <- beta1 sensitivity + (1 - beta1) I, then with U = |I - sensitivity|
    uncertainty <- beta2 uncertainty + (1 - beta2) U, once a window, at its last step.

    >>> settings = {"beta1": 0.5, "beta2": 0.75, "window": 2}
    >>> first = platon_update(torch.tensor([-4.0]), {}, settings)
    >>> [first[name].item() for name in ("window", "sensitivity", "uncertainty")]
    [4.0, 0.0, 0.0]
    >>> second = platon_update(torch.tensor([2.0]), first, settings)
    >>> [second[name].item() for name in ("window", "sensitivity", "uncertainty")]
    [3.0, 1.5, 0.375]
    """
    zeros = torch.zeros_like(product)
    taken = statistics.get("window_steps", product.new_zeros(())) + 1.0
    window = statistics.get("window", zeros).lerp(product.abs(), 1.0 / taken)
    ends = (taken >= settings["window"]).float()  # 1 or 0, a tensor: no step waits for the device
    known = {name: statistics.get(name, zeros) for name in ("sensitivity", "uncertainty")}
    return {"window": window, "window_steps": taken * (1.0 - ends)} | _platon_averages(known, window, ends, settings)


def _platon_averages(known: Statistics, window: Tensor, share: Tensor, settings: Settings) -> dict[str, Tensor]:
    """Both averages after `window` where `share` is 1, and as they were where it is 0."""
    sensitivity = known["sensitivity"].lerp(window, (1.0 - settings["beta1"]) * share)
    distance = (window - sensitivity).abs()
    uncertainty = known["uncertainty"].lerp(distance, (1.0 - settings["beta2"]) * share)
    return {"sensitivity": sensitivity, "uncertainty": uncertainty}


def platon_score(weight: Tensor, statistics: Statistics, settings: Settings) -> Tensor:
    """S = sensitivity uncertainty, elementwise: the upper confidence bound of Zhang et al. 2022, Section 3.

    A window that an event cuts counts as if it ended there. 0 where no step has been seen.

    >>> known = {"sensitivity": torch.tensor([2.0]), "uncertainty": torch.tensor([0.5])}
    >>> known |= {"window": torch.tensor([9.0]), "window_steps": torch.tensor(0.0)}
    >>> platon_score(torch.zeros(1), known, {"beta1": 0.5, "beta2": 0.5}).item()
    1.0
    """
    if "sensitivity" not in statistics:
        return torch.zeros_like(weight)
    cut = (statistics["window_steps"] > 0).float()
    averages = _platon_averages(statistics, statistics["window"], cut, settings)
    return averages["sensitivity"] * averages["uncertainty"]


def fisher_update(gradient: Tensor, statistics: Statistics, settings: Settings) -> dict[str, Tensor]:
    """F <- F + g g^T / m over blocks of `block_size` B weights in a row: the empirical Fisher of Kurtic et al. 2022.

    (1/m) sum_i g_i g_i^T for the m = `gradients` gradients of an event, block by block; (blocks, B, B), the last block
    filled up with zeros. B = 1 is the diagonal.

    >>> two = fisher_update(torch.tensor([1.0, 2.0, 3.0]), {}, {"block_size": 2, "gradients": 2})["fisher"]
    >>> two.tolist()
    [[[0.5, 1.0], [1.0, 2.0]], [[4.5, 0.0], [0.0, 0.0]]]
    """
    blocks = _in_blocks(gradient, settings["block_size"])
    fisher = statistics.get("fisher")
    if fisher is None:
        fisher = blocks.new_zeros(*blocks.shape, blocks.shape[1])
    return {"fisher": fisher.baddbmm(blocks.unsqueeze(2), blocks.unsqueeze(1), alpha=1.0 / settings["gradients"])}


def fisher_score(weight: Tensor, statistics: Statistics, settings: Settings) -> Tensor:
    """rho_i = w_i^2 / (2 [(F + lambda I)^-1]_ii): what the loss rises by without w_i (Kurtic et al. 2022, Section 3).

    lambda = `damping`. Of the diagonal it is w_i^2 (F_ii + lambda) / 2.

    >>> diagonal = {"fisher": torch.tensor([[[3.0]], [[1.0]]])}
    >>> fisher_score(torch.tensor([1.0, 2.0]), diagonal, {"block_size": 1, "damping": 1.0}).tolist()
    [2.0, 4.0]
    """
    inverse_diagonals = [inverse.diagonal(dim1=1, dim2=2) for inverse in _inverses(statistics["fisher"], settings)]
    of_weights = torch.cat(inverse_diagonals).flatten()[: weight.numel()].view_as(weight)
    return (weight.double().square() / (2.0 * of_weights)).float()


def fisher_compensation(weight: Tensor, gone: Tensor, statistics: Statistics, settings: Settings) -> Tensor:
    """What the weights of a block change by when its weights `gone` (bool) are set to 0, so that the loss rises least.

    The optimal brain surgeon of a group Q, block by block (Kurtic et al. 2022, Section 3), H = F + lambda I:
    delta = -H^-1 E_Q^T (E_Q H^-1 E_Q^T)^-1 w_Q; w + delta is 0 on Q.

    >>> block = {"fisher": torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])}
    >>> settings = {"block_size": 2, "damping": 1.0}
    >>> fisher_compensation(torch.tensor([2.0, 5.0]), torch.tensor([True, False]), block, settings).tolist()
    [-2.0, 1.0]
    """
    size = settings["block_size"]
    blocks, chosen = _in_blocks(weight.double(), size), _in_blocks(gone.double(), size)
    changes, start = [], 0
    for inverse in _inverses(statistics["fisher"], settings):
        part = slice(start, start + len(inverse))
        start += len(inverse)
        q = chosen[part]
        among = q.unsqueeze(2) * inverse * q.unsqueeze(1) + torch.diag_embed(1.0 - q)
        multipliers = torch.linalg.solve(among, q * blocks[part])
        changes.append(-(inverse @ (q * multipliers).unsqueeze(2)).squeeze(2))
    return torch.cat(changes).flatten()[: weight.numel()].view_as(weight).float()


def _in_blocks(values: Tensor, size: int) -> Tensor:
    """`values` in rows of `size`, filled up with zeros."""
    flat = values.flatten()
    return torch.nn.functional.pad(flat, (0, -len(flat) % size)).view(-1, size)


def _inverses(fisher: Tensor, settings: Settings) -> Iterator[Tensor]:
    """(F + lambda I)^-1 of some blocks at a time, in fp64: of all at once it takes twice the memory of F."""
    damping = settings["damping"] * torch.eye(fisher.shape[1], dtype=torch.float64, device=fisher.device)
    for part in fisher.split(max(1, NUMBERS_AT_ONCE // fisher.shape[1] ** 2)):
        yield torch.linalg.inv(part.double() + damping)
