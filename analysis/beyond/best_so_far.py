"""The best score that a sweep had found after so many device hours, at each sparsity."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.captions import describe_exclusions, describe_setting
from analysis.numbers.leaderboard import largest_sweep, run_key
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Exclusions, Setting, setting_of, teacher_scores
from analysis.wording.formatting import capitalize, format_number, join
from analysis.wording.names import metric_label, split_name

NAME = "best_so_far"
TITLE = "Best score so far"


class Line(NamedTuple):
    """The N trials of one target sparsity, in the order of their numbers."""

    sparsity: float
    spent: np.ndarray  # (N,) by all of the sweep's trials up to this one: device hours, or trials
    score: np.ndarray  # (N,) of the trial's best student
    best: np.ndarray  # (N,) highest of the scores so far
    keys: tuple[str, ...]  # (N,) that mark the trials


class BestSoFar(NamedTuple):
    """One sweep's lines by ascending sparsity."""

    sweep: str
    setting: Setting
    in_hours: bool  # whether every trial has recorded its time, so that `spent` is in device hours
    lines: tuple[Line, ...]
    teachers: tuple[float, ...]
    exclusions: Exclusions


def compute(sweeps: Sequence[Sweep]) -> BestSoFar:
    """The lines of the sweep with the most students. Raises NoData where there is none."""
    sweep = largest_sweep(sweeps)
    ended = [trial for trial in sweep.trials if trial.status in ("finished", "stopped", "failed")]
    in_hours = all(trial.device_seconds is not None for trial in ended if trial.eligible)
    costs = [(trial.device_seconds or 0.0) / 3600 if in_hours else 1.0 for trial in ended]
    placed = [pair for pair in zip(ended, itertools.accumulate(costs), strict=True) if pair[0].eligible]
    lines = []
    for sparsity in sorted({trial.target_sparsity for trial, _ in placed}):
        mine = [(trial, spent) for trial, spent in placed if trial.target_sparsity == sparsity]
        score = np.array([trial.best_score for trial, _ in mine], dtype=float)
        keys = tuple(run_key(sweep.name, trial.configuration, trial.trial_id) for trial, _ in mine)
        spent = np.array([spent for _, spent in mine])
        lines.append(Line(sparsity, spent, score, np.maximum.accumulate(score), keys))
    students = [trial for trial, _ in placed]
    lost = (("without a student at its target sparsity", len(ended) - len(students)),)
    return BestSoFar(
        sweep.name, setting_of(students), in_hours, tuple(lines), teacher_scores(students), lost if lost[0][1] else ()
    )


def draw(numbers: BestSoFar, axes: Axes) -> None:
    """A circle a trial, and for each sparsity a staircase of the best so far."""
    end = max(float(line.spent[-1]) for line in numbers.lines)
    colours = [style.DEV] if len(numbers.lines) == 1 else style.ramp(len(numbers.lines))
    for line, colour, marker in zip(numbers.lines, colours, itertools.cycle(style.MARKERS)):
        for spent, score, key in zip(line.spent, line.score, line.keys, strict=True):
            axes.plot([spent], [score], marker, color=colour, markersize=4, markerfacecolor="white", gid=key)
        name = "best so far" if len(numbers.lines) == 1 else f"best at {line.sparsity:g}"
        axes.plot(
            np.append(line.spent, end), np.append(line.best, line.best[-1]), drawstyle="steps-post", color=colour,
            label=name,
        )  # fmt: skip
    style.mark_teachers(axes, numbers.teachers)
    axes.set_xlim(0, 1.02 * end)
    axes.set_xlabel("Device hours spent, in the order of the trials" if numbers.in_hours else "Trials that have ended")
    axes.set_ylabel(f"Best {split_name(numbers.setting)} {metric_label(numbers.setting.metrics)}")


def caption(numbers: BestSoFar) -> str:
    """What circles and lines are, and when the search last found something better."""
    ends = join(_last_gain(line, numbers.in_hours) for line in numbers.lines)
    return (
        f"Circles: the best student of each trial; line: the best so far. {capitalize(ends)}. A choice among many on "
        f"the very split that is shown is optimistic. Sweep {numbers.sweep}. {describe_exclusions(numbers.exclusions)} "
        f"{describe_setting(numbers.setting)}"
    )


def _last_gain(line: Line, in_hours: bool) -> str:
    last = int(np.argmax(line.score))
    where = format_number(float(line.spent[last]), ".3g" if in_hours else ".0f")
    unit = f"after {where} device hours" if in_hours else f"with trial {where}"
    return f"at sparsity {line.sparsity:g} {line.score[last]:.3f} was reached {unit}"


def figure(numbers: BestSoFar) -> Figure:
    """The picture."""
    return style.compose(numbers.setting, 3.4, lambda axes: draw(numbers, *axes), legend=3)
