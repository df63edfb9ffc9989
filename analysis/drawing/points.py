"""The best score against a number that the trials vary, one point per trial: the ink of Figures 8 and 10 to 12."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from analysis.drawing import style
from analysis.drawing.captions import describe_origin
from analysis.numbers.score_by_value import ScoreByValue
from analysis.wording.formatting import format_counts, format_rate, join_shortened
from analysis.wording.names import metric_label, split_name

_MOST_TICKS = 8  # values that each get their own tick on a log axis
_CLOSEST = 0.18  # of the axis, between two such values


def draw_points(numbers: ScoreByValue, axes: Axes) -> None:
    """One circle per trial; means with a band where all values were run with the same settings, else with bars."""
    value, low, high, ranges = numbers.value, numbers.low, numbers.high, "smallest to largest"
    if numbers.data.balanced:
        mean, line = numbers.mean, "-"
        axes.fill_between(value, low, high, color=style.DEV, alpha=0.15, linewidth=0, label=ranges)
    else:
        mean, line = np.where(numbers.n > 1, numbers.mean, np.nan), "none"
        axes.vlines(value, low, high, colors=style.DEV, linewidth=1, label=ranges)
    axes.plot(value, mean, marker="_", markersize=11, markeredgewidth=2.2, linestyle=line, color=style.DEV,
              label="mean")  # fmt: skip
    axes.plot(
        numbers.trial_value, numbers.trial_score, "o", markersize=4, markerfacecolor="white", markeredgewidth=0.9,
        color=style.DEV, label="trial", zorder=3,
    )  # fmt: skip
    style.mark_teachers(axes, numbers.teachers)
    if numbers.log:
        _scale_log(axes, value)
    else:
        axes.locator_params(axis="x", nbins=6)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 4))
    axes.set_xlabel(numbers.label)
    axes.set_ylabel(f"Best {split_name(numbers.data.setting)} {metric_label(numbers.data.setting.metrics)}")


def _scale_log(axes: Axes, values: np.ndarray) -> None:
    axes.set_xscale("log")
    apart = np.diff(np.log(values)) > _CLOSEST * np.log(values[-1] / values[0])
    if len(values) <= _MOST_TICKS and apart.all():
        axes.set_xticks(values, [format_rate(value) for value in values])
        axes.tick_params(axis="x", labelrotation=30)
    else:
        ratio = values[-1] / values[0]
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if ratio < 10 else (1, 3) if ratio < 100 else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_rate(value)))
    axes.minorticks_off()


def describe_points(numbers: ScoreByValue, against: str, paper: str) -> str:
    """The caption: what the picture shows of which data, how far it can be trusted, and the paper's figure."""
    what = "line and band: mean and smallest to largest" if numbers.data.balanced else "bars: mean and range"
    teachers = join_shortened((f"{score:.3f}" for score in numbers.teachers), 3)
    teacher = f" Dash-dotted: the dense teacher's dev score, {teachers}." if teachers else ""
    return (
        f"Best {split_name(numbers.data.setting)} score at the target sparsity against {against}. Circles: "
        f"{len(numbers.trial_value):,} finished trials; {what} of the trials at each value, "
        f"{format_counts(numbers.n.tolist())}.{teacher} {describe_origin(numbers.data)} {paper}"
    )
