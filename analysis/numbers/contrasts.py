"""What claims compare: contrasts of configurations' means, each above 0 where the claim is true.

Shapes: means (B, G) of G configurations in B bootstrap samples -> contrasts (B, K).
"""

from collections.abc import Sequence

import numpy as np

from analysis.numbers.statistics import Contrasts


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


def identity(means: np.ndarray) -> np.ndarray:
    """The means themselves: (B, G) -> (B, G)."""
    return means


def slope_over(x: Sequence[float]) -> Contrasts:
    """The least-squares slope of the configurations' means over `x` (G values, not all the same): (B, G) -> (B, 1)."""
    centred = np.asarray(x, dtype=float) - np.mean(x)
    return lambda means: (means @ centred / float(centred @ centred))[:, None]


def rise_and_stall(margin: float) -> Contrasts:
    """Of the means r, d: r, margin - d, margin + d, all above 0 where r > 0 and |d| < margin: (B, 2) -> (B, 3).

    >>> rise_and_stall(0.02)(np.array([[0.1, 0.005]]))[0].round(3).tolist()
    [0.1, 0.015, 0.025]
    """
    return lambda means: np.stack([means[:, 0], margin - means[:, 1], margin + means[:, 1]], axis=1)
