"""What answers are worth: a task's metrics, all of which are the larger the better, and what a constant answer gets.

Shapes: N examples, C outputs (1 for regression).

Why so: docs/decisions.md #more-is-better.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from spd_ray.base import cache
from spd_ray.base.errors import UserError
from spd_ray.base.user_code import load_function, source_of
from spd_ray.config.task import is_function


def score(metric: str, logits: np.ndarray, labels: np.ndarray) -> float:
    """The score of `logits` (N, C) against `labels` (N,): the larger, the better, but for "mse" itself.

    F1 is of class 1. A correlation with constant predictions or constant labels is 0. A function `module:function` is
    given the labels and the answers, (N,) each: class indices, or numbers. Raises UserError for what it makes wrong.
    """
    answers = logits[:, 0] if logits.shape[1] == 1 else logits.argmax(axis=1)
    if is_function(metric):
        return _own_score(metric, labels, answers)
    return float(_SCORES[metric](labels, answers))


def constant_score(metric: str, train_labels: np.ndarray, labels: np.ndarray, classes: int | None) -> float:
    """The score of one answer to everything: the most frequent class of `train_labels`, or their mean (no classes)."""
    if classes is None:
        answer = np.array([train_labels.mean()], np.float32)
    else:
        counts = np.bincount(train_labels, minlength=classes)
        answer = (counts == counts.max()).astype(np.float32)
    return score(metric, np.tile(answer, (len(labels), 1)), labels)


def recorded_name(metric: str) -> str:
    """What the task's metric is called in records: all that is chosen by it wants more, so mse is taken negative."""
    return "neg_mse" if metric == "mse" else metric


def metrics_key(metrics: Sequence[str]) -> str:
    """What decides the values of `metrics`: their names, and the code of those that are the user's own."""
    files = [source_of(_own_function(metric)) for metric in metrics if is_function(metric)]
    return cache.content_key({"metrics": list(metrics), "code": cache.files_key(filter(None, files))})


def _accuracy(labels: np.ndarray, answers: np.ndarray) -> float:
    return float((labels == answers).mean())


def _of_library(module: str, function: str, **options: Any) -> Callable[[np.ndarray, np.ndarray], Any]:
    """A library's function, which is imported when it is called: a worker's start need not wait for it."""
    return lambda labels, answers: getattr(import_module(module), function)(labels, answers, **options)


def _correlation(module: str, function: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """A library's correlation; 0 where the answers or the labels are constant."""
    of = _of_library(module, function)

    def correlate(labels: np.ndarray, answers: np.ndarray) -> float:
        if not np.ptp(answers) > 0 or not np.ptp(labels) > 0:
            return 0.0
        found = of(labels, answers)
        return float(getattr(found, "statistic", found))

    return correlate


def _mse(labels: np.ndarray, answers: np.ndarray) -> float:
    return float(np.square(answers.astype(np.float64) - labels).mean())


_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,
    "f1": _of_library("sklearn.metrics", "f1_score", pos_label=1, zero_division=0.0),
    "macro_f1": _of_library("sklearn.metrics", "f1_score", average="macro", zero_division=0.0),
    "matthews": _correlation("sklearn.metrics", "matthews_corrcoef"),
    "spearman": _correlation("scipy.stats", "spearmanr"),
    "pearson": _correlation("scipy.stats", "pearsonr"),
    "mse": _mse,
    "neg_mse": lambda labels, answers: -_mse(labels, answers),
}


@lru_cache
def _own_function(metric: str) -> Callable[..., Any]:
    return load_function(metric, "task.metric")


def _own_score(metric: str, labels: np.ndarray, answers: np.ndarray) -> float:
    function = _own_function(metric)
    try:
        value = float(function(labels.copy(), answers.copy()))
    except Exception as error:  # whatever the user's function raises
        raise UserError(f"task.metric: {metric} fails ({type(error).__name__}: {error})") from error
    if not math.isfinite(value):
        raise UserError(f"task.metric: {metric} is {value}; a finite number is needed, the larger the better")
    return value
