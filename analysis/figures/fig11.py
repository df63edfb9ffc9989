"""Figure 11: the learning rate of Stages II and III on RTE (pruning rate 0.9, p0 0.8)."""

from collections.abc import Sequence

from analysis.figures import grid
from analysis.figures.grid import Grid
from analysis.numbers.dimensions import STAGE23_LR, is_spd_on_classification
from analysis.reading.sweeps import Sweep

NAME = "fig11"
TITLE = "Learning rates of Stages II and III (Figure 11)"
draw, figure = grid.draw, grid.figure


def compute(sweeps: Sequence[Sweep]) -> Grid:
    """The trials by value. Raises NoData where no sweep has two values."""
    return grid.compute(sweeps, NAME, STAGE23_LR, "$λ_1$", is_spd_on_classification)


def caption(numbers: Grid) -> str:
    """What the picture shows, and what the paper's figure shows."""
    return grid.caption(
        numbers, "the learning rate of Stages II and III, λ₁",
        "In the paper's Figure 11 (RTE, dev, p₀ = 0.8) 3.2e-4 is the best of eight; its appendix contradicts this "
        "with 3.0e-5 for RTE.",
    )  # fmt: skip
