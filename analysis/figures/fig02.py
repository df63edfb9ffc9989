"""Figure 2: pruning while fine-tuning at several sparsities: train and dev score and loss over steps, their gap."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import lines, style
from analysis.drawing.captions import describe_origin, format_interval, gap_label
from analysis.errors import NoData
from analysis.numbers import over_steps
from analysis.numbers.contrasts import slope_over
from analysis.numbers.dimensions import SPARSITY, prunes_while_finetuning
from analysis.numbers.figure_data import choose_data, gap, mean_by_seed
from analysis.numbers.over_steps import Curve, OverSteps, mean_curve
from analysis.numbers.statistics import Estimate, bootstrap
from analysis.reading.sweeps import Sweep
from analysis.wording.names import metric_label, split_name

NAME = "fig02"
TITLE = "Overfitting of pruning while fine-tuning (Figure 2)"


class Overfitting(NamedTuple):
    """Curves per sparsity, and the gap (train minus selected score of the best student) of N trials."""

    scores: OverSteps
    losses: tuple[tuple[Curve, Curve], ...]  # (train, selected) per sparsity; empty curves where no loss is recorded
    trial_sparsity: np.ndarray  # (N,)
    trial_gap: np.ndarray  # (N,)
    sparsity: np.ndarray  # (G,) ascending
    mean_gap: np.ndarray  # (G,)
    slope: Estimate | None  # of the gap over the sparsity; None where fewer than two sparsities have a gap


def compute(sweeps: Sequence[Sweep]) -> Overfitting:
    """The trials that prune while they fine-tune, by sparsity. Raises NoData with fewer than two sparsities."""
    data = choose_data(sweeps, NAME, SPARSITY, prunes_while_finetuning)
    gaps = {value: mean_by_seed(trials, gap) for value, trials in data.groups.items()}
    known = {value: scores for value, scores in gaps.items() if scores}
    if not known:
        raise NoData(f"sweep {data.sweep.name} has no train scores")
    trials = [trial for trial in data.trials if trial.gap is not None]
    return Overfitting(
        scores=over_steps.collect(data, NAME),
        losses=tuple(
            (mean_curve(data.sweep, group, "train", "loss"), mean_curve(data.sweep, group, None, "loss"))
            for group in data.groups.values()
        ),
        trial_sparsity=np.array([trial.target_sparsity for trial in trials]),
        trial_gap=np.array([trial.gap for trial in trials], dtype=float),
        sparsity=np.array(list(known)),
        mean_gap=np.array([np.mean(list(scores.values())) for scores in known.values()]),
        slope=bootstrap(list(known.values()), slope_over(list(known))) if len(known) > 1 else None,
    )


def draw(numbers: Overfitting, axes: Sequence[Axes]) -> None:
    """(a) scores over steps, train dashed; (b) losses, where recorded; (c) the gap against the sparsity."""
    first, *middle, last = axes
    looks = lines.ramp_looks(numbers.scores.groups, "sparsity")
    setting, ends = numbers.scores.data.setting, numbers.scores.ends
    for group, look in zip(numbers.scores.groups, looks, strict=True):
        _draw_pair(first, group.train, group.selected, look, f"{look.label} (n = {group.n})")
    for label, line, face in (("train", "--", "white"), (split_name(setting), "-", style.INK)):
        first.plot([], [], "o", linestyle=line, color=style.INK, markerfacecolor=face, markersize=3, label=label)
    lines.label_axes(first, ends, metric_label(setting.metrics))
    for panel in middle:
        for (train, curve), look in zip(numbers.losses, looks, strict=True):
            _draw_pair(panel, train, curve, look)
        lines.label_axes(panel, ends, "loss", named=False)
    draw_gap(numbers, last)
    for letter, panel in zip("abc", axes, strict=False):
        panel.set_title(f"({letter})", loc="left")


def _draw_pair(axes: Axes, train: Curve, selected: Curve, look: lines.Look, label: str | None = None) -> None:
    """The selection split's curve with full marks, train's dashed with open ones."""
    how: dict[str, Any] = {"color": look.colour, "marker": look.marker}
    lines.draw_curve(axes, selected, label=label, **how)
    lines.draw_curve(axes, train, linestyle="--", markerfacecolor="white", **how)


def draw_gap(numbers: Overfitting, axes: Axes) -> None:
    """One circle per trial, the means, the fitted line."""
    colour = style.method_mark("finetune_prune")[0]
    axes.axhline(0, color=style.INK, linewidth=0.8)
    axes.plot(numbers.trial_sparsity, numbers.trial_gap, "o", markersize=4, markerfacecolor="white", color=colour)
    axes.plot(numbers.sparsity, numbers.mean_gap, "_", markersize=11, markeredgewidth=2.2, color=colour)
    if numbers.slope is not None:
        fitted = numbers.mean_gap.mean() + numbers.slope.value * (numbers.sparsity - numbers.sparsity.mean())
        axes.plot(numbers.sparsity, fitted, color=colour)
        axes.annotate(f"slope {format_interval(numbers.slope)}", (0.02, 0.98), xycoords="axes fraction", va="top",
                      fontsize=8)  # fmt: skip
        axes.margins(y=0.18)
    axes.set_xlabel(SPARSITY.label)
    axes.set_ylabel(gap_label(numbers.scores.data.setting))


def has_losses(numbers: Overfitting) -> bool:
    """Whether any loss of an evaluation was recorded."""
    return any(len(curve.step) for pair in numbers.losses for curve in pair)


def caption(numbers: Overfitting) -> str:
    """What the panels show, and what the paper's figure shows."""
    split = split_name(numbers.scores.data.setting)
    letter, losses = ("c", "(b) The same for the loss. ") if has_losses(numbers) else ("b", "")
    fitted = f" The fitted slope is {format_interval(numbers.slope)} per unit of sparsity." if numbers.slope else ""
    return (
        f"Pruning while fine-tuning. (a) Train (dashed, open marks) and {split} score (solid) over "
        f"steps. {lines.describe_lines(numbers.scores.groups)} {losses}({letter}) Gap between train and {split} score "
        f"of each trial's best student at its target sparsity.{fitted} {describe_origin(numbers.scores.data)} "
        "The paper's Figure 2 (MRPC) shows the train score rising while the dev score stalls, and a gap that widens "
        "with the pruning rate."
    )


def figure(numbers: Overfitting) -> Figure:
    """The picture."""
    rows = 3 if has_losses(numbers) else 2
    return style.compose(
        numbers.scores.data.setting, 1.0 + 2.5 * rows, lambda axes: draw(numbers, axes), rows, legend=3
    )
