"""The best score against a number that the trials vary: the numbers of Figures 8, 10, 11, 12 and the marginals."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from analysis.numbers.dimensions import Dimension, is_spd
from analysis.numbers.figure_data import FigureData, Origin, choose_data
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial, teacher_scores


class ScoreByValue(NamedTuple):
    """Scores of N trials at G values; a score is a trial's best at its target sparsity."""

    data: Origin
    label: str  # of the x axis, with its unit
    log: bool
    trial_value: np.ndarray  # (N,)
    trial_score: np.ndarray  # (N,)
    value: np.ndarray  # (G,) ascending
    mean: np.ndarray  # (G,)
    low: np.ndarray  # (G,) smallest score
    high: np.ndarray  # (G,) largest score
    n: np.ndarray  # (G,) trials
    teachers: tuple[float, ...]  # distinct dev scores of the dense teachers


def compute(sweeps: Sequence[Sweep], name: str, dimension: Dimension,
            keep: Callable[[Trial], bool] = is_spd) -> ScoreByValue:  # fmt: skip
    """Group the comparable trials of sweep `name` by `dimension`. Raises NoData with fewer than two values."""
    return collect(choose_data(sweeps, name, dimension, keep), name, dimension)


def collect(data: FigureData, name: str, dimension: Dimension) -> ScoreByValue:
    """The same from data already chosen."""
    scores = {value: np.array([trial.best_score for trial in group]) for value, group in data.groups.items()}
    return ScoreByValue(
        data=data.origin(name),
        label=dimension.label,
        log=dimension.log,
        trial_value=np.repeat(list(scores), [len(group) for group in scores.values()]),
        trial_score=np.concatenate(list(scores.values())),
        value=np.array(list(scores)),
        mean=np.array([group.mean() for group in scores.values()]),
        low=np.array([group.min() for group in scores.values()]),
        high=np.array([group.max() for group in scores.values()]),
        n=np.array([len(group) for group in scores.values()]),
        teachers=teacher_scores(data.trials),
    )
