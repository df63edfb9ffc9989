"""Figure 2: pruning while fine-tuning at several sparsities: train and dev score and loss over steps, their gap.

With KD through the whole training (`fig02`), as its caption says; and on the labels alone (`fig02_without_kd`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import lines, style
from analysis.drawing.captions import describe_origin, format_interval, gap_label
from analysis.errors import NoData
from analysis.numbers import over_steps
from analysis.numbers.contrasts import slope_over
from analysis.numbers.dimensions import SPARSITY, prunes_with_kd, prunes_without_kd
from analysis.numbers.figure_data import choose_data, final_gap, mean_by_seed
from analysis.numbers.over_steps import Curve, OverSteps, mean_curve
from analysis.numbers.statistics import Estimate, bootstrap
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial
from analysis.wording.names import metric_label, split_name


class Variant(NamedTuple):
    """With KD, or without: the title, which trials are shown, and their method's colour."""

    title: str
    keep: Callable[[Trial], bool]
    method: str
    how: str


VARIANTS = {
    "fig02": Variant("Overfitting of pruning while fine-tuning under KD (Figure 2)", prunes_with_kd, "kd_only",
                     "under KD, as the caption of the paper's figure says"),
    "fig02_without_kd": Variant("Overfitting of pruning while fine-tuning, without KD", prunes_without_kd,
                                "finetune_prune", "on the labels alone, without the KD of the paper's figure"),
}  # fmt: skip


class Overfitting(NamedTuple):
    """Curves per sparsity, and the gap (train minus selected score at the end of Stage III) of N trials."""

    variant: Variant
    scores: OverSteps
    losses: tuple[tuple[Curve, Curve], ...]  # (train, selected) per sparsity; empty curves where no loss is recorded
    trial_sparsity: np.ndarray  # (N,)
    trial_gap: np.ndarray  # (N,)
    sparsity: np.ndarray  # (G,) ascending
    mean_gap: np.ndarray  # (G,)
    slope: Estimate | None  # of the gap over the sparsity; None where fewer than two sparsities have a gap


def title(name: str) -> str:
    """The title of the variant `name`."""
    return VARIANTS[name].title


def compute(sweeps: Sequence[Sweep], name: str = "fig02") -> Overfitting:
    """The trials of the variant `name`, by sparsity. Raises NoData with fewer than two sparsities."""
    variant = VARIANTS[name]
    data = choose_data(sweeps, name, SPARSITY, variant.keep)
    gap = final_gap(data.sweep)
    gaps = {value: mean_by_seed(trials, gap) for value, trials in data.groups.items()}
    known = {value: scores for value, scores in gaps.items() if scores}
    if not known:
        raise NoData(f"sweep {data.sweep.name} has no train scores at the end of the training")
    trials = [(trial, found) for trial in data.trials if (found := gap(trial)) is not None]
    return Overfitting(
        variant=variant,
        scores=over_steps.collect(data, name),
        losses=tuple(
            (mean_curve(data.sweep, group, "train", "loss"), mean_curve(data.sweep, group, None, "loss"))
            for group in data.groups.values()
        ),
        trial_sparsity=np.array([trial.target_sparsity for trial, _ in trials]),
        trial_gap=np.array([found for _, found in trials]),
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
    colour = style.method_mark(numbers.variant.method)[0]
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
        f"Pruning while fine-tuning, {numbers.variant.how}. (a) Train (dashed, open marks) and {split} score "
        f"(solid) over steps. {lines.describe_lines(numbers.scores.groups)} {losses}({letter}) Gap between train and "
        f"{split} score of each student at the end of Stage III.{fitted} {describe_origin(numbers.scores.data)} "
        "The paper's Figure 2 (MRPC) prunes in the first 1,000 steps under KD and shows the train score rising "
        "while the dev score stalls, and a gap that widens with the pruning rate."
    )


def figure(numbers: Overfitting) -> Figure:
    """The picture."""
    rows = 3 if has_losses(numbers) else 2
    return style.compose(
        numbers.scores.data.setting, 1.0 + 2.5 * rows, lambda axes: draw(numbers, axes), rows, legend=3
    )
