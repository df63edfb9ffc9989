"""Which configurations could be the best of several, and how far below the best each may lie (Hsu 1984).

Shapes: G configurations, n seeds. "Best of the sweep" with near-equal neighbours is decided by no single comparison:
these intervals hold for all configurations at once.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from analysis.numbers.statistics import FEWEST_SEEDS, LEVEL, SeedScores, align

_NODES = 64  # of each quadrature


class Standing(NamedTuple):
    """A configuration's mean minus the best other's: simultaneous 95% interval, low <= 0 <= high.

    high = 0: it is worse than the best. low = 0: it is the best. Else it may be either, and is at most -low below.
    """

    low: float
    high: float

    @property
    def may_be_best(self) -> bool:
        """Whether it cannot be told from the best."""
        return self.high > 0


@lru_cache
def dunnett_quantile(others: int, freedom: int, level: float = LEVEL) -> float:
    """The d with P(T_1 <= d, ..., T_k <= d) = `level` for k = `others` t variables of pairwise correlation 1/2.

    The one-sided quantile of comparisons with one (Dunnett 1955, Table 1a). With Z_0, ..., Z_k standard normal and
    U^2 chi-squared over its degrees of freedom, T_i = (Z_i - Z_0) / (sqrt(2) U).

    >>> round(dunnett_quantile(1, 10), 2), round(dunnett_quantile(5, 10), 2)
    (1.81, 2.56)
    """
    z, z_weight = np.polynomial.hermite_e.hermegauss(_NODES)
    quantiles = (np.arange(4 * _NODES) + 0.5) / (4 * _NODES)  # midpoints of U's distribution
    u = np.sqrt(2 * special.gammaincinv(freedom / 2, quantiles) / freedom)

    def excess(d: float) -> float:
        inside = special.ndtr(z[:, None] + math.sqrt(2) * d * u[None, :]) ** others
        return float((z_weight / z_weight.sum()) @ inside.mean(axis=1)) - level

    return float(optimize.brentq(excess, 0.0, 200.0, xtol=1e-6))


def compare_with_the_best(groups: Sequence[SeedScores]) -> list[Standing] | None:
    """Each configuration's standing, in their order; None with fewer than 2 of them or than 3 seeds.

    Constrained simultaneous intervals (Hsu 1984, Annals of Statistics 12): with D_i = mean_i - max_{j != i} mean_j and
    w = d s sqrt(2 / n), [min(0, D_i - w), max(0, D_i + w)]. s^2 is pooled: the residuals of configuration and seed with
    (G - 1)(n - 1) degrees of freedom where seeds are shared, else within configurations with sum(n_g - 1). It is taken
    to be the same for all configurations.
    """
    if len(groups) < 2:
        return None
    scores, n, paired = align(groups)
    if n < FEWEST_SEEDS:
        return None
    means = np.array([values.mean() for values in scores])
    if paired:
        table = np.array(scores)  # (G, n)
        residuals = table - means[:, None] - table.mean(axis=0) + table.mean()
        freedom, squares = (len(groups) - 1) * (n - 1), float((residuals**2).sum())
    else:
        freedom = sum(len(values) - 1 for values in scores)
        squares = sum(float(((values - values.mean()) ** 2).sum()) for values in scores)
    width = dunnett_quantile(len(groups) - 1, freedom) * math.sqrt(2 * squares / freedom / n)
    best_other = np.array([np.delete(means, index).max() for index in range(len(means))])
    return [Standing(min(0.0, float(d) - width), max(0.0, float(d) + width)) for d in means - best_other]
