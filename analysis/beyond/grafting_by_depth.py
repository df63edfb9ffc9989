"""Does progressive grafting pay off with depth: KD alone against SPD on teachers of several depths."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.captions import describe_setting, format_interval
from analysis.errors import NoData
from analysis.numbers.contrasts import difference
from analysis.numbers.figure_data import best_score, gap, group_by, mean_by_seed, require_sweeps
from analysis.numbers.statistics import Estimate, bootstrap
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Setting, setting_of, status_counts
from analysis.wording.formatting import join
from analysis.wording.names import metric_label, split_name

NAME = "depth"
TITLE = "Does progressive grafting pay off with depth?"
WITH, WITHOUT = "spd", "kd_only"


class DepthGains(NamedTuple):
    """What progressive grafting adds at D depths: SPD minus KD alone."""

    sweeps: tuple[str, ...]
    setting: Setting
    layers: tuple[int, ...]  # (D,) ascending
    score_gain: tuple[Estimate, ...]  # (D,) of the best score; above 0 where progressive grafting helps
    gap_change: tuple[Estimate | None, ...]  # (D,) of the train-dev gap; below 0 where it helps


def compute(sweeps: Sequence[Sweep]) -> DepthGains:
    """The differences at each depth at which both methods ran. Raises NoData where there is none."""
    own = require_sweeps(sweeps, NAME)
    trials = [trial for sweep in own for trial in sweep.comparable if trial.layers is not None]
    estimates, kept = {}, []
    for layers, same_depth in group_by(trials, lambda trial: trial.layers).items():
        methods = group_by(same_depth, lambda trial: trial.method)
        if WITH in methods and WITHOUT in methods:
            pair = [methods[WITH], methods[WITHOUT]]
            gaps = [mean_by_seed(part, gap) for part in pair]
            change = bootstrap(gaps, difference) if all(gaps) else None
            estimates[layers] = bootstrap([mean_by_seed(part, best_score) for part in pair], difference), change
            kept += [trial for part in pair for trial in part]
    if not estimates:
        every = [trial for sweep in own for trial in sweep.trials]
        raise NoData(f"in sweep {own[0].name} no depth has finished trials of both {WITH} and {WITHOUT} "
                     f"({status_counts(every)})")  # fmt: skip
    gains, changes = zip(*estimates.values(), strict=True)
    return DepthGains(tuple(sweep.name for sweep in own), setting_of(kept), tuple(estimates), gains, changes)


def draw(numbers: DepthGains, axes: Sequence[Axes]) -> None:
    """Estimates with their intervals over the depth: (a) the score's gain, (b) the gap's change."""
    metric = metric_label(numbers.setting.metrics)
    for panel, estimates, label in (
        (axes[0], numbers.score_gain, f"(a) gain in {split_name(numbers.setting)}\n{metric}"),
        (axes[1], numbers.gap_change, "(b) change of the\ntrain-dev gap"),
    ):
        panel.axhline(0, color=style.INK, linewidth=0.8)
        for layers, estimate in zip(numbers.layers, estimates, strict=True):
            if estimate is None:
                continue
            if np.isfinite(estimate.low):
                panel.vlines(layers, estimate.low, estimate.high, colors=style.SPD, linewidth=1.6)
            panel.plot([layers], [estimate.value], "o", color=style.SPD)
            panel.annotate(
                f"n = {estimate.n}", (layers, estimate.value), (6, 3), textcoords="offset points", fontsize=8
            )
        panel.set_ylabel(label)
    axes[-1].set_xticks(numbers.layers)
    axes[-1].set_xlabel("Encoder layers of the teacher")
    room = 0.15 * max(numbers.layers[-1] - numbers.layers[0], 4)
    axes[-1].set_xlim(numbers.layers[0] - room, numbers.layers[-1] + room)


def caption(numbers: DepthGains) -> str:
    """What the panels show."""
    gains = (f"{layers} layers {format_interval(estimate)}"
             for layers, estimate in zip(numbers.layers, numbers.score_gain, strict=True))  # fmt: skip
    return (
        "SPD minus KD without progressive grafting, paired by seed: (a) of the best score, (b) of the train-dev gap "
        f"of the best student; vertical lines: 95% intervals. Gains: {join(gains)}. "
        f"Sweep {join(numbers.sweeps)}. {describe_setting(numbers.setting)} Beyond the paper, which compares "
        "(c) and (d) of its Figure 6 on BERT-base's 12 layers alone."
    )


def figure(numbers: DepthGains) -> Figure:
    """The picture."""
    return style.compose(numbers.setting, 4.2, lambda axes: draw(numbers, axes), 2, sharex=True)
