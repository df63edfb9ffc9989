"""The paper's hypothesis itself: the train-dev gap against the sparsity, a line with its interval for each method."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import captions, style
from analysis.errors import NoData
from analysis.numbers.figure_data import Source, group
from analysis.numbers.statistics import Estimate, Scores, bootstrap, slope_over
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Trial, left_out, rungs
from analysis.wording import formatting as words

NAME = "gap"
TITLE = "Train-dev gap against sparsity"
_DIGITS = 3  # achieved sparsities that agree to this many decimals are one


class Line(NamedTuple):
    """One method's gaps: N students, G sparsities, the fitted slope a unit of sparsity."""

    method: str
    student_sparsity: np.ndarray  # (N,)
    student_gap: np.ndarray  # (N,)
    sparsity: np.ndarray  # (G,) ascending
    mean: np.ndarray  # (G,)
    slope: Estimate


class GapBySparsity(NamedTuple):
    """The lines of the sweep that has the most sparsities."""

    data: captions.Origin
    lines: tuple[Line, ...]


def gaps_by_sparsity(trials: Sequence[Trial]) -> dict[float, Scores]:
    """Sparsity -> seed -> mean gap, from each student of the trials (their ladders included)."""
    found: dict[float, dict[int, list[float]]] = {}
    for trial in trials:
        for rung in rungs(trial):
            if rung.score is not None and rung.train_score is not None:
                at = found.setdefault(round(rung.sparsity, _DIGITS), {})
                at.setdefault(trial.seed, []).append(rung.train_score - rung.score)
    return {
        sparsity: {seed: float(np.mean(values)) for seed, values in found[sparsity].items()}
        for sparsity in sorted(found)
    }


def compute(sweeps: Sequence[Tables]) -> GapBySparsity:
    """The sweep with the most sparsities, its methods apart. Raises NoData where none has two."""
    found = []
    for sweep in sweeps:
        methods = group(sweep.comparable, lambda trial: trial.method)
        gaps = {method: gaps_by_sparsity(trials) for method, trials in methods.items()}
        usable = {method: by for method, by in gaps.items() if len(by) > 1}
        if usable:
            found.append((max(map(len, usable.values())), len(sweep.comparable), sweep, usable, methods))
    if not found:
        raise NoData("no sweep has students of two sparsities with train scores; "
                     "search_spaces/paper/fig02.yaml, or a ladder of sparsities, makes the data")  # fmt: skip
    found.sort(key=lambda entry: (-entry[0], -entry[1], entry[2].name))
    _, _, tables, usable, methods = found[0]
    source = Source(tables, True, (), {method: methods[method] for method in usable}, left_out(tables.trials), (), True)
    lines = tuple(_line(method, by) for method, by in usable.items())
    return GapBySparsity(captions.origin(source, NAME), lines)


def _line(method: str, gaps: dict[float, Scores]) -> Line:
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
        slope = f"{words.signed(line.slope.value)} [{words.signed(line.slope.low)}, {words.signed(line.slope.high)}]"
        axes.plot(line.sparsity, fitted, color=colour, label=f"{words.method_name(line.method)}: {slope}")
    setting = numbers.data.setting
    axes.set_xlabel("Sparsity (fraction of zeros)")
    axes.set_ylabel(f"Gap: train minus {words.split_name(setting)}\n{words.metric_label(setting.metrics)}")


def caption(numbers: GapBySparsity) -> str:
    """What the picture shows and what the paper says of it."""
    slopes = words.listing(f"{words.method_name(line.method)} {words.interval(line.slope)}" for line in numbers.lines)
    return (
        f"Train minus {words.split_name(numbers.data.setting)} score of each seed's students against their sparsity, "
        f"with a least-squares line through the means. Slope a unit of sparsity: {slopes}. "
        f"{captions.tail(numbers.data)} Beyond the paper's figures: its hypothesis is that this slope is above 0 when "
        "pruning while fine-tuning (its Figure 2 (b) and (c), MRPC)."
    )


def figure(numbers: GapBySparsity) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        picture, axes = style.picture(numbers.data.setting, 3.7)
        draw(numbers, axes)
        style.legend(picture, 1)
    return picture
