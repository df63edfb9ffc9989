"""How far a trial is and how good: folded from its evaluations, by the trial and by readers of its records.

Why so: docs/decisions.md #one-fold-of-evaluations.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from spd_ray.config.timeline import Timeline
from spd_ray.records.schema import LOSS_COLUMNS, TrialRecord

COURSE_COLUMNS = ("value", *LOSS_COLUMNS, "p", "learning_rate")  # of a training step's record


class Evaluation(NamedTuple):
    """One evaluation of the student after `step` applied steps. Scores are of the task's metric."""

    step: int
    stage: int
    score: float  # on the selection split
    train_score: float  # on the sample of the training set
    sparsity: float
    course: dict[str, float]  # `course_of` the steps since the evaluation before
    other_scores: Mapping[str, float] = {}  # the task's other metrics, on the selection split


def course_of(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How training went over `steps`, records of training steps in order with the columns `COURSE_COLUMNS`.

    The means of the loss and its terms, and p and the learning rate of the last step; what is unknown is left out.
    Single precision goes in, as Parquet keeps it: a record that was read back gives the same bits.

    >>> names = dict.fromkeys(COURSE_COLUMNS)
    >>> course_of([{**names, "value": 1.0, "p": 0.5}, {**names, "value": 2.0, "p": 0.75}])
    {'loss': 1.5, 'p': 0.75}
    """
    columns = {
        name: [float(np.float32(x)) for step in steps if (x := step[name]) is not None] for name in COURSE_COLUMNS
    }
    return {
        "loss" if name == "value" else name: values[-1] if name in ("p", "learning_rate") else fmean(values)
        for name, values in columns.items()
        if values
    }


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a trial is and how good; saved with its state. Scores are of the metric, on the selection split."""

    step: int = 0
    evaluations: int = 0
    stage: int = 1
    budget: float = 0.0  # step / t3
    sparsity: float = 0.0
    pruning_done: bool = False  # the target sparsity is reached: only now is a student feasible
    score: float | None = None  # at the last evaluation
    train_score_now: float | None = None
    best_score: float | None = None  # the best at the target sparsity
    best_step: int | None = None
    train_score: float | None = None  # at best_step
    other_scores: str | None = None  # at best_step, as the record has it
    achieved_sparsity: float | None = None  # at best_step
    remaining_encoder_parameters: int | None = None  # at best_step
    remaining_parameters: int | None = None
    levels: dict[str, dict[str, float]] = field(default_factory=dict)  # the best at each level of the ladder
    course: dict[str, float] = field(default_factory=dict)  # of the last evaluation
    wall_seconds: float = 0.0
    device_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrialFacts:
    """What the trial's record says of it from the start; the fields are the record's."""

    layers: int
    student_layers: int
    prunable_parameters: int
    encoder_parameters: int
    parameters: int
    t1: int
    t2: int
    t3: int
    pruning_end_step: int
    teacher_score: float
    teacher_files: str
    majority_score: float


RECORDED = tuple(  # what the record of a trial takes from its facts and its standing, as they are
    {one.name for kind in (TrialFacts, Standing) for one in fields(kind)} & {one.name for one in fields(TrialRecord)}
)


def judge(before: Standing, timeline: Timeline, evaluation: Evaluation) -> Standing:
    """The standing after `evaluation`. A student is feasible, and may be the best, after the last pruning event."""
    step, score = evaluation.step, evaluation.score
    pruning_done = timeline.pruning_is_over(step)
    standing = replace(
        before,
        step=step,
        evaluations=before.evaluations + 1,
        stage=evaluation.stage,
        budget=timeline.budget(step),
        sparsity=evaluation.sparsity,
        pruning_done=pruning_done,
        score=score,
        train_score_now=evaluation.train_score,
        course=evaluation.course,
    )
    if pruning_done and (before.best_score is None or score > before.best_score):
        return replace(
            standing,
            best_score=score,
            best_step=step,
            train_score=evaluation.train_score,
            other_scores=json.dumps(evaluation.other_scores) if evaluation.other_scores else None,
            achieved_sparsity=evaluation.sparsity,
        )
    level = timeline.level(step)
    if level is not None and score > before.levels.get(f"{level:g}", {}).get("score", -math.inf):
        found = {"sparsity": level, "score": score, "train_score": evaluation.train_score, "step": step}
        return replace(standing, levels={**before.levels, f"{level:g}": found})
    return standing
