"""Interactions as heat maps: the best score over two numbers that a sweep varies together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.captions import describe_origin
from analysis.errors import NoData
from analysis.numbers.dimensions import NUMERIC, P0, PRUNING_END, STAGE1, STAGE2, Dimension, is_spd
from analysis.numbers.figure_data import (
    FigureData,
    Origin,
    group_by,
    keys_besides,
    select_sweeps,
    space_hint,
)
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import count_exclusions, short_key
from analysis.wording.formatting import format_counts, format_value, pluralize
from analysis.wording.names import metric_label, split_name

STAGES, INTERACTION = "stages", "interaction"
TITLES = {STAGES: "Lengths of Stages I and II", INTERACTION: "Interaction of two dimensions"}
_MOST_VALUES = 15  # per side; with more it is no grid
_FEWEST_FILLED = 0.5  # fraction of the cells

Pair = tuple[Dimension, Dimension]


class HeatMap(NamedTuple):
    """Mean best score in a grid of Y by X values; NaN and n = 0 where there is no trial."""

    data: Origin
    x: Dimension
    y: Dimension
    x_values: np.ndarray  # (X,) ascending
    y_values: np.ndarray  # (Y,) ascending
    mean: np.ndarray  # (Y, X)
    n: np.ndarray  # (Y, X)


def candidate_pairs(name: str) -> list[Pair]:
    """The pairs of dimensions that the heat map `name` may show, the preferred first."""
    if name == STAGES:
        return [(STAGE1, STAGE2)]
    every = [(x, y) for index, x in enumerate(NUMERIC) for y in NUMERIC[index + 1 :]]
    return [(P0, PRUNING_END), *(pair for pair in every if pair not in [(P0, PRUNING_END), (STAGE1, STAGE2)])]


def compute(sweeps: Sequence[Sweep], name: str) -> HeatMap:
    """The first pair over which a sweep is a grid, the sweep `name` before others. Raises NoData where none is."""
    own = select_sweeps(sweeps, name)
    for pair in candidate_pairs(name):
        for sweep in own or sorted(sweeps, key=lambda sweep: (-len(sweep.comparable), sweep.name)):
            found = _grid(sweep, name, pair, bool(own))
            if found is not None:
                return found
    if name == STAGES:
        raise NoData(f"no sweep is a grid over the lengths of Stages I and II with finished trials; {space_hint(name)}")
    raise NoData("no sweep is a grid over two dimensions with finished trials; any space with the grid sampler over "
                 "two of them, such as p0 and pruning_end, makes the data")  # fmt: skip


def _grid(sweep: Sweep, name: str, pair: Pair, own: bool) -> HeatMap | None:
    """The sweep's SPD trials over `pair`; None where they are no grid or leave half of it empty."""
    x, y = pair
    trials = [trial for trial in sweep.comparable if is_spd(trial)]
    cells = group_by(trials, lambda trial: (y.of(trial), x.of(trial)))
    y_values, x_values = (sorted({cell[side] for cell in cells}) for side in (0, 1))
    shape = len(y_values), len(x_values)
    if not all(1 < count <= _MOST_VALUES for count in shape) or len(cells) <= _FEWEST_FILLED * shape[0] * shape[1]:
        return None
    mean, n = np.full(shape, np.nan), np.zeros(shape, int)
    for (row, column), found in cells.items():
        place = y_values.index(row), x_values.index(column)
        mean[place] = np.mean([trial.best_score for trial in found])
        n[place] = len(found)
    also_varying = tuple(map(short_key, keys_besides(trials, {*x.keys, *y.keys})))
    exclusions = count_exclusions([trial for trial in sweep.trials if is_spd(trial)])
    data = FigureData(sweep, own, (), cells, exclusions, also_varying, not also_varying)
    return HeatMap(data.origin(name), x, y, np.array(x_values), np.array(y_values), mean, n)


def draw(numbers: HeatMap, axes: Axes) -> None:
    """The cells with their means; an empty cell stays white."""
    image = axes.imshow(numbers.mean, cmap="cividis", origin="lower", aspect="auto")
    middle = (np.nanmin(numbers.mean) + np.nanmax(numbers.mean)) / 2
    small = max(numbers.mean.shape) > 8
    for row, column in np.argwhere(numbers.n > 0):
        value = numbers.mean[row, column]
        axes.text(column, row, f"{value:.2f}" if small else f"{value:.3f}\nn = {numbers.n[row, column]}", ha="center",
                  va="center", fontsize=6 if small else 7.5, color="white" if value < middle else "black")  # fmt: skip
    axes.set_xticks(range(len(numbers.x_values)), [format_value(float(value)) for value in numbers.x_values])
    axes.set_yticks(range(len(numbers.y_values)), [format_value(float(value)) for value in numbers.y_values])
    axes.set_xlabel(numbers.x.label)
    axes.set_ylabel(numbers.y.label)
    setting = numbers.data.setting
    bar = axes.figure.colorbar(image, ax=axes)
    bar.set_label(f"Mean best {split_name(setting)} {metric_label(setting.metrics)}")


def caption(numbers: HeatMap) -> str:
    """What the cells are."""
    empty = int((numbers.n == 0).sum())
    white = f" White: {pluralize(empty, 'cell')} without a trial." if empty else ""
    return (
        f"Mean best {split_name(numbers.data.setting)} score at the target sparsity over {numbers.x.name} and "
        f"{numbers.y.name}, {format_counts(numbers.n[numbers.n > 0].tolist())} trials per cell.{white} "
        f"{describe_origin(numbers.data)} Beyond the paper, which varies one of them at a time."
    )


def figure(numbers: HeatMap) -> Figure:
    """The picture."""
    return style.compose(numbers.data.setting, 3.8, lambda axes: draw(numbers, *axes))
