"""Scores over training steps, one mean curve per group of trials: the numbers of Figures 2, 6, 7 and 9 to 16."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis.errors import NoData
from analysis.numbers.dimensions import Dimension
from analysis.numbers.figure_data import FigureData, Origin, choose_data, space_hint
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial, teacher_scores

MOST_GROUPS = 10  # more lines cannot be told apart


class Curve(NamedTuple):
    """A score over the E evaluations that all n trials of a group share: mean, smallest and largest."""

    step: np.ndarray  # (E,) applied optimizer steps
    mean: np.ndarray  # (E,)
    low: np.ndarray  # (E,)
    high: np.ndarray  # (E,)
    n: int


class Group(NamedTuple):
    """The n trials of one value of what a figure varies."""

    value: Any
    n: int
    train: Curve
    selected: Curve  # on the split on which students are chosen: "dev" or "holdout"
    mean: float  # of the trials' best scores
    low: float
    high: float


class StageEnds(NamedTuple):
    """Where the stages end, in steps; None where the trials of a figure do not agree."""

    t1: int | None
    t2: int | None
    t3: int


class OverSteps(NamedTuple):
    """The groups of a figure with the stages' ends and the dense teachers' dev scores."""

    data: Origin
    groups: tuple[Group, ...]
    ends: StageEnds
    teachers: tuple[float, ...]


def mean_curve(sweep: Sweep, trials: Sequence[Trial], split: str | None, metric: str | None = None) -> Curve:
    """The curve of `trials`; `split` None: the selection split; `metric` None: the task's. Empty if none is shared."""
    found = [sweep.evaluations.of(trial.trial_id, split or trial.selection, metric or trial.metric) for trial in trials]
    found = [(step, value) for step, value in found if len(step)]
    if not found:
        return Curve(np.empty(0), np.empty(0), np.empty(0), np.empty(0), 0)
    shared = found[0][0]
    for step, _ in found[1:]:
        shared = np.intersect1d(shared, step)
    values = np.array([value[np.searchsorted(step, shared)] for step, value in found])
    return Curve(shared, values.mean(axis=0), values.min(axis=0), values.max(axis=0), len(found))


def stage_ends(trials: Sequence[Trial]) -> StageEnds:
    """The ends of the stages where all trials agree; t3 is the latest end."""

    def common(values: set[int | None]) -> int | None:
        return values.pop() if len(values) == 1 else None

    return StageEnds(
        common({trial.t1 for trial in trials}),
        common({trial.t2 for trial in trials}),
        max((trial.t3 or 0 for trial in trials), default=0) or 1,
    )


def compute(sweeps: Sequence[Sweep], name: str, dimension: Dimension) -> OverSteps:
    """The groups of sweep `name` by `dimension`. Raises NoData with fewer than two values or without evaluations."""
    return collect(choose_data(sweeps, name, dimension), name)


def collect(data: FigureData, name: str) -> OverSteps:
    """The same from data already chosen."""
    if len(data.groups) > MOST_GROUPS:
        raise NoData(f"sweep {data.sweep.name} is no grid: {len(data.groups)} values; {space_hint(name)}")
    groups = tuple(_group(data.sweep, value, trials) for value, trials in data.groups.items())
    if not any(len(group.selected.step) for group in groups):
        raise NoData(f"sweep {data.sweep.name} has no recorded evaluation that the trials of a value share")
    return OverSteps(data.origin(name), groups, stage_ends(data.trials), teacher_scores(data.trials))


def _group(sweep: Sweep, value: Any, trials: Sequence[Trial]) -> Group:
    scores = np.array([trial.best_score for trial in trials], dtype=float)
    train, selected = mean_curve(sweep, trials, "train"), mean_curve(sweep, trials, None)
    return Group(value, len(trials), train, selected, scores.mean(), scores.min(), scores.max())
