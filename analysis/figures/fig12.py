"""Figure 12: the learning rate of Stages II and III on STS-B, a similarity task (Spearman correlation)."""

from collections.abc import Sequence

from analysis.figures import grid as grids
from analysis.figures.grid import Grid
from analysis.numbers.figure_data import STAGE23_LR, is_spd
from analysis.reading.sweeps import Tables

NAME = "fig12"
TITLE = "Learning rates on a similarity task (Figure 12)"
draw, figure = grids.draw, grids.figure


def compute(sweeps: Sequence[Tables]) -> Grid:
    """The trials by value. Raises NoData where no sweep has two values."""
    return grids.compute(sweeps, NAME, STAGE23_LR, "$λ_1$", lambda trial: is_spd(trial) and trial.is_similarity)


def caption(numbers: Grid) -> str:
    """What the picture shows and what the paper shows at this place."""
    return grids.caption(
        numbers, "the learning rate of Stages II and III, λ₁",
        "In the paper's Figure 12 (STS-B, dev) 4.0e-4 is the best.",
    )  # fmt: skip
