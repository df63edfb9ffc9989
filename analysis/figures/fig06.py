"""Figure 6: the train-dev gap of four strategies, from no progressive and no KD (a) to both (d)."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import captions, style
from analysis.numbers import over_steps as overtime
from analysis.numbers.figure_data import METHOD, by_seed, choose, gap
from analysis.numbers.over_steps import OverTime
from analysis.numbers.statistics import Scores
from analysis.reading.sweeps import Tables
from analysis.wording import formatting as words

NAME = "fig06"
TITLE = "Train and dev score of the four strategies (Figure 6)"
ORDER = ("finetune_prune", "progressive_only", "kd_only", "spd")  # (a) to (d)
_LETTERS = dict(zip(ORDER, "abcd", strict=True))


class Strategies(NamedTuple):
    """The curves of each strategy present, in the paper's order, and their gaps by seed."""

    scores: OverTime
    gaps: tuple[Scores, ...]


def compute(sweeps: Sequence[Tables]) -> Strategies:
    """The four strategies' trials. Raises NoData where no sweep has two of them."""
    source = choose(sweeps, NAME, METHOD, lambda trial: trial.method in ORDER)
    ordered = {method: source.groups[method] for method in ORDER if method in source.groups}
    source = source._replace(groups=ordered)
    return Strategies(overtime.of_source(source, NAME), tuple(by_seed(trials, gap) for trials in ordered.values()))


def missing(numbers: Strategies) -> list[str]:
    """The strategies that the sweep does not have."""
    present = {group.value for group in numbers.scores.groups}
    return [method for method in ORDER if method not in present]


def draw(numbers: Strategies, axes: dict[str, Axes]) -> None:
    """Train and dev score of each strategy in its panel ("a" to "d"), the gaps as bars in panel "e"."""
    setting, ends = numbers.scores.data.setting, numbers.scores.ends
    for method, letter in _LETTERS.items():
        axes[letter].set_title(f"({letter}) {words.method_name(method)}", loc="left")
        if method in missing(numbers):
            axes[letter].text(0.5, 0.5, "no data", transform=axes[letter].transAxes, ha="center", color="#767676")
    for group in numbers.scores.groups:
        panel = axes[_LETTERS[group.value]]
        overtime.draw_curve(panel, group.train, color=style.TRAIN, marker="s", label="train")
        overtime.draw_curve(panel, group.selected, color=style.DEV, marker="o", label=words.split_name(setting))
        overtime.finish(panel, ends, words.metric_label(setting.metrics), named=False)
        panel.set_xlabel("Step t (applied steps)" if panel in (axes["c"], axes["d"]) else "")
        if panel in (axes["b"], axes["d"]):
            panel.set_ylabel("")
    draw_gaps(numbers, axes["e"])


def draw_gaps(numbers: Strategies, axes: Axes) -> None:
    """A bar with the mean gap and a circle a seed, each strategy in its own colour."""
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
    setting = numbers.scores.data.setting
    axes.set_ylabel(f"Gap: train minus {words.split_name(setting)}\n{words.metric_label(setting.metrics)}")
    axes.set_title("(e) gap of the best student", loc="left")


def caption(numbers: Strategies) -> str:
    """What the panels show and what the paper shows at this place."""
    split = words.split_name(numbers.scores.data.setting)
    gaps = (
        f"({_LETTERS[group.value]}) {words.signed(float(np.mean(list(gaps.values()))))}"
        for group, gaps in zip(numbers.scores.groups, numbers.gaps, strict=True) if gaps
    )  # fmt: skip
    lacking = [f"({_LETTERS[method]})" for method in missing(numbers)]
    without = f" No data for {words.listing(lacking)}." if lacking else ""
    return (
        f"(a) to (d): train and {split} score over steps of the four strategies. "
        f"{overtime.drawn(numbers.scores.groups)} (e) Train minus {split} score of the best student at the target "
        f"sparsity, bars: means, circles: seeds; means {words.listing(gaps)}.{without} "
        f"{captions.tail(numbers.scores.data)} In the paper's Figure 6 (MRPC) the gap shrinks from (a) to (d), and KD "
        "matters more than progressive grafting."
    )


def figure(numbers: Strategies) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        picture = Figure(figsize=(style.WIDTH, 6.6), layout="constrained")
        picture.suptitle(words.title(numbers.scores.data.setting), fontsize=9)
        axes = picture.subplot_mosaic([["a", "b"], ["c", "d"], ["e", "e"]], height_ratios=[1, 1, 0.9])
        for letter in "bcd":
            axes[letter].sharey(axes["a"])
        draw(numbers, axes)
        style.legend(picture)
    return picture
