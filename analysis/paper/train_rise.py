"""Does the train score keep rising while the dev score stalls (Figure 2): rises over the second half of training."""

from collections.abc import Sequence

import numpy as np

from analysis.numbers.figure_data import FigureData, mean_by_seed
from analysis.numbers.statistics import SeedScores
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial

STALL_MARGIN = 0.02  # of a score: MRPC's 408 dev examples give F1 a standard error of about 0.015
_SIDES = ("train", "dev")


def rise_after(step: np.ndarray, value: np.ndarray, middle: float) -> float | None:
    """Mean of the last quarter of the evaluations from step `middle` on minus the first quarter's; None with < 2.

    `step` and `value`: (E,), ascending steps and the scores at them.

    >>> rise_after(np.array([2, 4, 6, 8]), np.array([0.1, 0.5, 0.6, 0.9]), 3)
    0.4
    """
    late = value[step >= middle]
    if len(late) < 2:
        return None
    quarter = max(1, len(late) // 4)
    return float(late[-quarter:].mean() - late[:quarter].mean())


def _rises(sweep: Sweep, trial: Trial) -> dict[str, float | None]:
    """The rises of train and of the selection split over the second half of the trial's steps."""
    if trial.t3 is None:
        return dict.fromkeys(_SIDES)
    train = rise_after(*sweep.evaluations.of(trial.trial_id, "train", trial.metric), trial.t3 / 2)
    dev = rise_after(*sweep.evaluations.of(trial.trial_id, trial.selection, trial.metric), trial.t3 / 2)
    if train is None or dev is None:
        return dict.fromkeys(_SIDES)
    return {"train": train, "dev": dev}


def rises_by_seed(data: FigureData) -> dict[str, SeedScores]:
    """ "train" and "dev" -> seed -> mean rise over the sparsities."""
    trials: Sequence[Trial] = data.trials
    rises = {trial.trial_id: _rises(data.sweep, trial) for trial in trials}

    def of_side(side: str) -> SeedScores:
        return mean_by_seed(trials, lambda trial: rises[trial.trial_id][side])

    return {side: of_side(side) for side in _SIDES}
