"""Figure 12: the learning rate of Stages II and III on STS-B, a similarity task (Spearman correlation)."""

from collections.abc import Sequence

from analysis.figures import grid
from analysis.figures.grid import Grid
from analysis.numbers.dimensions import STAGE23_LR, is_spd_on_similarity
from analysis.reading.sweeps import Sweep

NAME = "fig12"
TITLE = "Learning rates on a similarity task (Figure 12)"
draw, figure = grid.draw, grid.figure


def compute(sweeps: Sequence[Sweep]) -> Grid:
    """The trials by value. Raises NoData where no sweep has two values."""
    return grid.compute(sweeps, NAME, STAGE23_LR, "$λ_1$", is_spd_on_similarity)


def caption(numbers: Grid) -> str:
    """What the picture shows, and what the paper's figure shows."""
    return grid.caption(
        numbers, "the learning rate of Stages II and III, λ₁",
        "In the paper's Figure 12 (STS-B, dev) 4.0e-4 is the best.",
    )  # fmt: skip
