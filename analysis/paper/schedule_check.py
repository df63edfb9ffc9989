"""Do recorded steps follow Figure 4: Eq. (5) for p, pruning that ends with Stage I, Eq. (6) for the learning rate."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.errors import NoData
from analysis.numbers.figure_data import space_hint
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial

_MOST_TRIALS = 20  # whose steps are read
_P_TOLERANCE = 1e-5  # p is recorded in single precision
_SPARSITY_TOLERANCE = 5e-3  # rounding to whole weights in small matrices


class Check(NamedTuple):
    """How many trials of which sweep were read, and those that depart from Figure 4, each with how it departs."""

    sweep: str
    trials: int
    departing: tuple[str, ...]


def check(sweeps: Sequence[Sweep]) -> Check:
    """Read the steps of at most 20 SPD trials of one sweep: fig08's, else of the sweep with the most. Raises NoData."""
    candidates = [(sweep.name != "fig08", -len(_trials_as_drawn(sweep)), sweep.name, sweep) for sweep in sweeps]
    for *_, sweep in sorted(candidates, key=lambda entry: entry[:3]):
        read = [(trial.trial_id, departures(sweep, trial)) for trial in _trials_as_drawn(sweep)[:_MOST_TRIALS]]
        known = [(name, found) for name, found in read if found is not None]
        if known:
            return Check(sweep.name, len(known), tuple(f"{name}: {found[0]}" for name, found in known if found))
    raise NoData(f"no SPD trial with two decays and pruning that ends with Stage I has recorded steps; "
                 f"{space_hint('fig08')}")  # fmt: skip


def _trials_as_drawn(sweep: Sweep) -> list[Trial]:
    """The trials whose setting is the one drawn in Figure 4."""
    return [
        trial for trial in sweep.comparable
        if trial.grafting == "three_stage" and trial.lr_schedule == "two_decays" and trial.pruning_end == 1.0
        and 0 < trial.p0 < 1 and trial.target_sparsity > 0 and trial.t1 is not None and trial.t2 is not None
    ]  # fmt: skip


def departures(sweep: Sweep, trial: Trial) -> list[str] | None:
    """How the trial's recorded steps depart from Figure 4, none where they follow it; None where no step is recorded.

    p: p0 on [0, t1), p0 + (1 - p0) (t - t1) / (t2 - t1) on [t1, t2), then 1. Sparsity never falls, and is the target
    from t1 on. The learning rate falls on [0, t1) and on [t1, t3), and restarts at t1.
    """
    rows = sweep.steps(trial.trial_id, ["step", "p", "sparsity", "learning_rate"], "batch", "loss")
    step = rows["step"]
    if not len(step):
        return None
    t1, t2 = trial.t1 or 0, trial.t2 or 0
    ramp = (step - t1) / max(t2 - t1, 1)
    expected = np.where(step < t1, trial.p0, np.where(step < t2, trial.p0 + (1 - trial.p0) * ramp, 1.0))
    found = []
    if np.nanmax(np.abs(rows["p"] - expected)) > _P_TOLERANCE or np.isnan(rows["p"]).any():
        found.append("p is not that of Eq. (5)")
    first, later = step < t1, step >= t1
    sparsity = rows["sparsity"]
    if (np.diff(sparsity) < -1e-9).any() or (
        np.abs(sparsity[later] - trial.target_sparsity) > _SPARSITY_TOLERANCE
    ).any():
        found.append("pruning does not end with Stage I")
    rate = rows["learning_rate"]
    falls = (np.diff(rate[first]) <= 0).all() and (np.diff(rate[later]) <= 0).all()
    restarts = bool(first.any() and later.any()) and rate[later][0] > rate[first][-1]
    if not (falls and restarts):
        found.append("the learning rate does not decay once in Stage I and, restarted, from its end on")
    return found
