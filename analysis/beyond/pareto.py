"""Score against the encoder weights that remain, with the Pareto front of each task."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.captions import describe_setting
from analysis.errors import NoData
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Level, Setting, Trial, levels, setting_of, status_counts, teacher_scores
from analysis.wording.formatting import join_shortened, pluralize
from analysis.wording.names import method_name

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
    """The tasks, and how many trials without parameter counts could not be placed."""

    setting: Setting
    sweeps: tuple[str, ...]
    tasks: tuple[Task, ...]
    uncounted: int
    more_tasks: int  # that are not shown


class _Student(NamedTuple):
    """What distinguishes a student from those of the same configuration under other seeds."""

    task: str
    model: str
    sweep: str
    configuration: int
    method: str
    remaining: float


def pareto_front(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Indices of the points that no other one beats (less or equal cost, higher score), by ascending cost.

    >>> pareto_front(np.array([3.0, 1.0, 2.0, 2.0]), np.array([0.9, 0.5, 0.4, 0.7])).tolist()
    [1, 3, 0]
    """
    front, best = [], -math.inf
    for index in np.lexsort((-score, cost)):
        if score[index] > best:
            front.append(int(index))
            best = score[index]
    return np.array(front, dtype=int)


def remaining_fraction(trial: Trial, sparsity: float) -> float | None:
    """Share of the encoder's parameters left when `sparsity` of its prunable ones are zero (biases counted)."""
    if not trial.encoder_parameters or trial.prunable_parameters is None:
        return None
    return 1 - sparsity * trial.prunable_parameters / trial.encoder_parameters


def _remaining(trial: Trial, level: Level) -> float | None:
    """What remains of the encoder at that level: as counted where there is one level alone, else from the sparsity."""
    if trial.remaining is not None and not trial.ladder:
        return trial.remaining
    return remaining_fraction(trial, level.sparsity)


def compute(sweeps: Sequence[Sweep]) -> Fronts:
    """All comparable students of all sweeps, by task and model. Raises NoData where none can be placed."""
    scores: dict[_Student, list[float]] = defaultdict(list)
    used: list[tuple[str, Trial]] = []
    uncounted = 0
    for name, trial in ((sweep.name, trial) for sweep in sweeps for trial in sweep.comparable):
        points = [(_remaining(trial, level), level.score) for level in levels(trial)]
        if any(remaining is None for remaining, _ in points):
            uncounted += 1
            continue
        used.append((name, trial))
        for remaining, score in points:
            if remaining is not None and score is not None:
                student = _Student(
                    trial.task, trial.model, name, trial.configuration, trial.method, round(remaining, 4)
                )
                scores[student].append(score)
    if not scores:
        every = [trial for sweep in sweeps for trial in sweep.trials]
        raise NoData(f"no finished trial has counts of its parameters ({status_counts(every)})")
    trials = [trial for _, trial in used]
    names = sorted({(student.task, student.model) for student in scores})
    return Fronts(
        setting_of(trials), tuple(sorted({name for name, _ in used})),
        tuple(_task(task, model, scores, trials) for task, model in names[:MOST_TASKS]), uncounted,
        max(0, len(names) - MOST_TASKS),
    )  # fmt: skip


def _task(task: str, model: str, scores: dict[_Student, list[float]], trials: Sequence[Trial]) -> Task:
    students = [student for student in scores if (student.task, student.model) == (task, model)]
    remaining = np.array([student.remaining for student in students])
    score = np.array([np.mean(scores[student]) for student in students])
    teachers = teacher_scores([trial for trial in trials if (trial.task, trial.model) == (task, model)])
    return Task(
        f"{task}, {model}", remaining, score, tuple(student.method for student in students),
        pareto_front(remaining, score), teachers[-1] if teachers else None,
    )  # fmt: skip


def draw(numbers: Fronts, axes: Sequence[Axes]) -> None:
    """One panel per task: students in their method's colour, the front as a staircase."""
    for task, panel in zip(numbers.tasks, axes, strict=True):
        for method in sorted(set(task.method)):
            colour, marker = style.method_mark(method)
            mine = np.array([other == method for other in task.method])
            panel.plot(100 * task.remaining[mine], task.score[mine], marker, color=colour, markersize=4.5, alpha=0.8,
                       markerfacecolor="white", label=method_name(method))  # fmt: skip
        panel.plot(100 * task.remaining[task.front], task.score[task.front], drawstyle="steps-post", color=style.INK,
                   linewidth=1.2, label="Pareto front")  # fmt: skip
        if task.teacher is not None:
            style.mark_teacher(panel, task.teacher, "dense teacher")
        panel.set_title(task.name, loc="left")
        panel.set_ylabel("best score\n(mean over seeds)")
    axes[-1].set_xlabel("Encoder parameters that remain (%)")


def caption(numbers: Fronts) -> str:
    """What the panels show."""
    uncounted = f" {pluralize(numbers.uncounted, 'trial')} without counts are not shown." if numbers.uncounted else ""
    more = f" {pluralize(numbers.more_tasks, 'more task')} not shown." if numbers.more_tasks else ""
    students = sum(len(task.score) for task in numbers.tasks)
    return (
        f"Mean best score over seeds of {pluralize(students, 'configuration')} against the share of the encoder's "
        f"parameters that remain (biases and LayerNorm counted). Line: students that no smaller or equal one beats; "
        f"chosen after the fact, so it is optimistically biased.{uncounted}{more} From sweeps "
        f"{join_shortened(numbers.sweeps)}. {describe_setting(numbers.setting)} The paper's Tables 1 and 2 are at 50%, "
        "10% and 5% of the encoder's weights."
    )


def figure(numbers: Fronts) -> Figure:
    """The picture."""
    rows = len(numbers.tasks)
    return style.compose(
        numbers.setting, 1.3 + 2.3 * rows, lambda axes: draw(numbers, axes), rows, legend=2, sharex=True
    )
