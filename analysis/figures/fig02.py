"""Figure 2: pruning while fine-tuning at several sparsities: train and dev score and loss over steps, their gap."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import captions, style
from analysis.errors import NoData
from analysis.numbers import over_steps as overtime
from analysis.numbers.figure_data import SPARSITY, by_seed, choose, gap
from analysis.numbers.over_steps import Curve, OverTime
from analysis.numbers.statistics import Estimate, bootstrap, slope_over
from analysis.reading.sweeps import Tables
from analysis.wording import formatting as words

NAME = "fig02"
TITLE = "Overfitting of pruning while fine-tuning (Figure 2)"
METHOD = "finetune_prune"


class Overfitting(NamedTuple):
    """Curves a sparsity, and the gap (train minus selected score of the best student) of N trials."""

    scores: OverTime
    losses: tuple[tuple[Curve, Curve], ...]  # (train, selected) a sparsity; empty curves where no loss is recorded
    trial_sparsity: np.ndarray  # (N,)
    trial_gap: np.ndarray  # (N,)
    sparsity: np.ndarray  # (G,) ascending
    mean_gap: np.ndarray  # (G,)
    slope: Estimate | None  # of the gap over the sparsity; None where a sparsity has no gap


def compute(sweeps: Sequence[Tables]) -> Overfitting:
    """The trials that prune while they fine-tune, by sparsity. Raises NoData with fewer than two sparsities."""
    source = choose(sweeps, NAME, SPARSITY, lambda trial: trial.method == METHOD)
    gaps = {value: by_seed(trials, gap) for value, trials in source.groups.items()}
    known = {value: scores for value, scores in gaps.items() if scores}
    if not known:
        raise NoData(f"sweep {source.tables.name} has no train scores")
    trials = [trial for trial in source.trials if trial.gap is not None]
    return Overfitting(
        scores=overtime.of_source(source, NAME),
        losses=tuple(
            (overtime.curve(source.tables, group, "train", "loss"), overtime.curve(source.tables, group, None, "loss"))
            for group in source.groups.values()
        ),
        trial_sparsity=np.array([trial.target_sparsity for trial in trials]),
        trial_gap=np.array([trial.gap for trial in trials], dtype=float),
        sparsity=np.array(list(known)),
        mean_gap=np.array([np.mean(list(scores.values())) for scores in known.values()]),
        slope=bootstrap(list(known.values()), slope_over(list(known))) if len(known) > 1 else None,
    )


def draw(numbers: Overfitting, axes: Sequence[Axes]) -> None:
    """(a) scores over steps, train dashed; (b) losses, where recorded; (c) the gap against the sparsity."""
    *curves, last = axes
    looks = overtime.ramp_looks(numbers.scores.groups, "sparsity")
    setting, ends = numbers.scores.data.setting, numbers.scores.ends
    for group, look in zip(numbers.scores.groups, looks, strict=True):
        how: dict[str, Any] = {"color": look.colour, "marker": look.marker}
        overtime.draw_curve(curves[0], group.selected, label=f"{look.label} (n = {group.n})", **how)
        overtime.draw_curve(curves[0], group.train, linestyle="--", markerfacecolor="white", **how)
    for label, line, face in (("train", "--", "white"), (words.split_name(setting), "-", style.INK)):
        curves[0].plot([], [], "o", linestyle=line, color=style.INK, markerfacecolor=face, markersize=3, label=label)
    overtime.finish(curves[0], ends, words.metric_label(setting.metrics))
    for panel in curves[1:]:
        for (train, selected), look in zip(numbers.losses, looks, strict=True):
            how = {"color": look.colour, "marker": look.marker}
            overtime.draw_curve(panel, selected, **how)
            overtime.draw_curve(panel, train, linestyle="--", markerfacecolor="white", **how)
        overtime.finish(panel, ends, "loss", named=False)
    draw_gap(numbers, last)
    for letter, panel in zip("abc", axes, strict=False):
        panel.set_title(f"({letter})", loc="left")


def draw_gap(numbers: Overfitting, axes: Axes) -> None:
    """A circle a trial, the means, the fitted line."""
    colour = style.method_mark(METHOD)[0]
    axes.axhline(0, color=style.INK, linewidth=0.8)
    axes.plot(numbers.trial_sparsity, numbers.trial_gap, "o", markersize=4, markerfacecolor="white", color=colour)
    axes.plot(numbers.sparsity, numbers.mean_gap, "_", markersize=11, markeredgewidth=2.2, color=colour)
    if numbers.slope is not None:
        middle, height = numbers.sparsity.mean(), numbers.mean_gap.mean()
        axes.plot(
            numbers.sparsity, height + numbers.slope.value * (numbers.sparsity - middle), color=colour,
        )  # fmt: skip
        axes.annotate(f"slope {words.interval(numbers.slope)}", (0.02, 0.98), xycoords="axes fraction", va="top",
                      fontsize=8)  # fmt: skip
        axes.margins(y=0.18)
    axes.set_xlabel(SPARSITY.label)
    split = words.split_name(numbers.scores.data.setting)
    axes.set_ylabel(f"Gap: train minus {split}\n{words.metric_label(numbers.scores.data.setting.metrics)}")


def has_losses(numbers: Overfitting) -> bool:
    """Whether any loss of an evaluation was recorded."""
    return any(len(curve.step) for pair in numbers.losses for curve in pair)


def caption(numbers: Overfitting) -> str:
    """What the panels show and what the paper shows at this place."""
    split = words.split_name(numbers.scores.data.setting)
    letter = "c" if has_losses(numbers) else "b"
    losses = "(b) The same for the loss. " if has_losses(numbers) else ""
    fitted = f" The fitted slope is {words.interval(numbers.slope)} a unit of sparsity." if numbers.slope else ""
    return (
        f"Pruning while fine-tuning. (a) Train (dashed, open marks) and {split} score (full) over "
        f"steps. {overtime.drawn(numbers.scores.groups)} {losses}({letter}) Gap between train and {split} score of "
        f"each trial's best student at its target sparsity.{fitted} {captions.tail(numbers.scores.data)} "
        "The paper's Figure 2 (MRPC) shows the train score rising while the dev score stalls, and a gap that widens "
        "with the pruning rate."
    )


def figure(numbers: Overfitting) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        rows = 3 if has_losses(numbers) else 2
        picture, axes = style.picture(numbers.scores.data.setting, 1.0 + 2.5 * rows, rows)
        draw(numbers, list(axes))
        style.legend(picture, 3)
    return picture
