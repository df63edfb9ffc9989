"""Figure 8: dev score against the replacing probability p0 of Stage I; p0 = 1 is the non-progressive design."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.points import describe_points, draw_points
from analysis.numbers import score_by_value
from analysis.numbers.dimensions import P0
from analysis.numbers.score_by_value import ScoreByValue
from analysis.reading.sweeps import Sweep

NAME = "fig08"
TITLE = "Dev score against p₀ (Figure 8)"


def compute(sweeps: Sequence[Sweep]) -> ScoreByValue:
    """The trials by p0. Raises NoData where no sweep has two values of it."""
    return score_by_value.compute(sweeps, NAME, P0)


def draw(numbers: ScoreByValue, axes: Axes) -> None:
    """Points, means and their range over p0, and where the non-progressive design is."""
    draw_points(numbers, axes)
    if numbers.value[-1] == 1.0:
        axes.axvline(
            1.0, color=style.ALTERNATIVE, linestyle=":", linewidth=1.4, label="non-progressive, $p_0$ = 1", zorder=1
        )


def caption(numbers: ScoreByValue) -> str:
    """What the picture shows, and what the paper's figure shows."""
    return describe_points(
        numbers, "p₀",
        "The paper's Figure 8 (RTE, dev) has its best score at p₀ = 0.6 and the progressive design above the "
        "non-progressive one.",
    )  # fmt: skip


def figure(numbers: ScoreByValue) -> Figure:
    """The picture."""
    return style.compose(numbers.data.setting, 3.7, lambda axes: draw(numbers, *axes), legend=3)
