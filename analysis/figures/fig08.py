"""Figure 8: dev score against the replacing probability p0 of Stage I; p0 = 1 is the non-progressive design."""

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.numbers import by_value as sensitivity
from analysis.numbers.by_value import ScoreBy
from analysis.numbers.figure_data import P0
from analysis.reading.sweeps import Tables

NAME = "fig08"
TITLE = "Dev score against p₀ (Figure 8)"


def compute(sweeps: Sequence[Tables]) -> ScoreBy:
    """The trials by p0. Raises NoData where no sweep has two values of it."""
    return sensitivity.compute(sweeps, NAME, P0)


def draw(numbers: ScoreBy, axes: Axes) -> None:
    """Points, means and their range over p0, and where the non-progressive design lies."""
    sensitivity.draw(numbers, axes)
    if numbers.value[-1] == 1.0:
        axes.axvline(
            1.0, color=style.INSTEAD, linestyle=":", linewidth=1.4, label="non-progressive, $p_0$ = 1", zorder=1
        )


def caption(numbers: ScoreBy) -> str:
    """What the picture shows and what the paper shows at this place."""
    return sensitivity.caption(
        numbers, "p₀",
        "The paper's Figure 8 (RTE, dev) has its best score at p₀ = 0.6 and the progressive design above the "
        "non-progressive one.",
    )  # fmt: skip


def figure(numbers: ScoreBy) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        picture, axes = style.picture(numbers.data.setting, 3.7)
        draw(numbers, axes)
        style.legend(picture, 3)
    return picture
