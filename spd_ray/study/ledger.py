"""Which trials there are and how they ended: the Optuna study and `trials.parquet`, kept in step.

A configuration is an Optuna trial; a trial is a configuration under one seed. The study is told the mean
over the seeds once all of them have ended. A driver that dies leaves both on disk; a new `Ledger` continues
from them: ended trials stay ended, the others are due, nothing is asked twice.

Why so: docs/decisions.md #seeds-belong-to-a-configuration.
"""

import bisect
import itertools
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import optuna
from optuna.trial import TrialState

from spd_ray.config.dimensions import tidy
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.trial import TrialConfig
from spd_ray.data.tasks import metric_of
from spd_ray.records import layout
from spd_ray.records.schema import ENDED, TrialRecord
from spd_ray.records.steps import read_scores
from spd_ray.records.trials import TrialStore
from spd_ray.study.course import report_course
from spd_ray.study.sparsity import level_of
from spd_ray.study.study import Draws


class Ledger:
    """The sweep's trials by id, in memory and on disk; no operation on one trial looks at all the others."""

    def __init__(
        self, spec: SweepSpec, study: optuna.Study, sweep_folder: Path, fetch: Callable[[Path], None] = lambda _: None
    ) -> None:
        """`fetch` brings a path of the sweep's folder, where others write it to an object store."""
        self.spec = spec
        self.study = study
        self.folder = sweep_folder
        self.configurations = spec.total_configurations()
        self.running: dict[str, None] = {}  # ids in the order in which they began
        self._store = TrialStore(sweep_folder)
        self.trials = self._store.trials
        self._seeds: dict[int, list[str]] = defaultdict(list)  # configuration -> ids
        self._rankings: dict[float, list[tuple[float, str]]] = defaultdict(list)  # a level's, see `_rank`, ascending
        self._unranked: dict[str, None] = {}  # ids of the others that have ended
        self._fetch = fetch
        self._seen: dict[str, dict[int, float]] = defaultdict(dict)  # id -> step -> score, of this session
        self._evaluations: dict[str, int] = {}  # id -> how many there were up to the last one that was seen
        for trial in self.trials.values():
            self._seeds[trial.configuration].append(trial.trial_id)
            self._index(trial)
        self._draws = Draws(study, spec)
        self._due: deque[str] = deque()
        for unanswered in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._enter(unanswered.number, unanswered.params)
            self._tell_if_complete(unanswered.number)

    @property
    def total(self) -> int:
        """How many trials the sweep has in all."""
        return self.configurations * len(self.spec.study.seeds)

    @property
    def ended(self) -> list[TrialRecord]:
        return [trial for trial in self.trials.values() if trial.status in ENDED]

    @property
    def ended_count(self) -> int:
        return sum(map(len, self._rankings.values())) + len(self._unranked)

    def config(self, trial_id: str) -> TrialConfig:
        """The full configuration of a trial."""
        return TrialConfig.model_validate_json(self.trials[trial_id].config)

    def next_due(self) -> str | None:
        """The id of a trial to run now, asking the study if none is due; None if no trial is left."""
        if not self._due and self._draws.count < self.configurations:
            drawn = self._draws.ask()
            if drawn is None:  # the space is used up
                self.configurations = self._draws.count
            else:
                self._enter(*drawn)
        return self._due.popleft() if self._due else None

    def update(self, trial_id: str, **changes: Any) -> None:
        """Record what is known of a trial now."""
        before = self.trials[trial_id]
        after = replace(before, **changes)
        self._drop_from_index(before)
        self._store.put(after)
        self._index(after)

    def see_score(self, trial_id: str, step: int, score: float, evaluations: int) -> None:
        """Take note of an evaluation, one of so many until now: a configuration's course is made of them."""
        self._seen[trial_id][step] = score
        self._evaluations[trial_id] = evaluations

    def requeue(self, trial_id: str) -> None:
        """Make a trial due again, before all others."""
        self.update(trial_id, status="waiting")
        self._due.appendleft(trial_id)

    def end(self, trial_id: str, status: str, **changes: Any) -> None:
        """Record that a trial has ended, and tell the study once its configuration is complete."""
        self.update(trial_id, status=status, **changes)
        self._tell_if_complete(self.trials[trial_id].configuration)

    def level(self, trial_id: str) -> float:
        """The level of sparsity at which a trial has rivals."""
        return level_of(self.trials[trial_id].target_sparsity, self.spec)

    @property
    def levels(self) -> list[float]:
        """The levels at which a trial has ended with a feasible student, the sparsest first."""
        return sorted((level for level, ranking in self._rankings.items() if ranking), reverse=True)

    def best_first(self, count: int | None = None) -> list[TrialRecord]:
        """The first `count` of the ended trials with a feasible student: the sparsest level first, in it the best.

        Among equals the earlier one is first.
        """
        ranked = itertools.chain.from_iterable(self._rankings[level] for level in self.levels)
        return [self.trials[trial_id] for _, trial_id in itertools.islice(ranked, count)]

    def best_of_levels(self, count: int) -> list[TrialRecord]:
        """The `count` best of each level, in the order of `best_first`."""
        return [self.trials[trial_id] for level in self.levels for _, trial_id in self._rankings[level][:count]]

    def ended_best_first(self, count: int) -> list[TrialRecord]:
        """The first `count` of the ended trials: `best_first`, then the failed and infeasible ones, newest first."""
        best = self.best_first(count)
        others = itertools.islice(reversed(self._unranked), count - len(best))
        return best + [self.trials[trial_id] for trial_id in others]

    def best(self) -> TrialRecord | None:
        """The best feasible trial of the sparsest level."""
        return next(iter(self.best_first(1)), None)

    def seeds_of(self, configuration: int) -> list[TrialRecord]:
        """The trials of one configuration."""
        return [self.trials[trial_id] for trial_id in self._seeds[configuration]]

    def fold(self) -> None:
        """Write `trials.parquet` if a trial has changed."""
        self._store.fold()

    def fold_if_due(self) -> None:
        """Write `trials.parquet` if a trial has changed and the last time is long enough ago."""
        self._store.fold_if_due()

    def _enter(self, number: int, values: dict[str, Any]) -> None:
        ids = [f"{number:05d}-s{seed}" for seed in self.spec.study.seeds]
        new = [
            _new_record(trial_id, number, self.spec.trial_config(values, seed))
            for trial_id, seed in zip(ids, self.spec.study.seeds, strict=True)
            if trial_id not in self.trials
        ]
        if new:
            self._store.put(*new)
            self._seeds[number] += [trial.trial_id for trial in new]
        self._due += [trial_id for trial_id in ids if self.trials[trial_id].status not in ENDED]

    def _index(self, trial: TrialRecord) -> None:
        if trial.status == "running":
            self.running[trial.trial_id] = None
        elif trial.status in ENDED and _ranked(trial):
            bisect.insort(self._rankings[self.level(trial.trial_id)], _rank(trial))
        elif trial.status in ENDED:
            self._unranked[trial.trial_id] = None

    def _drop_from_index(self, trial: TrialRecord) -> None:
        if trial.status in ENDED and _ranked(trial):
            ranking = self._rankings[self.level(trial.trial_id)]
            del ranking[bisect.bisect_left(ranking, _rank(trial))]
        self.running.pop(trial.trial_id, None)
        self._unranked.pop(trial.trial_id, None)

    def _tell_if_complete(self, number: int) -> None:
        trials = self.seeds_of(number)
        if any(trial.status not in ENDED for trial in trials):
            return
        report_course(self.study, number, [self._scores(trial) for trial in trials])
        scores = [trial.best_score for trial in trials if trial.feasible and trial.best_score is not None]
        if any(trial.status == "failed" for trial in trials) or len(scores) < len(trials):
            self.study.tell(number, state=TrialState.FAIL)
        elif any(trial.status == "stopped" for trial in trials):
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            self.study.tell(number, tidy(mean(scores)))

    def _scores(self, trial: TrialRecord) -> dict[int, float]:
        """Step -> score of a trial, as this session has seen it; fetched and read where others were before it."""
        seen, count = self._seen.pop(trial.trial_id, {}), self._evaluations.pop(trial.trial_id, None)
        if len(seen) != count:
            self._fetch(layout.steps(self.folder, trial.trial_id))
            seen = read_scores(self.folder, trial.trial_id, trial.selection, trial.metric) | seen
        return seen


def _ranked(trial: TrialRecord) -> bool:
    return trial.status != "failed" and bool(trial.feasible)


def _rank(trial: TrialRecord) -> tuple[float, str]:
    return -(trial.best_score or 0.0), trial.trial_id


def _new_record(trial_id: str, number: int, config: TrialConfig) -> TrialRecord:
    method, engine = config.method, config.engine
    return TrialRecord(
        trial_id=trial_id,
        configuration=number,
        seed=config.seed,
        status="waiting",
        method=method.name,
        grafting=method.grafting if method.grafts else "none",
        pruning=method.pruning,
        selection=config.task.selection,
        task=config.task.name,
        model=config.model.path or config.model.name,
        metric=metric_of(config.task),
        p0=method.p0 if method.grafts else 1.0,
        total_epochs=method.total_epochs,
        stage1_epochs=method.stage1_epochs,
        stage2_epochs=method.stage2_epochs,
        stage1_lr=method.stage1_lr,
        stage23_lr=method.later_lr,
        lr_schedule=method.lr_schedule,
        target_sparsity=method.final_sparsity,
        pruning_end=method.pruning_end,
        batch_size=method.batch_size,
        precision=engine.precision,
        zero_stage=engine.zero_stage,
        config=config.model_dump_json(),
    )
