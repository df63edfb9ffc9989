"""Methods side by side: each at the best of the configurations that a sweep gave it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.numbers.figure_data import best_configuration, final_gap, group_by, is_dev_unseen
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial


class MethodRow(NamedTuple):
    """One method in one sweep, at its best configuration: the one with the highest mean score over seeds."""

    method: str
    configurations: int  # from which it was chosen
    seeds: int
    score: float  # mean over seeds, on the split on which students are chosen
    dev: float | None  # mean of the students that a holdout chose; None where one was not kept, or dev chose
    final: float | None  # mean at the end of Stage III, on the same split
    deviation: float | None  # sample standard deviation over seeds; None for one seed
    gap: float | None  # train minus score, mean
    final_gap: float | None  # the same at the end of Stage III
    remaining: float | None  # fraction of the encoder's parameters, zeros not counted
    parameters: float | None  # of the whole student, zeros not counted
    steps: int | None
    seconds: float | None  # inside training steps times workers, mean per trial
    rate: float  # stage1_lr of that configuration


def compute(sweep: Sweep) -> list[MethodRow]:
    """The methods of a sweep, the best first; none where it has fewer than two with finished trials."""
    methods = group_by(sweep.comparable, lambda trial: trial.method)
    rows = [_row(sweep, trials) for trials in methods.values()] if len(methods) > 1 else []
    return sorted(rows, key=lambda row: -row.score)


def _row(sweep: Sweep, trials: Sequence[Trial]) -> MethodRow:
    best = best_configuration(trials)
    scores = [trial.best_score for trial in best if trial.best_score is not None]
    return MethodRow(
        method=best[0].method,
        configurations=len({trial.configuration for trial in trials}),
        seeds=len(best),
        score=float(np.mean(scores)),
        dev=_mean([trial.dev_score for trial in best]) if is_dev_unseen(best) else None,
        final=_mean([trial.final_score for trial in best]),
        deviation=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        gap=_mean([trial.gap for trial in best]),
        final_gap=_mean([final_gap(sweep)(trial) for trial in best]),
        remaining=_mean([trial.remaining for trial in best]),
        parameters=_mean([trial.remaining_parameters for trial in best]),
        steps=best[0].t3,
        seconds=_mean([trial.device_seconds for trial in best]),
        rate=best[0].stage1_lr,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
