"""Scores over dev examples: their intervals, and paired tests between two models that answered the same ones.

Shapes: N examples, B resamples, K classes. What holds here is conditional on the trained models: another seed is
another model.
"""

from functools import lru_cache

import numpy as np
from scipy import special

from analysis.numbers.statistics import GENERATOR_SEED, LEVEL

SAMPLES = 2_000  # B
OF_CLASSES, OF_NUMBERS = ("accuracy", "f1", "macro_f1", "matthews"), ("spearman", "pearson", "neg_mse")
METRICS = (*OF_CLASSES, *OF_NUMBERS)  # those that are known here: not a function of the user's own


def score(metric: str, label: np.ndarray, answer: np.ndarray) -> float:
    """One of `METRICS`, of answers (N,) to labels (N,); F1 is of class 1.

    >>> label, answer = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])
    >>> [round(score(metric, label, answer), 3) for metric in ("accuracy", "f1", "matthews", "spearman")]
    [0.75, 0.667, 0.577, 0.577]
    """
    return float(_scores(metric, label, answer, np.ones((1, len(label))))[0])


def score_interval(metric: str, label: np.ndarray, answer: np.ndarray) -> tuple[float, float]:
    """The 95% percentile interval of the score over resampled examples."""
    low, high = np.quantile(_scores(metric, label, answer, _weights(len(label))), _tails())
    return float(low), float(high)


def difference_interval(metric: str, label: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The 95% interval of the first model's score minus the other's: both answer the same resampled examples."""
    low, high = np.quantile(_differences(metric, label, one, other), _tails())
    return float(low), float(high)


def paired_p(metric: str, label: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """Two-sided p that the two models are equal: McNemar's of their errors, for regression the paired bootstrap's."""
    if metric in OF_CLASSES:
        return mcnemar(one == label, other == label)
    differences = _differences(metric, label, one, other)
    least = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (least + 1) / (SAMPLES + 1))


def mcnemar(right: np.ndarray, other_right: np.ndarray) -> float:
    """The exact two-sided p of McNemar's test: among the examples that one alone gets right, each does so in half.

    right, other_right: (N,) bool. With b and c of them p = 2 P(X <= min(b, c)), X ~ Binomial(b + c, 1/2).

    >>> right, other = np.repeat([True, False], [10, 2]), np.repeat([False, True], [10, 2])
    >>> round(mcnemar(right, other), 4)  # 2 (1 + 12 + 66) / 4096
    0.0386
    """
    b, c = int((right & ~other_right).sum()), int((~right & other_right).sum())
    return min(1.0, 2 * float(special.bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0


def _differences(metric: str, label: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(B,) differences of the scores on the same resampled examples."""
    weights = _weights(len(label))
    return _scores(metric, label, one, weights) - _scores(metric, label, other, weights)


def _tails() -> tuple[float, float]:
    return (1 - LEVEL) / 2, (1 + LEVEL) / 2


@lru_cache(maxsize=2)
def _weights(n: int) -> np.ndarray:
    """(B, N) how often each example is in each resample."""
    draws = np.random.default_rng(GENERATOR_SEED).integers(n, size=(SAMPLES, n))
    return np.stack([np.bincount(row, minlength=n) for row in draws]).astype(float)


def _scores(metric: str, label: np.ndarray, answer: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) scores of weighted examples; a score without a denominator is 0."""
    if metric == "accuracy":
        return weights @ (label == answer) / weights.sum(axis=1)
    if metric == "spearman":
        return _correlation(_ranks(label, weights), _ranks(answer, weights), weights)
    if metric == "pearson":
        return _correlation(_centred(label, weights), _centred(answer, weights), weights)
    if metric == "neg_mse":
        return -(weights @ np.square(answer - label)) / weights.sum(axis=1)
    classes = np.array([1]) if metric == "f1" else np.union1d(label, answer)
    is_class, is_said = label[:, None] == classes, answer[:, None] == classes  # (N, K)
    in_class, said, both = weights @ is_class, weights @ is_said, weights @ (is_class & is_said)  # (B, K)
    if metric in ("f1", "macro_f1"):
        return _divide(_divide(2 * both, in_class + said).sum(axis=1), (in_class + said > 0).sum(axis=1))
    assert metric == "matthews", metric
    total = weights.sum(axis=1)
    below = (total**2 - np.square(said).sum(axis=1)) * (total**2 - np.square(in_class).sum(axis=1))
    return _divide(total * both.sum(axis=1) - (in_class * said).sum(axis=1), np.sqrt(below))


def _centred(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, N) values from which the mean of each resample is taken."""
    return values - (weights @ values / weights.sum(axis=1))[:, None]


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, N) centred ranks, equal values their mean rank, of examples of which resample b holds weights[b, i]."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(group[order]) > 0))
    held = np.add.reduceat(weights[:, order], starts, axis=1)  # (B, distinct values)
    ranks = held.cumsum(axis=1) - (held - 1) / 2
    return ranks[:, group] - (weights.sum(axis=1, keepdims=True) + 1) / 2


def _correlation(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) weighted correlations of centred values (B, N)."""
    products = [np.einsum("bi,bi,bi->b", weights, a, b) for a, b in ((one, other), (one, one), (other, other))]
    return _divide(products[0], np.sqrt(products[1] * products[2]))


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(below, dtype=float), where=np.asarray(below) > 0)
