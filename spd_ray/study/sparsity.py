"""Which trials rival each other: those of one target sparsity. A denser student would win without being better."""

import math

from spd_ray.config.sweep import SweepSpec

FEW = 12  # values of a searched target sparsity, at most, that are each a level of their own
BAND = 0.05  # the width of a level where there are more


def level_of(target: float, spec: SweepSpec) -> float:
    """The level of a trial that prunes to `target`: its target sparsity itself.

    Where a space searches more than a few of them, or any within a range, it is the next lower multiple of 0.05.
    """
    dimension = spec.dimensions().get("target_sparsity")
    if dimension is None or (dimension.count() or FEW + 1) <= FEW:
        return target
    return round(math.floor(target / BAND + 1e-9) * BAND, 2)


def has_levels(spec: SweepSpec) -> bool:
    """Whether trials of the space may have different target sparsities."""
    return "target_sparsity" in spec.search or len(spec.methods()) > 1
