"""Scores over training steps, one line per group of trials: the ink of Figures 2, 6, 7 and 9 to 16."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from analysis.drawing import style
from analysis.drawing.captions import describe_origin
from analysis.numbers.over_steps import Curve, Group, OverSteps, StageEnds
from analysis.wording.formatting import capitalize, format_counts, format_value
from analysis.wording.names import metric_label, split_name


class Look(NamedTuple):
    """How a group's line is drawn and labelled."""

    label: str
    colour: str
    marker: str
    line: str = "-"


def draw_curve(axes: Axes, curve: Curve, **how: Any) -> None:
    """The mean as a line and, where there are several trials, a band from the smallest to the largest score."""
    if not len(curve.step):
        return
    axes.plot(curve.step, curve.mean, **{"markersize": 3.0, **how})
    if curve.n > 1:
        axes.fill_between(curve.step, curve.low, curve.high, color=how["color"], alpha=0.15, linewidth=0)


def label_axes(axes: Axes, ends: StageEnds, label: str, named: bool = True) -> None:
    """The stages' ends, `named` or not, and the labels of the axes."""
    style.mark_stages(axes, ends.t1, ends.t2, ends.t3, named=named)
    axes.set_xlabel("Step t (applied optimizer steps)")
    axes.set_ylabel(capitalize(label))


def ramp_looks(groups: Sequence[Group], symbol: str) -> list[Look]:
    """Ascending values from dark to light, each with its own marker."""
    colours = style.ramp(len(groups))
    return [
        Look(f"{symbol} = {format_value(group.value)}", colours[number], style.MARKERS[number % len(style.MARKERS)])
        for number, group in enumerate(groups)
    ]


def draw_groups(numbers: OverSteps, axes: Axes, looks: Sequence[Look]) -> None:
    """One line per group with its band, the teachers' scores, the ends of the stages."""
    for group, look in zip(numbers.groups, looks, strict=True):
        draw_curve(
            axes, group.selected, color=look.colour, marker=look.marker, linestyle=look.line,
            label=f"{look.label} (n = {group.n})",
        )  # fmt: skip
    style.mark_teachers(axes, numbers.teachers)
    setting = numbers.data.setting
    label_axes(axes, numbers.ends, f"{split_name(setting)} {metric_label(setting.metrics)}")


def describe_lines(groups: Sequence[Group]) -> str:
    """What lines and bands are, for a caption, with the number of trials behind each."""
    return f"Lines: means over seeds; bands: smallest to largest; {format_counts([group.n for group in groups])}."


def describe_groups(numbers: OverSteps, looks: Sequence[Look], what: str, paper: str) -> str:
    """The caption of a figure drawn by `draw_groups`; `what` the groups are, and what the paper's figure shows."""
    best = (
        f"{look.label}: {group.mean:.3f} ({group.low:.3f} to {group.high:.3f}, n = {group.n})"
        for group, look in zip(numbers.groups, looks, strict=True)
    )
    return (
        f"{capitalize(split_name(numbers.data.setting))} score over steps {what}. {describe_lines(numbers.groups)} "
        f"Best scores at the target sparsity, mean and range: {'; '.join(best)}. "
        f"{describe_origin(numbers.data)} {paper}"
    )
