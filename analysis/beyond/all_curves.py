"""The scores of all trials of a sweep over their steps, one line each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.captions import describe_setting
from analysis.errors import NoData
from analysis.numbers.leaderboard import run_key
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Setting, Trial, setting_of, teacher_scores
from analysis.wording.formatting import capitalize, pluralize
from analysis.wording.names import metric_label, split_name

NAME = "all_curves"
TITLE = "All trials over their steps"
MOST = 200  # lines; the best ones


class Line(NamedTuple):
    """One trial's score at its E evaluations on the split on which students are chosen."""

    key: str  # that marks the trial
    step: np.ndarray  # (E,) applied steps before the evaluation
    score: np.ndarray  # (E,)
    best_step: int | None  # of its best student at the target sparsity
    best_score: float | None
    sparsity: float


class AllCurves(NamedTuple):
    """The lines, the best trial's last, and how many trials are not drawn."""

    sweep: str
    setting: Setting
    lines: tuple[Line, ...]
    more: int
    teachers: tuple[float, ...]


def compute(sweeps: Sequence[Sweep]) -> AllCurves:
    """Every trial of the sweep with the most trials. Raises NoData where none has been evaluated."""
    sweep = max(sweeps, key=lambda sweep: len(sweep.trials), default=None)
    found = [(trial, _line(sweep, trial)) for trial in sweep.trials] if sweep else []
    drawn = [(trial, line) for trial, line in found if len(line.step)]
    if sweep is None or not drawn:
        raise NoData("no trial has been evaluated yet")
    drawn.sort(key=lambda pair: (pair[0].eligible, pair[1].best_score or 0.0))
    trials = [trial for trial, _ in drawn[-MOST:]]
    return AllCurves(
        sweep.name, setting_of(trials), tuple(line for _, line in drawn[-MOST:]), max(0, len(drawn) - MOST),
        teacher_scores(trials),
    )  # fmt: skip


def _line(sweep: Sweep, trial: Trial) -> Line:
    step, score = sweep.evaluations.of(trial.trial_id, trial.selection, trial.metric)
    key = run_key(sweep.name, trial.configuration, trial.trial_id)
    return Line(key, step, score, trial.best_step, trial.best_score, trial.target_sparsity)


def draw(numbers: AllCurves, axes: Axes) -> None:
    """The lines from the worst, light, to the best, dark; with a dot at each trial's best student."""
    sparsities = numbers.setting.sparsities
    colours = dict(zip(sparsities, style.ramp(len(sparsities)) if len(sparsities) > 1 else [style.DEV], strict=True))
    for place, line in enumerate(numbers.lines, 1):
        colour, last = colours[line.sparsity], place == len(numbers.lines)
        strength = 1.0 if last else 0.25 + 0.45 * place / len(numbers.lines)
        axes.plot(
            line.step, line.score, color=colour, linewidth=2.0 if last else 1.0, alpha=strength, gid=line.key,
            marker="o" if len(line.step) == 1 else None, markersize=2,
        )  # fmt: skip
        if line.best_step is not None and line.best_score is not None:
            axes.plot([line.best_step], [line.best_score], "o", color=colour, markersize=3, alpha=strength)
    if len(sparsities) > 1:
        for sparsity in sparsities:
            axes.plot([], [], color=colours[sparsity], label=f"target sparsity {sparsity:g}")
    style.mark_teachers(axes, numbers.teachers)
    axes.set_xlim(0, max(float(line.step[-1]) for line in numbers.lines))
    axes.set_xlabel("Step t (applied optimizer steps)")
    axes.set_ylabel(f"{capitalize(split_name(numbers.setting))} {metric_label(numbers.setting.metrics)}")


def caption(numbers: AllCurves) -> str:
    """What the lines are."""
    more = f" {pluralize(numbers.more, 'more trial')} not shown." if numbers.more else ""
    return (
        f"{capitalize(split_name(numbers.setting))} score of {pluralize(len(numbers.lines), 'trial')} over their "
        f"steps, stopped and running ones included; the thick line is the best trial's. Dots: each trial's best "
        f"student at its target sparsity; what scores more before it is denser and does not count.{more} "
        f"Sweep {numbers.sweep}. {describe_setting(numbers.setting)}"
    )


def figure(numbers: AllCurves) -> Figure:
    """The picture."""
    return style.compose(numbers.setting, 3.6, lambda axes: draw(numbers, *axes), legend=3)
