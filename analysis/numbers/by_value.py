"""The best score against a number that the trials vary: what Figures 8, 10, 11, 12 and the marginals share."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from analysis.drawing import captions, style
from analysis.numbers.figure_data import Dimension, choose, is_spd
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Trial
from analysis.wording import formatting as words


class ScoreBy(NamedTuple):
    """Scores of N trials at G values; a score is a trial's best at its target sparsity."""

    data: captions.Origin
    label: str  # of the x axis, with its unit
    log: bool
    trial_value: np.ndarray  # (N,)
    trial_score: np.ndarray  # (N,)
    value: np.ndarray  # (G,) ascending
    mean: np.ndarray  # (G,)
    low: np.ndarray  # (G,) smallest score
    high: np.ndarray  # (G,) largest score
    n: np.ndarray  # (G,) trials
    teachers: tuple[float, ...]  # distinct dev scores of the dense teachers


def compute(sweeps: Sequence[Tables], name: str, dimension: Dimension,
            keep: Callable[[Trial], bool] = is_spd) -> ScoreBy:  # fmt: skip
    """Group the finished, feasible trials of sweep `name` by `dimension`. Raises NoData with fewer than two values."""
    source = choose(sweeps, name, dimension, keep)
    scores = {value: np.array([trial.best_score for trial in group]) for value, group in source.groups.items()}
    return ScoreBy(
        data=captions.origin(source, name),
        label=dimension.label,
        log=dimension.log,
        trial_value=np.repeat(list(scores), [len(group) for group in scores.values()]),
        trial_score=np.concatenate(list(scores.values())),
        value=np.array(list(scores)),
        mean=np.array([group.mean() for group in scores.values()]),
        low=np.array([group.min() for group in scores.values()]),
        high=np.array([group.max() for group in scores.values()]),
        n=np.array([len(group) for group in scores.values()]),
        teachers=tuple(sorted({trial.teacher_score for trial in source.trials if trial.teacher_score is not None})),
    )


def draw(numbers: ScoreBy, axes: Axes) -> None:
    """A point a trial; means with a band where the values compare like with like, else with bars."""
    balanced = numbers.data.balanced
    mean = numbers.mean if balanced else np.where(numbers.n > 1, numbers.mean, np.nan)
    if balanced:
        axes.fill_between(numbers.value, numbers.low, numbers.high, color=style.DEV, alpha=0.15, linewidth=0,
                          label="smallest to largest")  # fmt: skip
    else:
        axes.vlines(numbers.value, numbers.low, numbers.high, colors=style.DEV, linewidth=1,
                    label="smallest to largest")  # fmt: skip
    axes.plot(
        numbers.value, mean, marker="_", markersize=11, markeredgewidth=2.2, linestyle="-" if balanced else "none",
        color=style.DEV, label="mean",
    )  # fmt: skip
    axes.plot(
        numbers.trial_value, numbers.trial_score, "o", markersize=4, markerfacecolor="white", markeredgewidth=0.9,
        color=style.DEV, label="trial", zorder=3,
    )  # fmt: skip
    for score in numbers.teachers[:3]:
        style.mark_teacher(axes, score, f"dense teacher, {score:.3f}")
    if numbers.log:
        _log_axis(axes, numbers.value)
    axes.set_xlabel(numbers.label)
    axes.set_ylabel(f"Best {words.split_name(numbers.data.setting)} {words.metric_label(numbers.data.setting.metrics)}")


def _log_axis(axes: Axes, values: np.ndarray) -> None:
    axes.set_xscale("log")
    if len(values) <= 8:
        axes.set_xticks(values, [words.short_rate(value) for value in values])
        axes.tick_params(axis="x", labelrotation=30)
        axes.minorticks_off()


def caption(numbers: ScoreBy, against: str, paper: str) -> str:
    """What the picture shows, of what, what was left out, how far it can be trusted, and the paper's figure."""
    what = "line and band: mean and smallest to largest" if numbers.data.balanced else "bars: mean and range"
    teachers = words.many((f"{score:.3f}" for score in numbers.teachers), 3)
    teacher = f" Dash-dotted: the dense teacher's dev score, {teachers}." if teachers else ""
    return (
        f"Best {words.split_name(numbers.data.setting)} score at the target sparsity against {against}. Circles: "
        f"{len(numbers.trial_value):,} finished trials; {what} of the trials at one value, "
        f"{words.counts(numbers.n)}.{teacher} {captions.tail(numbers.data)} {paper}"
    )
