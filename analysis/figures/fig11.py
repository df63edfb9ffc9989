"""Figure 11: the learning rate of Stages II and III on RTE (pruning rate 0.9, p0 0.8)."""

from collections.abc import Sequence

from analysis.figures import grid as grids
from analysis.figures.grid import Grid
from analysis.numbers.figure_data import STAGE23_LR, is_spd
from analysis.reading.sweeps import Tables

NAME = "fig11"
TITLE = "Learning rates of Stages II and III (Figure 11)"
draw, figure = grids.draw, grids.figure


def compute(sweeps: Sequence[Tables]) -> Grid:
    """The trials by value. Raises NoData where no sweep has two values."""
    return grids.compute(sweeps, NAME, STAGE23_LR, "$λ_1$", lambda trial: is_spd(trial) and not trial.is_similarity)


def caption(numbers: Grid) -> str:
    """What the picture shows and what the paper shows at this place."""
    return grids.caption(
        numbers, "the learning rate of Stages II and III, λ₁",
        "In the paper's Figure 11 (RTE, dev, p₀ = 0.8) 3.2e-4 is the best of eight, while its appendix gives 3.0e-5 "
        "for RTE: the paper disagrees with itself.",
    )  # fmt: skip
