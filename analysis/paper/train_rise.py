"""Does the train score keep rising while the dev score stalls (Figure 2): rises over the second half of training."""

from collections.abc import Sequence

import numpy as np

from analysis.numbers.figure_data import Source, by_seed
from analysis.numbers.statistics import Scores
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Trial

_SIDES = ("train", "train minus dev")


def rise(step: np.ndarray, value: np.ndarray, middle: float) -> float | None:
    """Mean of the last quarter of the evaluations after `middle` minus mean of the first; None with fewer than two.

    >>> rise(np.array([2, 4, 6, 8]), np.array([0.1, 0.5, 0.6, 0.9]), 3)
    0.4
    """
    late = value[step >= middle]
    if len(late) < 2:
        return None
    share = max(1, len(late) // 4)
    return float(late[-share:].mean() - late[:share].mean())


def _rises(tables: Tables, trial: Trial) -> dict[str, float | None]:
    """Train's rise over the second half of the trial's steps, and by how much it exceeds the selection split's."""
    if trial.t3 is None:
        return dict.fromkeys(_SIDES)
    middle = trial.t3 / 2
    train = rise(*tables.evaluations.of(trial.trial_id, "train", trial.metric), middle)
    dev = rise(*tables.evaluations.of(trial.trial_id, trial.selection, trial.metric), middle)
    if train is None or dev is None:
        return dict.fromkeys(_SIDES)
    return {"train": train, "train minus dev": train - dev}


def late_rises(source: Source) -> dict[str, Scores]:
    """ "train" and "train minus dev" -> seed -> mean rise over the sparsities."""
    trials: Sequence[Trial] = source.trials
    known = {trial.trial_id: _rises(source.tables, trial) for trial in trials}

    def measured(side: str) -> Scores:
        return by_seed(trials, lambda trial: known[trial.trial_id][side])

    return {side: measured(side) for side in _SIDES}
