"""Tables 1 and 2: our scores beside the paper's printed ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.errors import NoData
from analysis.numbers.figure_data import by_seed, group, made_by, named, score
from analysis.paper import printed as paper
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Trial, left_out, status_counts

TITLES = {
    "table1": "Half of the encoder's weights remain (Table 1)",
    "table2": "10% and 5% of the encoder's weights remain (Table 2)",
}


class Cell(NamedTuple):
    """One method on one task at one sparsity. Scores are fractions; None where it is not known."""

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
    parameters: float | None  # of our students, zeros not counted, mean over seeds
    dense_parameters: int | None

    @property
    def synthetic(self) -> bool:
        """Whether the task is the miniature's, whose scores are no GLUE scores."""
        return self.task.startswith("mini_")

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's; None on the miniature, where it would mean nothing."""
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


class Board(NamedTuple):
    """A table's cells, by task, method and sparsity."""

    name: str
    sweeps: tuple[str, ...]
    cells: tuple[Cell, ...]
    left_out: tuple[tuple[str, int], ...]


def compute(sweeps: Sequence[Tables], name: str) -> Board:
    """The cells of `name` ("table1" or "table2"). Raises NoData where no sweep of that name has a finished trial."""
    own = named(sweeps, name)
    if not own:
        raise NoData(f"there is no sweep {name}; {made_by(name)}")
    trials = [trial for sweep in own for trial in sweep.comparable]
    every = [trial for sweep in own for trial in sweep.trials]
    if not trials:
        raise NoData(f"in sweep {own[0].name} no trial has finished at its target sparsity yet "
                     f"({status_counts(every)})")  # fmt: skip
    cells = group(trials, lambda trial: (trial.task, trial.model, trial.method, trial.target_sparsity))
    return Board(
        name, tuple(sweep.name for sweep in own), tuple(_cell(group) for group in cells.values()), left_out(every)
    )


def _cell(trials: Sequence[Trial]) -> Cell:
    """The cell of one method's trials; on dev alone where every student that a holdout chose was scored there."""
    first = trials[0]
    unseen = first.selection != "dev" and all(trial.dev_score is not None for trial in trials)
    scores = list(by_seed(trials, (lambda trial: trial.dev_score) if unseen else score).values())
    teachers = [trial.teacher_score for trial in trials if trial.teacher_score is not None]
    remaining = [trial.remaining_parameters for trial in trials if trial.remaining_parameters is not None]
    return Cell(
        first.method, first.task, first.model, first.metric, first.target_sparsity, len(scores),
        float(np.mean(scores)), min(scores), max(scores), float(np.mean(teachers)) if teachers else None,
        "dev" if unseen else first.selection, paper.printed(first.method, first.task, first.target_sparsity),
        paper.printed_teacher(first.task), float(np.mean(remaining)) if remaining else None, first.parameters,
    )  # fmt: skip
