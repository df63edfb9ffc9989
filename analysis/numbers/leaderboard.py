"""The leaderboard of a sweep: for each sparsity that was asked for a row a configuration, the best student's first.

Students of different sparsities are never ranked against one another.

Why so: docs/decisions.md #by-sparsity-the-best-students-configuration-first.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

from analysis.errors import NoData
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial, flat_config, ladder_levels, short_key, status_counts, varying_keys

_DIGITS = 6  # sparsities that agree to so many decimals are one


class Student(NamedTuple):
    """The best student of a trial at a sparsity that was asked for; sizes and times are of target sparsities alone."""

    trial: Trial
    sparsity: float  # asked for
    achieved: float | None
    score: float  # on the split on which students are chosen
    train_score: float | None
    dev_score: float | None  # read back from disk
    checkpoint: str | None  # a URI, or a path in the sweep's folder; None where it was not kept
    packed_bytes: int | None = None
    latency_ms: float | None = None
    dense_latency_ms: float | None = None


class Row(NamedTuple):
    """One configuration: the values of the sweep's dimensions, and its students under one seed or several."""

    configuration: int
    values: dict[str, Any]  # dimension -> value; None where the configuration's method has no such number
    students: tuple[Student, ...]  # the best first
    running: int  # of its trials, that have not ended

    @property
    def best(self) -> Student:
        """The student with the highest score."""
        return self.students[0]

    @property
    def kept(self) -> Student | None:
        """The best of the students that were kept."""
        return next((student for student in self.students if student.checkpoint), None)

    @property
    def mean(self) -> float:
        """The mean score over seeds."""
        return mean(student.score for student in self.students)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over seeds; None under one seed."""
        return stdev(student.score for student in self.students) if len(self.students) > 1 else None


class Board(NamedTuple):
    """The configurations that have a student at one sparsity, that of the best student first."""

    sparsity: float
    rows: tuple[Row, ...]

    @property
    def best(self) -> Student:
        """The best student, kept or not."""
        return self.rows[0].best

    @property
    def kept(self) -> Student | None:
        """The best of the students that were kept."""
        return min((row.kept for row in self.rows if row.kept), key=_rank, default=None)


class Leaderboard(NamedTuple):
    """The boards by ascending sparsity, and the names of the sweep's dimensions, the sparsity not among them."""

    dimensions: tuple[str, ...]
    boards: tuple[Board, ...]


def compute(sweep: Sweep) -> Leaderboard:
    """The leaderboard of the trials that have ended; one without any board where none has a student yet.

    What is ranked is what the sweep itself ranks: finished and stopped trials with a student at its sparsity.
    """
    keys = searched_keys(sweep)
    found: dict[float, dict[int, list[Student]]] = defaultdict(lambda: defaultdict(list))
    running: dict[int, int] = defaultdict(int)
    for trial in sweep.trials:
        running[trial.configuration] += trial.status in ("waiting", "running")
        for student in _students(trial):
            found[student.sparsity][trial.configuration].append(student)
    boards = []
    for sparsity in sorted(found):
        rows = [
            Row(number, _values(students[0].trial, keys), _best_first(students), running[number])
            for number, students in found[sparsity].items()
        ]
        boards.append(Board(sparsity, tuple(sorted(rows, key=lambda row: _rank(row.best)))))
    return Leaderboard(tuple(keys), tuple(boards))


def searched_keys(sweep: Sweep) -> dict[str, str]:
    """The dimensions by name, each with its key in a trial's configuration; those of sweep.yaml, else all that vary."""
    searched = sweep.description.searched
    if searched:
        keys = {name: "method.name" if name == "method" else f"method.{name}" for name in searched}
    else:
        keys = {short_key(key): key for key in varying_keys(sweep.trials)} if sweep.trials else {}
    return {name: key for name, key in keys.items() if name != "target_sparsity"}


def _students(trial: Trial) -> Iterator[Student]:
    if trial.status not in ("finished", "stopped"):
        return
    for level in ladder_levels(trial):
        if level.score is not None:
            asked = round(level.sparsity, _DIGITS)
            yield Student(trial, asked, None, level.score, level.train_score, None, level.checkpoint)
    if trial.eligible and trial.best_score is not None:
        yield Student(
            trial, round(trial.target_sparsity, _DIGITS), trial.achieved_sparsity, trial.best_score, trial.train_score,
            trial.dev_score, trial.checkpoint, trial.packed_bytes, trial.latency_ms, trial.dense_latency_ms,
        )  # fmt: skip


def _best_first(students: Sequence[Student]) -> tuple[Student, ...]:
    return tuple(sorted(students, key=_rank))


def _rank(student: Student) -> tuple[float, str]:
    """As the sweep ranks: by score, the earlier trial first among equals."""
    return -student.score, student.trial.trial_id


def _values(trial: Trial, keys: dict[str, str]) -> dict[str, Any]:
    config = flat_config(trial)
    return {name: json.loads(config.get(key, "null")) for name, key in keys.items()}


def largest_sweep(sweeps: Sequence[Sweep]) -> Sweep:
    """The sweep with the most students, for a figure of one sweep. Raises NoData where no sweep has one."""
    counts = [(sum(trial.eligible for trial in sweep.trials), sweep) for sweep in sweeps]
    most, sweep = max(counts, key=lambda pair: pair[0], default=(0, None))
    if sweep is None or most == 0:
        every = [trial for sweep in sweeps for trial in sweep.trials]
        raise NoData(f"no trial has ended with a student at its target sparsity yet ({status_counts(every)})")
    return sweep


def run_key(sweep: str, configuration: int, trial_id: str = "") -> str:
    """What marks a configuration, or one of its trials, in rows and pictures alike: the page lights up what has one.

    The key of a trial begins with that of its configuration.
    """
    return f"run:{sweep}/{configuration}/{trial_id}"
