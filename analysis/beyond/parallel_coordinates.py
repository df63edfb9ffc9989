"""Parallel coordinates: a line a configuration through its values of all dimensions, to its mean score."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.captions import describe_setting
from analysis.errors import NoData
from analysis.numbers import leaderboard
from analysis.numbers.leaderboard import largest_sweep, run_key
from analysis.numbers.search_space import is_number
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Setting, setting_of
from analysis.wording.formatting import format_value, join, pluralize
from analysis.wording.names import metric_name, split_name

NAME = "parallel"
TITLE = "Parallel coordinates"
FEWEST = 2  # configurations, and dimensions with the score's
MOST = 200  # lines; the best ones
_LOG_RATIO = 10.0  # a dimension that spans more is laid out by its logarithm
_TICKS = 4  # values of a numeric axis that are written beside it


class Axis(NamedTuple):
    """One dimension: where each of the C configurations stands on it, in [0, 1], and what is written beside it."""

    name: str
    place: np.ndarray  # (C,) NaN where the configuration has no such value
    ticks: tuple[tuple[float, str], ...]  # (place, text)


class Parallel(NamedTuple):
    """C configurations by ascending mean score."""

    sweep: str
    setting: Setting
    axes: tuple[Axis, ...]  # the last is the mean score
    score: np.ndarray  # (C,)
    rank: np.ndarray  # (C,) between the worst, 0, and the best, 1, configuration of the same target sparsity
    keys: tuple[str, ...]  # (C,) that mark the configurations
    more: int  # configurations that are not drawn


def compute(sweeps: Sequence[Sweep]) -> Parallel:
    """The sweep with the most students. Raises NoData where it has fewer than two configurations or dimensions."""
    sweep = largest_sweep(sweeps)
    board = leaderboard.compute(sweep)
    several = len(board.boards) > 1
    rows = [(one.sparsity, row) for one in board.boards for row in one.rows]
    rows = sorted(rows, key=lambda pair: pair[1].mean)[-MOST:]
    values: dict[str, list[Any]] = {name: [row.values[name] for _, row in rows] for name in board.dimensions}
    if several:
        values["sparsity"] = [sparsity for sparsity, _ in rows]
    varied = {name: column for name, column in values.items() if len(set(map(str, column))) > 1}
    if len(rows) < FEWEST or not varied:
        raise NoData(f"sweep {sweep.name} has no two configurations with students that differ in a dimension")
    score, sparsity = np.array([row.mean for _, row in rows]), np.array([sparsity for sparsity, _ in rows])
    axes = [_axis(name, column) for name, column in varied.items()] + [_axis("mean score", score.tolist())]
    return Parallel(
        sweep.name,
        setting_of([student.trial for _, row in rows for student in row.students]),
        tuple(axes),
        score,
        _ranks(score, sparsity),
        tuple(run_key(sweep.name, row.configuration) for _, row in rows),
        sum(len(one.rows) for one in board.boards) - len(rows),
    )


def _ranks(score: np.ndarray, sparsity: np.ndarray) -> np.ndarray:
    """Where each score lies between the smallest and the largest at its sparsity."""
    rank = np.ones_like(score)
    for one in np.unique(sparsity):
        mine = score[sparsity == one]
        if np.ptp(mine) > 0:
            rank[sparsity == one] = (mine - mine.min()) / np.ptp(mine)
    return rank


def _axis(name: str, values: Sequence[Any]) -> Axis:
    """Numbers between their smallest and largest, logarithms where these are far apart; words at equal distances."""
    known = [value for value in values if value is not None]
    if not all(map(is_number, known)):
        words = sorted({str(value) for value in known})
        places = {word: index / max(1, len(words) - 1) for index, word in enumerate(words)}
        ticks = tuple((place, format_value(word)) for word, place in places.items())
        return Axis(name, np.array([places.get(str(value), math.nan) for value in values]), ticks)
    low, high = min(known), max(known)
    scale = math.log if low > 0 and high / low > _LOG_RATIO else float
    span = scale(high) - scale(low) or 1.0

    def place(value: Any) -> float:
        return math.nan if value is None else (scale(value) - scale(low)) / span

    distinct = sorted(set(known))
    shown = distinct if len(distinct) <= _TICKS else [low, high]
    return Axis(name, np.array([place(value) for value in values]), tuple((place(v), _text(v)) for v in shown))


def _text(value: float) -> str:
    return format_value(float(f"{value:.3g}"))


def draw(numbers: Parallel, axes: Axes) -> None:
    """A vertical line a dimension with its values beside it; the configurations, the best one on top."""
    colours = matplotlib.colormaps["cividis_r"]
    places = np.array([axis.place for axis in numbers.axes])  # (D, C)
    across = [float(place) for place in range(len(numbers.axes))]
    for index in np.argsort(numbers.rank, kind="stable"):
        rank, best = float(numbers.rank[index]), numbers.rank[index] == 1
        axes.plot(
            across, places[:, index], color=colours(0.1 + 0.9 * rank), linewidth=2.4 if best else 1.1,
            alpha=1.0 if best else 0.75, gid=numbers.keys[index], marker="o", markersize=4 if best else 2.5,
        )  # fmt: skip
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.9}
    for where, axis in zip(across, numbers.axes, strict=True):
        axes.axvline(where, color=style.INK, linewidth=0.8, zorder=1)
        side, offset = ("left", 4) if where == across[-1] else ("right", -4)
        for place, text in axis.ticks:
            axes.annotate(
                text, (where, place), (offset, 0), textcoords="offset points", fontsize=7, va="center", ha=side,
                bbox=white,
            )  # fmt: skip
    names = [axis.name.replace(".", "\n").replace("_", "\n") for axis in numbers.axes]
    axes.set_xticks(across, names)
    axes.set_yticks([])
    axes.set_xlim(-0.35, len(across) - 0.6)
    axes.set_ylim(-0.05, 1.05)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def caption(numbers: Parallel) -> str:
    """What the lines are."""
    more = f" {pluralize(numbers.more, 'more configuration')} not shown." if numbers.more else ""
    metric = f"{split_name(numbers.setting)} {join(map(metric_name, numbers.setting.metrics))}"
    return (
        f"Each line is one of {pluralize(len(numbers.score), 'configuration')}: its "
        f"{join(axis.name for axis in numbers.axes[:-1])}, and at the right its mean {metric} over seeds, stopped "
        f"trials included; the darker, the higher among those of its sparsity; thick: the highest.{more} An axis "
        "reaches from the smallest to the largest value that was tried, by logarithms where these are more than "
        "tenfold apart. "
        f"Sweep {numbers.sweep}. {describe_setting(numbers.setting)}"
    )


def figure(numbers: Parallel) -> Figure:
    """The picture."""
    return style.compose(numbers.setting, 3.4, lambda axes: draw(numbers, *axes))
