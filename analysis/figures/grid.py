"""A grid over one number in two panels, over steps and by best score: the form of Figures 10, 11 and 12."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import lines, style
from analysis.drawing.points import describe_points, draw_points
from analysis.errors import NoData
from analysis.numbers import over_steps, score_by_value
from analysis.numbers.dimensions import Dimension, is_spd
from analysis.numbers.figure_data import choose_data
from analysis.numbers.over_steps import OverSteps
from analysis.numbers.score_by_value import ScoreByValue
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial
from analysis.wording.formatting import capitalize
from analysis.wording.names import split_name


class Grid(NamedTuple):
    """The best scores by value, and the curves where the values are few enough to be told apart."""

    symbol: str
    best: ScoreByValue
    curves: OverSteps | None


def compute(sweeps: Sequence[Sweep], name: str, dimension: Dimension, symbol: str,
            keep: Callable[[Trial], bool] = is_spd) -> Grid:  # fmt: skip
    """The grid of sweep `name`. Raises NoData where no sweep has two values of `dimension`."""
    data = choose_data(sweeps, name, dimension, keep)
    try:
        curves = over_steps.collect(data, name)
    except NoData:
        curves = None
    return Grid(symbol, score_by_value.collect(data, name, dimension), curves)


def draw(numbers: Grid, axes: Sequence[Axes]) -> None:
    """(a) the curves, (b) the best scores; the latter alone where there are no curves."""
    *first, last = axes
    if numbers.curves is not None:
        lines.draw_groups(numbers.curves, first[0], lines.ramp_looks(numbers.curves.groups, numbers.symbol))
        first[0].set_title("(a)", loc="left")
        last.set_title("(b)", loc="left")
    draw_points(numbers.best, last)


def caption(numbers: Grid, against: str, paper: str) -> str:
    """What the panels show, then the caption of the best scores."""
    text = describe_points(numbers.best, against, paper)
    if numbers.curves is None:
        return text
    return (
        f"(a) {capitalize(split_name(numbers.best.data.setting))} score over steps for each value. "
        f"{lines.describe_lines(numbers.curves.groups)} (b) {text}"
    )


def figure(numbers: Grid) -> Figure:
    """The picture."""
    rows = 1 if numbers.curves is None else 2
    return style.compose(numbers.best.data.setting, 0.9 + 2.9 * rows, lambda axes: draw(numbers, axes), rows, legend=3)
