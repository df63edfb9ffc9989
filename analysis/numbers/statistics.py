"""Estimates over seeds with 95% intervals: one bootstrap for every claim, paired where seeds are shared.

Shapes: G configurations, B bootstrap samples, K contrasts.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
SAMPLES = 10_000  # B
_BLOCK = 1_000  # samples drawn at once
GENERATOR_SEED = 0
FEWEST_SEEDS = 3  # with fewer, no interval is trusted
MOST_SEEDS = 1_000  # beyond so many, "more than" is said

Scores = dict[int, float]  # seed -> score of one configuration
Contrasts = Callable[[np.ndarray], np.ndarray]  # means (B, G) -> what a claim says is above 0 (B, K)


class Estimate(NamedTuple):
    """The least of the contrasts of some configurations' means, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int  # seeds of the configuration that has the fewest
    paired: bool  # whether all configurations were drawn by the same seeds
    spread: float  # standard deviation of the least contrast under one seed


@lru_cache
def t_quantile(freedom: int, level: float = LEVEL) -> float:
    """Student's t that `level` of the mass lies within on both sides, by numeric integration of its density.

    >>> round(t_quantile(2), 3), round(t_quantile(9), 3)
    (4.303, 2.262)
    """
    if freedom > 200:
        return NormalDist().inv_cdf((1 + level) / 2)
    angle = np.linspace(0, math.pi / 2, 200_001)  # x = sqrt(v) tan(angle): the density becomes cos(angle)^(v - 1)
    density = np.cos(angle) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(math.sqrt(freedom) * math.tan(np.interp(level, mass / mass[-1], angle)))


def bootstrap(groups: Sequence[Scores], contrasts: Contrasts) -> Estimate:
    """The least of K contrasts of the configurations' means over seeds, with its 95% interval.

    The claim behind it is that every contrast is above 0. Seeds are resampled B times: paired (one draw of seeds for
    all configurations, over the seeds that all share) where they share at least three, or have the same; else each
    configuration's seeds on their own. Each contrast has the percentile interval of its resamples, or Student's t
    with n - 1 degrees of freedom and the resamples' standard error, whichever reaches further: for few seeds the
    percentile interval is too narrow (three seeds of one sign would settle a claim in one of four cases by chance).

    The interval of the least: low = the least low end (the contrast that is truly least keeps above its own low end
    with 97.5%); high = the least high end at level 1 - 0.05 / K (Bonferroni). Taking the minimum inside the bootstrap
    instead is biased downwards: among equal configurations it would call every such claim false.
    """
    scores, n, paired = _aligned(groups)
    value = contrasts(np.array([[values.mean() for values in scores]]))[0]
    least = int(value.argmin())
    if n == 1:
        return Estimate(float(value[least]), -math.inf, math.inf, n, paired, math.inf)
    resampled = contrasts(_resample(scores, n, paired))
    error = resampled.std(axis=0) * math.sqrt(n / (n - 1))  # (K,) of a mean over n seeds
    outer = 1 - (1 - LEVEL) / len(value)
    low = np.minimum(np.quantile(resampled, (1 - LEVEL) / 2, axis=0), value - t_quantile(n - 1) * error)
    high = np.maximum(np.quantile(resampled, (1 + outer) / 2, axis=0), value + t_quantile(n - 1, outer) * error)
    return Estimate(
        float(value[least]), float(low.min()), float(high.min()), n, paired, float(error[least] * math.sqrt(n))
    )


def _aligned(groups: Sequence[Scores]) -> tuple[list[np.ndarray], int, bool]:
    """Each configuration's scores, the seeds of the one that has the fewest, and whether they are paired."""
    shared = set.intersection(*(set(group) for group in groups))
    paired = len(shared) >= FEWEST_SEEDS or all(set(group) == shared for group in groups)
    kept = [sorted(shared) if paired else sorted(group) for group in groups]
    scores = [np.array([group[seed] for seed in seeds]) for group, seeds in zip(groups, kept, strict=True)]
    n = min(len(values) for values in scores)
    assert n > 0, "every configuration needs a seed"
    return scores, n, paired


def _resample(scores: Sequence[np.ndarray], n: int, paired: bool) -> np.ndarray:
    """Means of resampled seeds, (B, G), in blocks that keep the memory small where seeds are many."""
    generator = np.random.default_rng(GENERATOR_SEED)
    blocks = []
    for _ in range(SAMPLES // _BLOCK):
        picked = generator.integers(n, size=(_BLOCK, n))
        blocks.append(np.stack([
            values[picked if paired else generator.integers(len(values), size=(_BLOCK, len(values)))].mean(axis=1)
            for values in scores
        ], axis=1))  # fmt: skip
    return np.concatenate(blocks)


def seeds_needed(estimate: Estimate) -> int | None:
    """How many more seeds would set the interval to one side of 0 if estimate and variance stayed as they are.

    The smallest n with t_{n-1} s / sqrt(n) < |estimate|, s the standard deviation of one seed, less the seeds there
    are; at least one, and at least what is missing to three. None where it is more than 1,000 or s is not known.
    """
    if not math.isfinite(estimate.spread):
        return None
    for n in range(max(FEWEST_SEEDS, estimate.n + 1), MOST_SEEDS + 1):
        if t_quantile(n - 1) * estimate.spread / math.sqrt(n) < abs(estimate.value):
            return n - estimate.n
    return None


def difference(means: np.ndarray) -> np.ndarray:
    """First configuration minus second: (B, 2) -> (B, 1)."""
    return means[:, :1] - means[:, 1:2]


def first_above_others(means: np.ndarray) -> np.ndarray:
    """First configuration minus each other: (B, G) -> (B, G - 1); the least is the first minus the best other."""
    return means[:, :1] - means[:, 1:]


def others_above_first(means: np.ndarray) -> np.ndarray:
    """Each other configuration minus the first: (B, G) -> (B, G - 1)."""
    return means[:, 1:] - means[:, :1]


def descents(means: np.ndarray) -> np.ndarray:
    """The fall from each configuration to the next: (B, G) -> (B, G - 1)."""
    return means[:, :-1] - means[:, 1:]


def themselves(means: np.ndarray) -> np.ndarray:
    """The means as they are: (B, G) -> (B, G)."""
    return means


def slope_over(x: Sequence[float]) -> Contrasts:
    """The least-squares slope of the configurations' means over `x` (G values, not all the same): (B, G) -> (B, 1)."""
    centred = np.asarray(x, dtype=float) - np.mean(x)
    return lambda means: (means @ centred / float(centred @ centred))[:, None]


def pareto(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Indices of the points that no other one beats (less or equal cost, more score), by ascending cost.

    >>> pareto(np.array([3.0, 1.0, 2.0, 2.0]), np.array([0.9, 0.5, 0.4, 0.7])).tolist()
    [1, 3, 0]
    """
    order = np.lexsort((-score, cost))
    front, best = [], -math.inf
    for index in order:
        if score[index] > best:
            front.append(int(index))
            best = score[index]
    return np.array(front, dtype=int)
