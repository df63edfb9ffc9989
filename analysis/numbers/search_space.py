"""A sweep's search space as its trials show it: which keys of the configuration vary, and their values."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis.errors import NoData
from analysis.numbers.dimensions import Dimension
from analysis.numbers.figure_data import group_by
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial, flat_config, short_key, varying_keys

_LOG_RATIO = 3.0  # learning rates that span more than this are drawn on a log axis


class Space(NamedTuple):
    """One method of the sweep with the most searched dimensions, and the mean score of each of its C configurations."""

    sweep: Sweep
    method: str
    keys: tuple[str, ...]  # "section.key"
    configurations: tuple[tuple[Trial, ...], ...]  # (C,) the trials of each
    score: np.ndarray  # (C,) mean best score over seeds


def value_of(trial: Trial, key: str) -> Any:
    """What the trial has under the key "section.key" of its configuration."""
    return json.loads(flat_config(trial).get(key, "null"))


def widest_space(sweeps: Sequence[Sweep], fewest: int) -> Space:
    """The method of a sweep that varies the most keys, at least two, over at least `fewest` configurations.

    Raises NoData where there is none.
    """
    best: tuple[tuple[int, int], Sweep, list[str], tuple[Trial, ...]] | None = None
    for sweep in sweeps:
        for trials in group_by(sweep.comparable, lambda trial: trial.method).values():
            keys = [key for key in varying_keys(trials) if _is_scalar(trials, key)]
            count = len({trial.configuration for trial in trials})
            rank = (len(keys), count)
            if len(keys) > 1 and count >= fewest and (best is None or rank > best[0]):
                best = rank, sweep, keys, trials
    if best is None:
        raise NoData(f"no sweep varies two dimensions over {fewest} finished configurations; "
                     "search_spaces/demo.yaml, with more trials, makes the data")  # fmt: skip
    _, sweep, keys, trials = best
    configurations = tuple(group_by(trials, lambda trial: trial.configuration).values())
    score = np.array([np.mean([trial.best_score for trial in seeds]) for seeds in configurations], dtype=float)
    return Space(sweep, trials[0].method, tuple(keys), configurations, score)


def _is_scalar(trials: Sequence[Trial], key: str) -> bool:
    return not any(isinstance(value_of(trial, key), (list, dict, type(None))) for trial in trials)


def is_number(value: object) -> bool:
    """Whether a value of a configuration is a number, and not a switch.

    >>> is_number(0.5), is_number(True)
    (True, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def numeric_dimension(space: Space, key: str) -> Dimension | None:
    """A numeric key as a dimension; None where its values are not numbers."""
    values = {value_of(trials[0], key) for trials in space.configurations}
    if not all(map(is_number, values)):
        return None
    name = short_key(key)
    log = name.endswith("lr") and min(values) > 0 and max(values) / min(values) > _LOG_RATIO
    return Dimension(name, name.replace("_", " "), lambda trial: float(value_of(trial, key)), (name,), log)
