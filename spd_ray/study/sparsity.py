"""Which trials rival each other: those of one target sparsity. A denser student would win without being better.

Why so: docs/decisions.md #rivals-have-one-target-sparsity.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence

from spd_ray.config.sweep import SweepSpec

FEW = 12  # values of a searched target sparsity, at most, that are each a level of their own
BAND = 0.05  # the width of a level where there are more


def level_of(target: float, spec: SweepSpec) -> float:
    """The level of a trial that prunes to `target`: its target sparsity itself.

    Where a space searches more than a few of them, or any within a range, it is the next lower multiple of 0.05.
    """
    return round(math.floor(target / BAND + 1e-9) * BAND, 2) if _in_bands(spec) else target


def has_levels(spec: SweepSpec) -> bool:
    """Whether trials of the space may have different target sparsities."""
    return not {"target_sparsity", "pruning", "method"}.isdisjoint(spec.search)


def bounds_of(level: float, spec: SweepSpec) -> tuple[float, float]:
    """The least and the greatest target sparsity of a level."""
    return (level, level + BAND - 1e-6) if _in_bands(spec) else (level, level)


def rank_in_levels(scores: Sequence[tuple[float, float]]) -> list[float]:
    """(level, score) each -> the share of its level's scores that are not above it, in (0, 1]: the best of each has 1.

    >>> rank_in_levels([(0.95, 0.7), (0.95, 0.8), (0.8, 0.9), (0.95, 0.6), (0.95, 0.7)])
    [0.75, 1.0, 1.0, 0.25, 0.75]
    """
    of_level: dict[float, list[float]] = defaultdict(list)
    for level, score in scores:
        of_level[level].append(score)
    for ascending in of_level.values():
        ascending.sort()
    return [bisect_right(of_level[level], score) / len(of_level[level]) for level, score in scores]


def _in_bands(spec: SweepSpec) -> bool:
    dimension = spec.dimensions().get("target_sparsity")
    return dimension is not None and (dimension.count() or FEW + 1) > FEW
