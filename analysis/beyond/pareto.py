"""Score against the encoder weights that remain, with the Pareto front of each task."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.errors import NoData
from analysis.numbers.statistics import pareto
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Setting, Trial, rungs, setting_of, status_counts
from analysis.wording import formatting as words

NAME = "pareto"
TITLE = "Score against remaining encoder weights"
MOST_TASKS = 6


class Task(NamedTuple):
    """N students of one task and model; a student is the mean over the seeds of one configuration at one sparsity."""

    name: str
    remaining: np.ndarray  # (N,) fraction of the encoder's parameters that are not zero
    score: np.ndarray  # (N,) mean over seeds
    method: tuple[str, ...]  # (N,)
    front: np.ndarray  # indices of the students that no other one beats, by ascending remaining weights
    teacher: float | None


class Fronts(NamedTuple):
    """The tasks, and how many trials without a count of parameters could not be placed."""

    setting: Setting
    sweeps: tuple[str, ...]
    tasks: tuple[Task, ...]
    uncounted: int
    more_tasks: int


def remaining_fraction(trial: Trial, sparsity: float) -> float | None:
    """Share of the encoder's parameters left when `sparsity` of its prunable ones are zero (biases counted)."""
    if not trial.encoder_parameters or trial.prunable_parameters is None:
        return None
    return 1 - sparsity * trial.prunable_parameters / trial.encoder_parameters


def compute(sweeps: Sequence[Tables]) -> Fronts:
    """All comparable students of all sweeps, by task and model. Raises NoData where none can be placed."""
    trials = [(sweep.name, trial) for sweep in sweeps for trial in sweep.comparable]
    placed: dict[tuple, list[float]] = defaultdict(list)
    used, uncounted = [], 0
    for sweep, trial in trials:
        points = [
            (trial.remaining if trial.remaining is not None and not trial.ladder
             else remaining_fraction(trial, rung.sparsity), rung)
            for rung in rungs(trial)
        ]  # fmt: skip
        if any(remaining is None for remaining, _ in points):
            uncounted += 1
            continue
        used.append((sweep, trial))
        for remaining, rung in points:
            if rung.score is not None:
                key = (trial.task, trial.model, sweep, trial.configuration, trial.method, round(remaining or 0, 4))
                placed[key].append(rung.score)
    if not placed:
        every = [trial for sweep in sweeps for trial in sweep.trials]
        raise NoData(f"no finished trial has counts of its parameters ({status_counts(every)})")
    names = sorted({(key[0], key[1]) for key in placed})
    shown = [
        _task(name, [item for item in placed.items() if item[0][:2] == name], [trial for _, trial in used])
        for name in names
    ]
    return Fronts(
        setting_of([trial for _, trial in used]), tuple(sorted({sweep for sweep, _ in used})),
        tuple(shown[:MOST_TASKS]), uncounted, max(0, len(shown) - MOST_TASKS),
    )  # fmt: skip


def _task(name: tuple[str, str], items: Sequence, trials: Sequence[Trial]) -> Task:
    remaining = np.array([key[-1] for key, _ in items])
    score = np.array([np.mean(scores) for _, scores in items])
    teachers = [trial.teacher_score for trial in trials
                if (trial.task, trial.model) == name and trial.teacher_score is not None]  # fmt: skip
    return Task(
        f"{name[0]}, {name[1]}", remaining, score, tuple(key[4] for key, _ in items), pareto(remaining, score),
        max(teachers) if teachers else None,
    )  # fmt: skip


def draw(numbers: Fronts, axes: Sequence[Axes]) -> None:
    """A panel a task: students in their method's colour, the front as a line of steps."""
    for task, panel in zip(numbers.tasks, axes, strict=True):
        for method in sorted(set(task.method)):
            colour, marker = style.method_mark(method)
            mine = np.array([other == method for other in task.method])
            panel.plot(100 * task.remaining[mine], task.score[mine], marker, color=colour, markersize=4.5, alpha=0.8,
                       markerfacecolor="white", label=words.method_name(method))  # fmt: skip
        panel.plot(100 * task.remaining[task.front], task.score[task.front], drawstyle="steps-post", color=style.INK,
                   linewidth=1.2, label="Pareto front")  # fmt: skip
        if task.teacher is not None:
            style.mark_teacher(panel, task.teacher, "dense teacher")
        panel.set_title(task.name, loc="left")
        panel.set_ylabel("best score\n(mean over seeds)")
    axes[-1].set_xlabel("Encoder parameters that remain (%)")


def caption(numbers: Fronts) -> str:
    """What the panels show."""
    uncounted = (
        f" {words.plural(numbers.uncounted, 'trial')} without counts are not shown." if numbers.uncounted else ""
    )
    more = f" {words.plural(numbers.more_tasks, 'more task')} not shown." if numbers.more_tasks else ""
    students = sum(len(task.score) for task in numbers.tasks)
    return (
        f"Mean best score over seeds of {words.plural(students, 'configuration')} against the share of the encoder's "
        f"parameters that remain (biases and LayerNorm counted). Line: students that no smaller or equal one beats; "
        f"it is chosen after the fact and so leans towards luck.{uncounted}{more} From sweeps "
        f"{words.many(numbers.sweeps)}. {words.describe(numbers.setting)} The paper's Tables 1 and 2 are at 50%, "
        "10% and 5% of the encoder's weights."
    )


def figure(numbers: Fronts) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        rows = len(numbers.tasks)
        picture, axes = style.picture(numbers.setting, 1.3 + 2.3 * rows, rows, squeeze=False, sharex=True)
        draw(numbers, list(axes[:, 0]))
        style.legend(picture, 2)
    return picture
