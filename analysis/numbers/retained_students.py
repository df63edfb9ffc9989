"""The retained students of a sweep on the examples of dev: intervals over examples, paired tests against two others."""

from typing import NamedTuple

import numpy as np

from analysis.numbers.over_examples import METRICS, difference_interval, paired_p, score, score_interval
from analysis.numbers.statistics import holm
from analysis.reading.predictions import TEACHER, Predictions, read_predictions
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial


class Difference(NamedTuple):
    """One model's dev score minus another's on the same examples."""

    other: str  # a trial's id, or "teacher"
    value: float
    low: float
    high: float
    p: float  # McNemar's, for regression the paired bootstrap's; adjusted for all tests of the table (Holm)


class Student(NamedTuple):
    """A retained student: its dev score with the 95% interval over examples, beside the teacher and the best one."""

    trial: Trial
    examples: int
    score: float
    low: float
    high: float
    differences: tuple[Difference, ...]


def compute(sweep: Sweep) -> list[Student]:
    """The retained students, the best on dev first; none where no predictions are kept or the metric is not known here.

    Raises AnalysisError on a broken file of predictions.
    """
    if any(trial.metric not in METRICS for trial in sweep.trials):
        return []
    found = read_predictions(sweep)
    teacher = found.pop(TEACHER, None)
    students = [_student(sweep.trial(name), predictions) for name, predictions in found.items()]
    students.sort(key=lambda student: (-student.score, student.trial.trial_id))
    rivals = {} if teacher is None else {TEACHER: teacher}
    if students:
        best = students[0].trial.trial_id
        rivals[best] = found[best]
    compared = [
        [_difference(student.trial.metric, found[student.trial.trial_id], name, rival)
         for name, rival in rivals.items() if name != student.trial.trial_id]
        for student in students
    ]  # fmt: skip
    adjusted = iter(holm([difference.p for row in compared for difference in row]))
    return [
        student._replace(differences=tuple(difference._replace(p=next(adjusted)) for difference in row))
        for student, row in zip(students, compared, strict=True)
    ]


def _student(trial: Trial, predictions: Predictions) -> Student:
    label, answer = predictions
    interval = score_interval(trial.metric, label, answer)
    return Student(trial, len(label), score(trial.metric, label, answer), *interval, ())


def _difference(metric: str, own: Predictions, name: str, other: Predictions) -> Difference:
    assert np.array_equal(own.label, other.label), "the models of a sweep answer the same examples"
    value = score(metric, own.label, own.answer) - score(metric, own.label, other.answer)
    interval = difference_interval(metric, own.label, own.answer, other.answer)
    return Difference(name, value, *interval, paired_p(metric, own.label, own.answer, other.answer))
