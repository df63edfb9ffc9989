"""Interactions as heat maps: the best score over two numbers that a sweep varies together."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import captions, style
from analysis.errors import NoData
from analysis.numbers.figure_data import (
    NUMERIC,
    P0,
    PRUNING_END,
    STAGE1,
    STAGE2,
    Dimension,
    Source,
    group,
    is_spd,
    made_by,
    named,
)
from analysis.reading.sweeps import Tables
from analysis.reading.trials import left_out, searched
from analysis.wording import formatting as words

STAGES, INTERACTION = "stages", "interaction"
TITLES = {STAGES: "Lengths of Stages I and II", INTERACTION: "Interaction of two dimensions"}
_MOST = 15  # values a side; with more it is no grid
_FILLED = 0.5  # of the cells, at least

Pair = tuple[Dimension, Dimension]


class Heat(NamedTuple):
    """Mean best score in a grid of Y by X values; NaN and n = 0 where no trial is."""

    data: captions.Origin
    x: Dimension
    y: Dimension
    x_values: np.ndarray  # (X,) ascending
    y_values: np.ndarray  # (Y,) ascending
    mean: np.ndarray  # (Y, X)
    n: np.ndarray  # (Y, X)


def pairs(name: str) -> list[Pair]:
    """The pairs of dimensions that the heat map `name` may show, the wanted first."""
    if name == STAGES:
        return [(STAGE1, STAGE2)]
    every = [(x, y) for index, x in enumerate(NUMERIC) for y in NUMERIC[index + 1 :]]
    return [(P0, PRUNING_END), *(pair for pair in every if pair not in [(P0, PRUNING_END), (STAGE1, STAGE2)])]


def compute(sweeps: Sequence[Tables], name: str) -> Heat:
    """The first pair of which a sweep is a grid, the sweep `name` before others. Raises NoData where none is."""
    own = named(sweeps, name)
    for pair in pairs(name):
        for tables in own or sorted(sweeps, key=lambda sweep: (-len(sweep.comparable), sweep.name)):
            found = _grid(tables, name, pair, bool(own))
            if found is not None:
                return found
    if name == STAGES:
        raise NoData(f"no sweep is a grid over the lengths of Stages I and II with finished trials; {made_by(name)}")
    raise NoData("no sweep is a grid over two dimensions with finished trials; any space with the grid sampler over "
                 "two of them, such as p0 and pruning_end, makes the data")  # fmt: skip


def _grid(tables: Tables, name: str, pair: Pair, own: bool) -> Heat | None:
    x, y = pair
    kept = [trial for trial in tables.comparable if is_spd(trial)]
    cells = group(kept, lambda trial: (y.of(trial), x.of(trial)))
    y_values, x_values = (sorted({cell[side] for cell in cells}) for side in (0, 1))
    if not (1 < len(x_values) <= _MOST and 1 < len(y_values) <= _MOST):
        return None
    if len(cells) < _FILLED * len(x_values) * len(y_values):
        return None
    mean, n = np.full((len(y_values), len(x_values)), np.nan), np.zeros((len(y_values), len(x_values)), int)
    for (down, along), trials in cells.items():
        place = y_values.index(down), x_values.index(along)
        mean[place] = np.mean([trial.best_score for trial in trials])
        n[place] = len(trials)
    keys = {*x.keys, *y.keys}
    others = tuple(key.rsplit(".", 1)[-1] for key in searched(kept) if not set(key.split(".")) & keys)
    source = Source(
        tables, own, (), cells, left_out([trial for trial in tables.trials if is_spd(trial)]), others, not others
    )
    return Heat(captions.origin(source, name), x, y, np.array(x_values), np.array(y_values), mean, n)


def draw(numbers: Heat, axes: Axes) -> None:
    """The cells with their means; an empty cell stays white."""
    image = axes.imshow(numbers.mean, cmap="cividis", origin="lower", aspect="auto")
    middle = (np.nanmin(numbers.mean) + np.nanmax(numbers.mean)) / 2
    small = max(numbers.mean.shape) > 8
    for row, column in np.argwhere(numbers.n > 0):
        value = numbers.mean[row, column]
        axes.text(column, row, f"{value:.2f}" if small else f"{value:.3f}\nn = {numbers.n[row, column]}", ha="center",
                  va="center", fontsize=6 if small else 7.5, color="white" if value < middle else "black")  # fmt: skip
    axes.set_xticks(range(len(numbers.x_values)), [words.short(float(value)) for value in numbers.x_values])
    axes.set_yticks(range(len(numbers.y_values)), [words.short(float(value)) for value in numbers.y_values])
    axes.set_xlabel(numbers.x.label)
    axes.set_ylabel(numbers.y.label)
    setting = numbers.data.setting
    bar = axes.figure.colorbar(image, ax=axes)
    bar.set_label(f"Mean best {words.split_name(setting)} {words.metric_label(setting.metrics)}")


def caption(numbers: Heat) -> str:
    """What the cells are."""
    empty = int((numbers.n == 0).sum())
    white = f" White: {words.plural(empty, 'cell')} without a trial." if empty else ""
    return (
        f"Mean best {words.split_name(numbers.data.setting)} score at the target sparsity over {numbers.x.name} and "
        f"{numbers.y.name}, {words.counts(numbers.n[numbers.n > 0].tolist())} trials a cell.{white} "
        f"{captions.tail(numbers.data)} Beyond the paper, which varies one of them at a time."
    )


def figure(numbers: Heat) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        picture, axes = style.picture(numbers.data.setting, 3.8)
        draw(numbers, axes)
    return picture
