"""Estimates over seeds with 95% intervals: one bootstrap for every claim, paired where seeds are shared.

Shapes: G configurations, B bootstrap samples, K contrasts. What a claim compares is in `contrasts`.

Why so: docs/decisions.md #verdicts-from-seeds.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.95
SAMPLES = 10_000  # B
GENERATOR_SEED = 0
FEWEST_SEEDS = 3  # with fewer, no interval is trusted

SeedScores = dict[int, float]  # seed -> score of one configuration
Contrasts = Callable[[np.ndarray], np.ndarray]  # means (B, G) -> what a claim says is above 0 (B, K)


class Estimate(NamedTuple):
    """The smallest contrast of some configurations' means, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int  # seeds of the configuration that has the fewest
    paired: bool  # whether all configurations were drawn by the same seeds
    spread: float  # standard deviation of a contrast under one seed, of the contrast that varies most
    contrasts: int = 1  # K
    p: float = 1.0  # two-sided: the smallest level at which the interval would not contain 0


def t_quantile(freedom: int, level: float = LEVEL) -> float:
    """The t such that `level` of Student's distribution with `freedom` degrees lies between -t and t.

    >>> round(t_quantile(2), 3), round(t_quantile(9), 3)
    (4.303, 2.262)
    """
    return float(special.stdtrit(freedom, (1 + level) / 2))


def bootstrap(groups: Sequence[SeedScores], contrasts: Contrasts) -> Estimate:
    """The least of K contrasts of the configurations' means over seeds, with its 95% interval.

    The claim is that every contrast is above 0 (percentile bootstrap: Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13). Seeds are resampled B times: paired (one draw of seeds for
    all configurations, over the seeds that all share) where they share at least three, or have the same; else each
    configuration's seeds on their own. Each contrast has the percentile interval of its resamples, or Student's t
    with n - 1 degrees of freedom and the resamples' standard error, whichever reaches further: for few seeds the
    percentile interval is too narrow (three seeds of one sign would settle a claim in one of four cases by chance).

    The interval of the least: low = the least low end (the contrast that is truly least keeps above its own low end
    with 97.5%: an intersection-union test, Berger 1982); high = the least high end at level 1 - 0.05 / K (Bonferroni).
    Taking the minimum inside the bootstrap instead is biased downwards: among equal configurations it would call every
    such claim false. `p` is that of the same interval, so that verdicts can be corrected for their number.
    """
    scores, n, paired = align(groups)
    value = contrasts(np.array([[values.mean() for values in scores]]))[0]
    least, k = int(value.argmin()), len(value)
    if n == 1:
        return Estimate(float(value[least]), -math.inf, math.inf, n, paired, math.inf, k)
    resampled = contrasts(_resample(scores, n, paired))
    error = resampled.std(axis=0) * math.sqrt(n / (n - 1))  # (K,) of a mean over n seeds
    outer = 1 - (1 - LEVEL) / k
    low = np.minimum(np.quantile(resampled, (1 - LEVEL) / 2, axis=0), value - t_quantile(n - 1) * error)
    high = np.maximum(np.quantile(resampled, (1 + outer) / 2, axis=0), value + t_quantile(n - 1, outer) * error)
    above, below = (_one_sided(side * value, side * resampled, error, n) for side in (1, -1))
    p = min(1.0, 2 * above.max(), 2 * k * below.min())
    spread = float(error.max() * math.sqrt(n))
    return Estimate(float(value[least]), float(low.min()), float(high.min()), n, paired, spread, k, float(p))


def _one_sided(value: np.ndarray, resampled: np.ndarray, error: np.ndarray, n: int) -> np.ndarray:
    """(K,) levels at which each contrast's interval begins to lie above 0: the larger of Student's and the resamples'.

    value (K,), resampled (B, K), error (K,) of a mean over n seeds.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        student = special.stdtr(n - 1, -np.nan_to_num(value / error, nan=0.0, posinf=np.inf, neginf=-np.inf))
    return np.maximum(student, (resampled <= 0).mean(axis=0))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number: those at most 0.05 stand together at a family-wise level of 5% (Holm 1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def align(groups: Sequence[SeedScores]) -> tuple[list[np.ndarray], int, bool]:
    """Each configuration's scores, the seeds of the one that has the fewest, and whether they are paired."""
    shared = set.intersection(*(set(group) for group in groups))
    paired = len(shared) >= FEWEST_SEEDS or all(set(group) == shared for group in groups)
    kept = [sorted(shared) if paired else sorted(group) for group in groups]
    scores = [np.array([group[seed] for seed in seeds]) for group, seeds in zip(groups, kept, strict=True)]
    n = min(len(values) for values in scores)
    assert n > 0, "every configuration needs a seed"
    return scores, n, paired


def _resample(scores: Sequence[np.ndarray], n: int, paired: bool) -> np.ndarray:
    """Means of resampled seeds, (B, G)."""
    if paired:
        return _weights(n) @ np.stack(scores, axis=1)
    return np.stack([_weights(len(values), group) @ values for group, values in enumerate(scores)], axis=1)


@lru_cache(maxsize=32)
def _weights(n: int, stream: int = 0) -> np.ndarray:
    """What each of n seeds weighs in each resample's mean, (B, n); drawn from `stream` of the one generator."""
    picked = np.random.default_rng([GENERATOR_SEED, stream]).integers(n, size=(SAMPLES, n))
    weights = np.zeros((SAMPLES, n))
    np.add.at(weights, (np.arange(SAMPLES)[:, None], picked), 1 / n)
    return weights
