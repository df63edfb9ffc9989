"""Score against what a student costs: weights that remain, size, latency; with the Pareto front of each task."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.captions import describe_setting
from analysis.errors import NoData
from analysis.numbers.leaderboard import run_key
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Level, Setting, Trial, levels, setting_of, status_counts, teacher_scores
from analysis.wording.formatting import join_shortened, pluralize
from analysis.wording.names import method_name

MOST_TASKS = 6
_DIGITS = 3  # achieved sparsities that agree to so many decimals are one


class Task(NamedTuple):
    """N students of one task and model; a student is the mean over the seeds of one configuration at one sparsity."""

    name: str
    cost: np.ndarray  # (N,) in the unit of the figure
    score: np.ndarray  # (N,) mean over seeds
    method: tuple[str, ...]  # (N,)
    front: np.ndarray  # indices of the students that no other one beats, by ascending cost
    teacher: float | None
    keys: tuple[str, ...]  # (N,) that mark the configurations
    dense: float | None  # what the dense teacher costs, where that is known


class Fronts(NamedTuple):
    """The tasks, and how many trials whose cost is not known could not be placed."""

    name: str
    setting: Setting
    sweeps: tuple[str, ...]
    tasks: tuple[Task, ...]
    unknown: int
    more_tasks: int  # that are not shown


class _Student(NamedTuple):
    """What distinguishes a student from those of the same configuration under other seeds."""

    task: str
    model: str
    sweep: str
    configuration: int
    method: str
    sparsity: float


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


class Cost(NamedTuple):
    """What students cost: how it is read off a trial's student at a level, and how it is called."""

    title: str
    label: str  # of the axis, with its unit
    of: Callable[[Trial, Level], float | None]
    dense: Callable[[Trial], float | None]  # of the dense model
    what: str  # for the caption
    missing: str  # what students lack that cannot be placed
    remark: str = ""


def _percent_remaining(trial: Trial, level: Level) -> float | None:
    remaining = _remaining(trial, level)
    return None if remaining is None else 100 * remaining


def _at_target(value: Callable[[Trial], float | None]) -> Callable[[Trial, Level], float | None]:
    """What was measured of the trial's best student, and of no other level of its ladder."""
    return lambda trial, level: value(trial) if level == levels(trial)[-1] else None


COSTS = {  # by the name of the figure
    "pareto": Cost(
        "Score against sparsity: the encoder weights that remain", "Encoder parameters that remain (%)",
        _percent_remaining, lambda trial: None,
        "the share of the encoder's parameters that remain (biases and LayerNorm counted)", "counts of its parameters",
        "The paper's Tables 1 and 2 are at 50%, 10% and 5% of the encoder's weights.",
    ),
    "size": Cost(
        "Score against size", "Size of the packed student (MB)",
        _at_target(lambda trial: None if trial.packed_bytes is None else trial.packed_bytes / 1e6), lambda trial: None,
        "the size of the packed student in megabytes", "its packed size",
    ),
    "latency": Cost(
        "Score against latency", "Latency of the packed student (ms)", _at_target(lambda trial: trial.latency_ms),
        lambda trial: trial.dense_latency_ms, "the latency of the packed student in milliseconds", "its latency",
        "Star: the dense teacher.",
    ),
}  # fmt: skip


def compute(sweeps: Sequence[Sweep], name: str) -> Fronts:
    """All students of all sweeps whose cost is known, by task and model. Raises NoData where there is none."""
    cost = COSTS[name]
    found: dict[_Student, list[tuple[float, float]]] = defaultdict(list)  # (cost, score) under each seed
    used: list[tuple[str, Trial]] = []
    unknown = 0
    for sweep, trial in ((one, trial) for one in sweeps for trial in one.trials if trial.eligible):
        points = [(level, cost.of(trial, level), level.score) for level in levels(trial)]
        known = [(level, spent, score) for level, spent, score in points if spent is not None and score is not None]
        for level, spent, score in known:
            student = _Student(
                trial.task, trial.model, sweep.name, trial.configuration, trial.method, round(level.sparsity, _DIGITS)
            )
            found[student].append((spent, score))
        used += [(sweep.name, trial)] if known else []
        unknown += not known
    if not found:
        every = [trial for sweep in sweeps for trial in sweep.trials]
        raise NoData(f"no student has {cost.missing} ({status_counts(every)})")
    trials = [trial for _, trial in used]
    names = sorted({(student.task, student.model) for student in found})
    return Fronts(
        name, setting_of(trials), tuple(sorted({name for name, _ in used})),
        tuple(_task(task, model, found, trials, cost) for task, model in names[:MOST_TASKS]), unknown,
        max(0, len(names) - MOST_TASKS),
    )  # fmt: skip


def _task(
    task: str, model: str, found: dict[_Student, list[tuple[float, float]]], trials: Sequence[Trial], cost: Cost
) -> Task:
    students = [student for student in found if (student.task, student.model) == (task, model)]
    points = np.array([np.mean(found[student], axis=0) for student in students])  # (N, 2)
    mine = [trial for trial in trials if (trial.task, trial.model) == (task, model)]
    teachers = teacher_scores(mine)
    dense = [spent for spent in map(cost.dense, mine) if spent is not None]
    return Task(
        f"{task}, {model}", points[:, 0], points[:, 1], tuple(student.method for student in students),
        pareto_front(points[:, 0], points[:, 1]), teachers[-1] if teachers else None,
        tuple(run_key(student.sweep, student.configuration) for student in students),
        float(np.median(dense)) if dense else None,
    )  # fmt: skip


def draw(numbers: Fronts, axes: Sequence[Axes]) -> None:
    """One panel per task: students in their method's colour, the front as a staircase, the dense model."""
    for task, panel in zip(numbers.tasks, axes, strict=True):
        seen = set[str]()
        for cost, score, method, key in zip(task.cost, task.score, task.method, task.keys, strict=True):
            colour, marker = style.method_mark(method)
            panel.plot([cost], [score], marker, color=colour, markersize=4.5, alpha=0.8, markerfacecolor="white",
                       label=None if method in seen else method_name(method), gid=key)  # fmt: skip
            seen.add(method)
        panel.plot(task.cost[task.front], task.score[task.front], drawstyle="steps-post", color=style.INK,
                   linewidth=1.2, label="Pareto front")  # fmt: skip
        if task.teacher is not None:
            style.mark_teacher(panel, task.teacher, "dense teacher")
            if task.dense is not None:
                panel.plot([task.dense], [task.teacher], "*", color=style.TEACHER, markersize=8)
        panel.set_title(task.name, loc="left")
        panel.set_ylabel("best score\n(mean over seeds)")
    axes[-1].set_xlabel(COSTS[numbers.name].label)


def caption(numbers: Fronts) -> str:
    """What the panels show."""
    cost = COSTS[numbers.name]
    lacking = f" {pluralize(numbers.unknown, 'trial')} without {cost.missing} not shown." if numbers.unknown else ""
    more = f" {pluralize(numbers.more_tasks, 'more task')} not shown." if numbers.more_tasks else ""
    students = sum(len(task.score) for task in numbers.tasks)
    sweeps = "sweep" if len(numbers.sweeps) == 1 else "sweeps"
    return (
        f"Mean best score over seeds of {pluralize(students, 'student')} against {cost.what}. Line: students that no "
        f"cheaper or equal one beats; chosen after the fact, so it is optimistically biased.{lacking}{more} From "
        f"{sweeps} {join_shortened(numbers.sweeps)}. {describe_setting(numbers.setting)} {cost.remark}"
    ).strip()


def figure(numbers: Fronts) -> Figure:
    """The picture."""
    rows = len(numbers.tasks)
    return style.compose(
        numbers.setting, 1.3 + 2.3 * rows, lambda axes: draw(numbers, axes), rows, legend=2, sharex=True
    )
