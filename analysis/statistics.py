"""Estimates over seeds with 95% intervals: one bootstrap for every claim, paired where seeds are shared.

Shapes: G configurations, S seeds, B bootstrap samples.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
SAMPLES = 10_000  # B
GENERATOR_SEED = 0
FEWEST_SEEDS = 3  # with fewer, no interval is trusted
MOST_SEEDS = 1_000  # beyond so many, "more than" is said

Scores = dict[int, float]  # seed -> score of one configuration
Statistic = Callable[[np.ndarray], np.ndarray]  # means (B, G) -> (B,)


class Estimate(NamedTuple):
    """A statistic of the configurations' means with its 95% interval."""

    value: float
    low: float
    high: float
    n: int  # seeds of the configuration that has the fewest
    paired: bool  # whether all configurations were drawn by the same seeds
    spread: float  # standard deviation that one seed alone would give the statistic


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


def bootstrap(groups: Sequence[Scores], statistic: Statistic) -> Estimate:
    """The statistic of the configurations' means over seeds, and its interval from B resamplings of the seeds.

    Paired (one draw of seeds for all configurations, over the seeds that all of them share) where they share at
    least three, or have the same; else each configuration's seeds are drawn on their own. A plain percentile
    interval is too narrow for few seeds; this one is Hesterberg's expanded percentile interval (2015, "What Teachers
    Should Know About the Bootstrap"): its ends are the quantiles a and 1 - a with
    a = Phi(-sqrt(n / (n - 1)) t_{n-1}), which for n = 3 are the extremes of the resampled statistic.
    """
    shared = set.intersection(*(set(group) for group in groups))
    paired = len(shared) >= FEWEST_SEEDS or all(set(group) == shared for group in groups)
    kept = [sorted(shared) if paired else sorted(group) for group in groups]
    scores = [np.array([group[seed] for seed in seeds]) for group, seeds in zip(groups, kept, strict=True)]
    n = min(len(values) for values in scores)
    if n == 0:
        raise ValueError("every configuration needs a seed")
    generator = np.random.default_rng(GENERATOR_SEED)
    drawn = np.empty((SAMPLES, len(scores)))
    picked = generator.integers(n, size=(SAMPLES, n))
    for column, values in enumerate(scores):
        rows = picked if paired else generator.integers(len(values), size=(SAMPLES, len(values)))
        drawn[:, column] = values[rows].mean(axis=1)
    value = float(statistic(np.array([[values.mean() for values in scores]]))[0])
    if n == 1:
        return Estimate(value, -math.inf, math.inf, n, paired, math.inf)
    resampled = statistic(drawn)
    tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * t_quantile(n - 1))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    spread = float(resampled.std() * math.sqrt(n) * math.sqrt(n / (n - 1)))
    return Estimate(value, float(low), float(high), n, paired, spread)


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
    """First configuration minus second: (B, 2) -> (B,)."""
    return means[:, 0] - means[:, 1]


def first_above_best(means: np.ndarray) -> np.ndarray:
    """First configuration minus the best of the others, which each sample chooses anew: (B, G) -> (B,)."""
    return means[:, 0] - means[:, 1:].max(axis=1)


def least_above_first(means: np.ndarray) -> np.ndarray:
    """The worst of the others minus the first: (B, G) -> (B,); above 0 where every other one is above the first."""
    return means[:, 1:].min(axis=1) - means[:, 0]


def least_descent(means: np.ndarray) -> np.ndarray:
    """The smallest fall from one configuration to the next: (B, G) -> (B,); above 0 where all of them fall."""
    return (means[:, :-1] - means[:, 1:]).min(axis=1)


def smallest(means: np.ndarray) -> np.ndarray:
    """The smallest of the means: (B, G) -> (B,); above 0 where all of them are."""
    return means.min(axis=1)


def slope_over(x: Sequence[float]) -> Statistic:
    """The least-squares slope of the configurations' means over `x` (G values, not all the same)."""
    centred = np.asarray(x, dtype=float) - np.mean(x)
    return lambda means: means @ centred / float(centred @ centred)


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
