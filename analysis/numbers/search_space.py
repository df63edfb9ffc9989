"""A sweep's search space as its trials show it: which keys of the configuration vary, and their values."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis.errors import NoData
from analysis.numbers.figure_data import Dimension, group
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Trial, flat_config, searched

_LOG_RATIO = 3.0  # learning rates that span more than this are drawn on a log axis


class Space(NamedTuple):
    """One method of the sweep with the most searched dimensions, and its configurations' mean scores."""

    tables: Tables
    method: str
    keys: tuple[str, ...]  # full keys
    configurations: tuple[tuple[Trial, ...], ...]  # the trials of each
    score: np.ndarray  # mean best score over the seeds of each


def value(trial: Trial, key: str) -> Any:
    """What the trial has under a full key of its configuration."""
    return json.loads(flat_config(trial).get(key, "null"))


def widest(sweeps: Sequence[Tables], fewest: int) -> Space:
    """The method of a sweep with the most searched values, at least two, and `fewest` configurations. Raises NoData."""
    best: tuple[tuple[int, int], Tables, list[str], tuple[Trial, ...]] | None = None
    for sweep in sweeps:
        for trials in group(sweep.comparable, lambda trial: trial.method).values():
            keys = [key for key in searched(trials) if _scalar(trials, key)]
            count = len({trial.configuration for trial in trials})
            rank = (len(keys), count)
            if len(keys) > 1 and count >= fewest and (best is None or rank > best[0]):
                best = rank, sweep, keys, trials
    if best is None:
        raise NoData(f"no sweep varies two dimensions over {fewest} finished configurations; "
                     "search_spaces/demo.yaml, with more trials, makes the data")  # fmt: skip
    _, tables, keys, kept = best
    by = group(kept, lambda trial: trial.configuration)
    score = np.array([np.mean([trial.best_score for trial in trials]) for trials in by.values()], dtype=float)
    return Space(tables, kept[0].method, tuple(keys), tuple(by.values()), score)


def _scalar(trials: Sequence[Trial], key: str) -> bool:
    return not any(isinstance(value(trial, key), (list, dict, type(None))) for trial in trials)


def dimension(space: Space, key: str) -> Dimension | None:
    """A numeric key as a dimension; None where its values are no numbers."""
    values = {value(trials[0], key) for trials in space.configurations}
    if not all(isinstance(found, (int, float)) and not isinstance(found, bool) for found in values):
        return None
    short = key.rsplit(".", 1)[-1]
    log = short.endswith("lr") and min(values) > 0 and max(values) / min(values) > _LOG_RATIO
    return Dimension(short, short.replace("_", " "), lambda trial: float(value(trial, key)), (short,), log)
