"""A grid over one number in two panels, over steps and by best score: what Figures 10, 11 and 12 share."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.errors import NoData
from analysis.numbers import by_value as sensitivity
from analysis.numbers import over_steps as overtime
from analysis.numbers.by_value import ScoreBy
from analysis.numbers.figure_data import Dimension, choose, is_spd
from analysis.numbers.over_steps import OverTime
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Trial
from analysis.wording import formatting as words


class Grid(NamedTuple):
    """The best scores by value, and the curves where the values are few enough to be told apart."""

    symbol: str
    best: ScoreBy
    curves: OverTime | None


def compute(sweeps: Sequence[Tables], name: str, dimension: Dimension, symbol: str,
            keep: Callable[[Trial], bool] = is_spd) -> Grid:  # fmt: skip
    """The grid of sweep `name`. Raises NoData where no sweep has two values of `dimension`."""
    best = sensitivity.compute(sweeps, name, dimension, keep)
    try:
        curves = overtime.of_source(choose(sweeps, name, dimension, keep), name)
    except NoData:
        curves = None
    return Grid(symbol, best, curves)


def draw(numbers: Grid, axes: Sequence[Axes]) -> None:
    """(a) the curves, (b) the best scores; the latter alone where there are no curves."""
    *first, last = axes
    if numbers.curves is not None:
        overtime.draw(numbers.curves, first[0], overtime.ramp_looks(numbers.curves.groups, numbers.symbol))
        first[0].set_title("(a)", loc="left")
        last.set_title("(b)", loc="left")
    sensitivity.draw(numbers.best, last)


def caption(numbers: Grid, against: str, paper: str) -> str:
    """What the panels show, then the caption of the best scores."""
    text = sensitivity.caption(numbers.best, against, paper)
    if numbers.curves is None:
        return text
    return (
        f"(a) {words.capital(words.split_name(numbers.best.data.setting))} score over steps for each value. "
        f"{overtime.drawn(numbers.curves.groups)} (b) {text}"
    )


def figure(numbers: Grid) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        rows = 1 if numbers.curves is None else 2
        picture, axes = style.picture(numbers.best.data.setting, 0.9 + 2.9 * rows, rows, squeeze=False)
        panels: list[Any] = list(axes[:, 0])
        draw(numbers, panels)
        style.legend(picture, 3)
    return picture
