"""Estimates over seeds with 95% intervals: one bootstrap for every claim, paired where seeds are shared.

Shapes: G configurations, B bootstrap samples, K contrasts. What a claim compares is in `contrasts`.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.95
SAMPLES = 10_000  # B
_BLOCK = 1_000  # samples drawn at once
GENERATOR_SEED = 0
FEWEST_SEEDS = 3  # with fewer, no interval is trusted
MOST_SEEDS = 1_000  # beyond so many, "more than" is said

SeedScores = dict[int, float]  # seed -> score of one configuration
Contrasts = Callable[[np.ndarray], np.ndarray]  # means (B, G) -> what a claim says is above 0 (B, K)


class Estimate(NamedTuple):
    """The smallest contrast of some configurations' means, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int  # seeds of the configuration that has the fewest
    paired: bool  # whether all configurations were drawn by the same seeds
    spread: float  # standard deviation of the smallest contrast under one seed


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
    with 97.5%); high = the least high end at level 1 - 0.05 / K (Bonferroni). Taking the minimum inside the bootstrap
    instead is biased downwards: among equal configurations it would call every such claim false.
    """
    scores, n, paired = _align(groups)
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


def _align(groups: Sequence[SeedScores]) -> tuple[list[np.ndarray], int, bool]:
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

    The smallest n with t_{n-1} s / sqrt(n) < |estimate|, s the standard deviation under one seed, minus the seeds
    there are; at least one, and at least what is missing to three. None where n exceeds 1,000 or s is not known.
    """
    if not math.isfinite(estimate.spread):
        return None
    n = np.arange(max(FEWEST_SEEDS, estimate.n + 1), MOST_SEEDS + 1)
    enough = special.stdtrit(n - 1, (1 + LEVEL) / 2) * estimate.spread / np.sqrt(n) < abs(estimate.value)
    return int(n[enough][0]) - estimate.n if enough.any() else None
