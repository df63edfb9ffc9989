"""Figure 6: the train-dev gap of four strategies, from no progressive and no KD (a) to both (d)."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import lines, style
from analysis.drawing.captions import describe_origin, gap_label, picture_title
from analysis.numbers import over_steps
from analysis.numbers.dimensions import METHOD, STRATEGIES, is_strategy
from analysis.numbers.figure_data import choose_data, final_gap, mean_by_seed
from analysis.numbers.over_steps import OverSteps
from analysis.numbers.statistics import SeedScores
from analysis.reading.sweeps import Sweep
from analysis.wording.formatting import format_signed, join
from analysis.wording.names import method_name, metric_label, split_name

NAME = "fig06"
TITLE = "Train and dev score of the four strategies (Figure 6)"
_LETTERS = dict(zip(STRATEGIES, "abcd", strict=True))


class Strategies(NamedTuple):
    """The curves of each strategy present, in the paper's order, and their gaps at the end by seed."""

    scores: OverSteps
    gaps: tuple[SeedScores, ...]


def compute(sweeps: Sequence[Sweep]) -> Strategies:
    """The four strategies' trials. Raises NoData where no sweep has two of them."""
    data = choose_data(sweeps, NAME, METHOD, is_strategy)
    ordered = {method: data.groups[method] for method in STRATEGIES if method in data.groups}
    data = data._replace(groups=ordered)
    gap = final_gap(data.sweep)
    return Strategies(over_steps.collect(data, NAME), tuple(mean_by_seed(trials, gap) for trials in ordered.values()))


def missing_strategies(numbers: Strategies) -> list[str]:
    """The strategies that the sweep does not have."""
    present = {group.value for group in numbers.scores.groups}
    return [method for method in STRATEGIES if method not in present]


def draw(numbers: Strategies, axes: dict[str, Axes]) -> None:
    """Train and dev score of each strategy in its panel ("a" to "d"), the gaps as bars in panel "e"."""
    setting, ends = numbers.scores.data.setting, numbers.scores.ends
    for method, letter in _LETTERS.items():
        axes[letter].set_title(f"({letter}) {method_name(method)}", loc="left")
        if method in missing_strategies(numbers):
            axes[letter].text(0.5, 0.5, "no data", transform=axes[letter].transAxes, ha="center", color=style.GREY)
    for group in numbers.scores.groups:
        panel = axes[_LETTERS[group.value]]
        lines.draw_curve(panel, group.train, color=style.TRAIN, marker="s", label="train")
        lines.draw_curve(panel, group.selected, color=style.DEV, marker="o", label=split_name(setting))
        lines.label_axes(panel, ends, metric_label(setting.metrics), named=False)
        panel.set_xlabel("Step t (applied steps)" if panel in (axes["c"], axes["d"]) else "")
        if panel in (axes["b"], axes["d"]):
            panel.set_ylabel("")
    draw_gaps(numbers, axes["e"])


def draw_gaps(numbers: Strategies, axes: Axes) -> None:
    """A bar for the mean gap and one circle per seed, each strategy in its own colour."""
    for place, (group, gaps) in enumerate(zip(numbers.scores.groups, numbers.gaps, strict=True)):
        if not gaps:
            continue
        colour, values = style.method_mark(group.value)[0], list(gaps.values())
        axes.bar(place, np.mean(values), color=colour, alpha=0.75, width=0.6)
        axes.plot([place] * len(values), values, "o", color=style.INK, markerfacecolor="white", markersize=4)
    names = [f"({_LETTERS[group.value]}) n = {len(gaps)}"
             for group, gaps in zip(numbers.scores.groups, numbers.gaps, strict=True)]  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.axhline(0, color=style.INK, linewidth=0.8)
    axes.set_ylabel(gap_label(numbers.scores.data.setting))
    axes.set_title("(e) gap at the end of Stage III", loc="left")


def caption(numbers: Strategies) -> str:
    """What the panels show, and what the paper's figure shows."""
    split = split_name(numbers.scores.data.setting)
    gaps = (
        f"({_LETTERS[group.value]}) {format_signed(float(np.mean(list(gaps.values()))))}"
        for group, gaps in zip(numbers.scores.groups, numbers.gaps, strict=True) if gaps
    )  # fmt: skip
    lacking = [f"({_LETTERS[method]})" for method in missing_strategies(numbers)]
    without = f" No data for {join(lacking)}." if lacking else ""
    return (
        f"(a) to (d): train and {split} score over steps of the four strategies. "
        f"{lines.describe_lines(numbers.scores.groups)} (e) Train minus {split} score at the end of "
        f"Stage III, bars: means, circles: seeds; means {join(gaps)}.{without} "
        f"{describe_origin(numbers.scores.data)} In the paper's Figure 6 (MRPC) the gap shrinks from (a) to (d), and "
        "KD matters more than progressive grafting."
    )


def figure(numbers: Strategies) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        picture = Figure(figsize=(style.WIDTH, 6.6), layout="constrained")
        picture.suptitle(picture_title(numbers.scores.data.setting), fontsize=9)
        axes = picture.subplot_mosaic([["a", "b"], ["c", "d"], ["e", "e"]], height_ratios=[1, 1, 0.9])
        for letter in "bcd":
            axes[letter].sharey(axes["a"])
        draw(numbers, axes)
        style.add_legend(picture)
    return picture
