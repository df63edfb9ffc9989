"""Figure 10: where pruning ends, as a multiple of the end of Stage I, t1."""

from collections.abc import Sequence

from analysis.figures import grid as grids
from analysis.figures.grid import Grid
from analysis.numbers.figure_data import PRUNING_END
from analysis.reading.sweeps import Tables

NAME = "fig10"
TITLE = "The end of pruning (Figure 10)"
draw, figure = grids.draw, grids.figure


def compute(sweeps: Sequence[Tables]) -> Grid:
    """The trials by value. Raises NoData where no sweep has two values."""
    return grids.compute(sweeps, NAME, PRUNING_END, "end / $t_1$")


def caption(numbers: Grid) -> str:
    """What the picture shows and what the paper shows at this place."""
    return grids.caption(
        numbers, "the end of pruning",
        "In the paper's Figure 10 (MRPC, dev) pruning till the end of Stage I (1 here) has the best F1.",
    )  # fmt: skip
