"""The paper's hypothesis itself: the train-dev gap against the sparsity, a line with its interval for each method."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.captions import describe_origin, format_interval, gap_label
from analysis.errors import NoData
from analysis.numbers.contrasts import slope_over
from analysis.numbers.figure_data import Origin, group_by, take_whole
from analysis.numbers.statistics import Estimate, SeedScores, bootstrap
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial, levels
from analysis.wording.formatting import format_signed, join
from analysis.wording.names import method_name, split_name

NAME = "gap"
TITLE = "Train-dev gap against sparsity"
_DIGITS = 3  # achieved sparsities that agree to this many decimals are one


class Line(NamedTuple):
    """One method's gaps: N students, G sparsities, the fitted slope per unit of sparsity."""

    method: str
    student_sparsity: np.ndarray  # (N,)
    student_gap: np.ndarray  # (N,)
    sparsity: np.ndarray  # (G,) ascending
    mean: np.ndarray  # (G,)
    slope: Estimate


class GapBySparsity(NamedTuple):
    """The lines of the sweep that has the most sparsities."""

    data: Origin
    lines: tuple[Line, ...]


def gaps_by_sparsity(trials: Sequence[Trial]) -> dict[float, SeedScores]:
    """Sparsity -> seed -> mean gap, over every student of the trials (all levels of their ladders)."""
    found: dict[float, dict[int, list[float]]] = {}
    for trial in trials:
        for level in levels(trial):
            if level.score is not None and level.train_score is not None:
                by_seed = found.setdefault(round(level.sparsity, _DIGITS), {})
                by_seed.setdefault(trial.seed, []).append(level.train_score - level.score)
    return {
        sparsity: {seed: float(np.mean(values)) for seed, values in found[sparsity].items()}
        for sparsity in sorted(found)
    }


def compute(sweeps: Sequence[Sweep]) -> GapBySparsity:
    """The sweep with the most sparsities, one line per method. Raises NoData where no method has two sparsities."""
    found = []
    for sweep in sweeps:
        methods = group_by(sweep.comparable, lambda trial: trial.method)
        gaps = {method: gaps_by_sparsity(trials) for method, trials in methods.items()}
        usable = {method: by_sparsity for method, by_sparsity in gaps.items() if len(by_sparsity) > 1}
        if usable:
            found.append((max(map(len, usable.values())), len(sweep.comparable), sweep, usable, methods))
    if not found:
        raise NoData("no sweep has students of two sparsities with train scores; "
                     "search_spaces/paper/fig02.yaml, or a ladder of sparsities, makes the data")  # fmt: skip
    found.sort(key=lambda entry: (-entry[0], -entry[1], entry[2].name))
    _, _, sweep, usable, methods = found[0]
    data = take_whole(sweep, {method: methods[method] for method in usable})
    return GapBySparsity(data.origin(NAME), tuple(_line(method, gaps) for method, gaps in usable.items()))


def _line(method: str, gaps: dict[float, SeedScores]) -> Line:
    return Line(
        method,
        np.repeat(list(gaps), [len(scores) for scores in gaps.values()]),
        np.concatenate([list(scores.values()) for scores in gaps.values()]),
        np.array(list(gaps)),
        np.array([np.mean(list(scores.values())) for scores in gaps.values()]),
        bootstrap(list(gaps.values()), slope_over(list(gaps))),
    )


def draw(numbers: GapBySparsity, axes: Axes) -> None:
    """Circles, means and the fitted line of each method."""
    axes.axhline(0, color=style.INK, linewidth=0.8)
    for line in numbers.lines:
        colour, marker = style.method_mark(line.method)
        axes.plot(line.student_sparsity, line.student_gap, marker, color=colour, markerfacecolor="white", markersize=4)
        axes.plot(line.sparsity, line.mean, "_", color=colour, markersize=11, markeredgewidth=2.2)
        fitted = line.mean.mean() + line.slope.value * (line.sparsity - line.sparsity.mean())
        value, low, high = map(format_signed, (line.slope.value, line.slope.low, line.slope.high))
        axes.plot(line.sparsity, fitted, color=colour, label=f"{method_name(line.method)}: {value} [{low}, {high}]")
    axes.set_xlabel("Sparsity (fraction of zeros)")
    axes.set_ylabel(gap_label(numbers.data.setting))


def caption(numbers: GapBySparsity) -> str:
    """What the picture shows, and what the paper says about it."""
    slopes = join(f"{method_name(line.method)} {format_interval(line.slope)}" for line in numbers.lines)
    return (
        f"Train minus {split_name(numbers.data.setting)} score of each seed's students against their sparsity, "
        f"with a least-squares line through the means. Slope per unit of sparsity: {slopes}. "
        f"{describe_origin(numbers.data)} Beyond the paper's figures: its hypothesis is that this slope is above 0 "
        "when pruning while fine-tuning (its Figure 2 (b) and (c), MRPC)."
    )


def figure(numbers: GapBySparsity) -> Figure:
    """The picture."""
    return style.compose(numbers.data.setting, 3.7, lambda axes: draw(numbers, *axes), legend=1)
