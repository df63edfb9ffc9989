"""Tables 1 and 2: our scores beside the paper's printed ones, each method at the best of the settings that it tried."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.numbers.figure_data import (
    best_configuration,
    best_score,
    dev_score,
    final_score,
    group_by,
    is_dev_unseen,
    mean_by_seed,
    nothing_finished,
    require_sweeps,
)
from analysis.paper.printed import printed_score, printed_teacher_score
from analysis.reading.sweeps import Sweep
from analysis.reading.tasks import is_synthetic
from analysis.reading.trials import Exclusions, Trial, count_exclusions

TITLES = {
    "table1": "Half of the encoder's weights remain (Table 1)",
    "table2": "10% and 5% of the encoder's weights remain (Table 2)",
}


class MethodScore(NamedTuple):
    """One method on one task at one sparsity, ours beside the paper's; fractions, None where not known."""

    method: str
    task: str
    model: str
    metric: str
    sparsity: float
    seeds: int
    mean: float
    low: float
    high: float
    teacher: float | None  # ours, dev
    on: str  # the split of the score
    printed: float | None
    printed_teacher: float | None
    final: float | None  # mean at the end of Stage III, on the split on which students are chosen
    tried: int  # configurations of which it is the best
    parameters: float | None  # of our students, zeros not counted, mean over seeds
    dense_parameters: int | None

    @property
    def synthetic(self) -> bool:
        """Whether the task is the miniature's, whose scores are not GLUE scores."""
        return is_synthetic(self.task)

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's; None on a synthetic task, where it would mean nothing."""
        return None if self.printed is None or self.synthetic else self.mean - self.printed

    @property
    def to_teacher(self) -> float | None:
        """Our student minus our teacher."""
        return None if self.teacher is None else self.mean - self.teacher

    @property
    def printed_to_teacher(self) -> float | None:
        """The paper's student minus the paper's teacher."""
        if self.printed is None or self.printed_teacher is None:
            return None
        return self.printed - self.printed_teacher


class PaperTable(NamedTuple):
    """Our scores for one of the paper's tables, by task, model, method and sparsity."""

    name: str
    sweeps: tuple[str, ...]
    scores: tuple[MethodScore, ...]
    exclusions: Exclusions


class MethodAverage(NamedTuple):
    """One method at one sparsity over the tasks of a table; fractions, None where not known."""

    method: str
    sparsity: float
    scores: dict[str, float]  # by task
    mean: float | None  # over all tasks of the table
    printed: float | None  # the paper's mean over the same tasks


def averages(table: PaperTable) -> list[MethodAverage]:
    """A row for each method and sparsity; what was not run on every task of the table, and model, has no mean."""
    tasks = sorted({score.task for score in table.scores})
    rows = []
    for method, sparsity in dict.fromkeys((score.method, score.sparsity) for score in table.scores):
        own = [score for score in table.scores if (score.method, score.sparsity) == (method, sparsity)]
        scores = {score.task: score.mean for score in own}
        printed = [score.printed for score in own if score.printed is not None]
        whole = sorted(score.task for score in own) == tasks
        rows.append(MethodAverage(
            method, sparsity, scores, float(np.mean(list(scores.values()))) if whole else None,
            float(np.mean(printed)) if whole and len(printed) == len(tasks) else None,
        ))  # fmt: skip
    return rows


def compute(sweeps: Sequence[Sweep], name: str) -> PaperTable:
    """The table `name` ("table1" or "table2"). Raises NoData where no sweep of that name has a finished trial."""
    own = require_sweeps(sweeps, name)
    trials = [trial for sweep in own for trial in sweep.comparable]
    every = [trial for sweep in own for trial in sweep.trials]
    if not trials:
        raise nothing_finished(own[0].name, every)
    groups = group_by(trials, lambda trial: (trial.task, trial.model, trial.method, trial.target_sparsity))
    scores = tuple(_method_score(group) for group in groups.values())
    return PaperTable(name, tuple(sweep.name for sweep in own), scores, count_exclusions(every))


def _method_score(trials: Sequence[Trial]) -> MethodScore:
    """The score of one method's best configuration; on dev alone where every student that a holdout chose was there."""
    tried = len(group_by(trials, lambda trial: trial.configuration))
    trials = best_configuration(trials)
    first = trials[0]
    unseen = is_dev_unseen(trials)
    scores = list(mean_by_seed(trials, dev_score if unseen else best_score).values())
    teachers = [trial.teacher_score for trial in trials if trial.teacher_score is not None]
    final = list(mean_by_seed(trials, final_score).values())
    remaining = [trial.remaining_parameters for trial in trials if trial.remaining_parameters is not None]
    return MethodScore(
        first.method, first.task, first.model, first.metric, first.target_sparsity, len(scores),
        float(np.mean(scores)), min(scores), max(scores), float(np.mean(teachers)) if teachers else None,
        "dev" if unseen else first.selection, printed_score(first.method, first.task, first.target_sparsity),
        printed_teacher_score(first.task), float(np.mean(final)) if final else None, tried,
        float(np.mean(remaining)) if remaining else None, first.parameters,
    )  # fmt: skip
