"""What a study can find: the smallest difference it detects, and the seeds that a stated difference takes.

A verdict is the interval of `statistics.bootstrap` on one side of 0. With K contrasts it is corrected both ways: to be
called true, all K intervals must lie above 0, so each misses with at most (1 - power) / K; to be called false, one
must lie below 0 at level 1 - 0.05 / K. What is said here covers both. Nothing is promised from an estimate that has
been seen: the difference is one that the reader states.
"""

import math

from scipy import special

from analysis.numbers.statistics import FEWEST_SEEDS, LEVEL, Estimate, t_quantile

POWER = 0.8
MOST_SEEDS = 1_000  # beyond so many, "more than" is said
_CONFIDENCE = 0.8  # that a planned study has its power, though the spread is itself an estimate


def smallest_detectable(n: int, spread: float, contrasts: int = 1, power: float = POWER) -> float:
    """The smallest true difference that n seeds decide with `power`, the spread under one seed as given.

    With Student's noncentral t of n - 1 degrees of freedom; inf with fewer than 3 seeds.

    >>> [round(smallest_detectable(n, 1.0), 2) for n in (33, 34)]  # half a deviation takes 34 pairs (Cohen 1988)
    [0.5, 0.5]
    """
    if n < FEWEST_SEEDS or not math.isfinite(spread):
        return math.inf
    miss = 1 - power
    to_confirm = special.nctdtrinc(n - 1, miss / contrasts, t_quantile(n - 1))
    to_contradict = special.nctdtrinc(n - 1, miss, t_quantile(n - 1, 1 - (1 - LEVEL) / contrasts))
    return float(max(to_confirm, to_contradict)) * spread / math.sqrt(n)


def seeds_for(difference: float, spread: float, contrasts: int = 1, power: float = POWER) -> int | None:
    """How many seeds in all decide a true difference with `power`; None where more than 1,000 do not."""
    low, high = FEWEST_SEEDS, MOST_SEEDS
    if not smallest_detectable(high, spread, contrasts, power) <= difference:
        return None
    while low < high:
        middle = (low + high) // 2
        enough = smallest_detectable(middle, spread, contrasts, power) <= difference
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def planning_spread(spread: float, n: int) -> float:
    """The upper 80% confidence limit of a spread that n seeds have estimated.

    A study planned with it has at least its power in 80% of cases; planned with the estimate itself, it falls short
    in half of them (Browne 1995, Statistics in Medicine 14).

    >>> round(planning_spread(1.0, 5), 3)  # sqrt(4 / 1.649), 1.649 the lower 20% point of chi-squared with 4
    1.558
    """
    return spread * math.sqrt((n - 1) / (2 * float(special.gammaincinv((n - 1) / 2, 1 - _CONFIDENCE))))


def describe_power(estimate: Estimate, stated: float) -> str:
    """What this study finds, and what the difference `stated` takes, in words."""
    n, k = estimate.n, estimate.contrasts
    if n == 1:
        return f"one seed has no interval; at least {FEWEST_SEEDS} are needed"
    found = smallest_detectable(n, estimate.spread, k)
    with_these = f"with these {n} seeds" if math.isfinite(found) else f"{n} seeds decide nothing"
    finds = f" a difference of {found:.2g} is found with {POWER:.0%} power" if math.isfinite(found) else ""
    seeds = seeds_for(stated, planning_spread(estimate.spread, n), k)
    takes = f"{stated:g} takes {seeds} seeds" if seeds else f"{stated:g} takes more than {MOST_SEEDS:,} seeds"
    return f"{with_these}{finds}; {takes}"
