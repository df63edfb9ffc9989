"""Figure 10: where pruning ends, as a multiple of the end of Stage I, t1."""

from collections.abc import Sequence

from analysis.figures import grid
from analysis.figures.grid import Grid
from analysis.numbers.dimensions import PRUNING_END
from analysis.reading.sweeps import Sweep

NAME = "fig10"
TITLE = "The end of pruning (Figure 10)"
draw, figure = grid.draw, grid.figure


def compute(sweeps: Sequence[Sweep]) -> Grid:
    """The trials by value. Raises NoData where no sweep has two values."""
    return grid.compute(sweeps, NAME, PRUNING_END, "end / $t_1$")


def caption(numbers: Grid) -> str:
    """What the picture shows, and what the paper's figure shows."""
    return grid.caption(
        numbers, "the end of pruning",
        "In the paper's Figure 10 (MRPC, dev) pruning until the end of Stage I (1 here) has the best F1.",
    )  # fmt: skip
