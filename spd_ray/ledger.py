"""Which trials there are and how they ended: the Optuna study and `trials.parquet`, kept in step.

A configuration is an Optuna trial; a trial is a configuration under one seed. The study is told the mean
over the seeds once all of them have ended. A driver that dies leaves both on disk; `Ledger` takes them up
again: ended trials stay ended, the others are due, nothing is asked twice.
"""

from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import optuna
from optuna.trial import TrialState

from spd_ray.config import TrialConfig
from spd_ray.records import TrialRecord, read_trials, write_trials
from spd_ray.space import ask, trial_values
from spd_ray.spec import SweepSpec
from spd_ray.tasks import TASKS

ENDED = ("finished", "stopped", "failed")


class Ledger:
    """The sweep's trials by id, in memory and on disk."""

    def __init__(self, spec: SweepSpec, study: optuna.Study, sweep_folder: Path) -> None:
        self.spec = spec
        self.study = study
        self.folder = sweep_folder
        self.trials = {trial.trial_id: trial for trial in read_trials(sweep_folder)}
        self._due: list[str] = []
        for unanswered in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._enter(unanswered.number, trial_values(unanswered))
            self._tell_if_complete(unanswered.number)
        self._write()

    @property
    def total(self) -> int:
        """How many trials the sweep will have had at its end."""
        return self.spec.total_configurations() * len(self.spec.study.seeds)

    @property
    def ended(self) -> list[TrialRecord]:
        return [trial for trial in self.trials.values() if trial.status in ENDED]

    def config(self, trial_id: str) -> TrialConfig:
        """The full configuration of a trial."""
        return TrialConfig.model_validate_json(self.trials[trial_id].config)

    def next_due(self) -> str | None:
        """The id of a trial to run now, asking the study if none is due; None when all are given out."""
        if not self._due and len(self.study.get_trials(deepcopy=False)) < self.spec.total_configurations():
            self._enter(*ask(self.study, self.spec))
            self._write()
        return self._due.pop(0) if self._due else None

    def update(self, trial_id: str, **changes: Any) -> None:
        """Note what became known of a trial."""
        self.trials[trial_id] = replace(self.trials[trial_id], **changes)
        self._write()

    def end(self, trial_id: str, status: str, **changes: Any) -> None:
        """Note that a trial has ended, and tell the study once its configuration is complete."""
        self.update(trial_id, status=status, **changes)
        self._tell_if_complete(self.trials[trial_id].configuration)

    def best_first(self) -> list[TrialRecord]:
        """The ended trials with a feasible student, best first, the earlier one first among equals."""
        scored = [t for t in self.ended if t.status != "failed" and t.feasible]
        return sorted(scored, key=lambda t: (-(t.best_score or 0.0), t.trial_id))

    def best(self) -> TrialRecord | None:
        """The best feasible trial."""
        return next(iter(self.best_first()), None)

    def seeds_of(self, configuration: int) -> list[TrialRecord]:
        """The trials of one configuration."""
        return [trial for trial in self.trials.values() if trial.configuration == configuration]

    def _enter(self, number: int, values: dict[str, Any]) -> None:
        for seed in self.spec.study.seeds:
            trial_id = f"{number:05d}-s{seed}"
            if trial_id not in self.trials:
                self.trials[trial_id] = _new_record(trial_id, number, self.spec.trial_config(values, seed))
            if self.trials[trial_id].status not in ENDED:
                self._due.append(trial_id)

    def _tell_if_complete(self, number: int) -> None:
        trials = self.seeds_of(number)
        if any(trial.status not in ENDED for trial in trials):
            return
        scores = [trial.best_score for trial in trials if trial.feasible and trial.best_score is not None]
        if any(trial.status == "failed" for trial in trials) or len(scores) < len(trials):
            self.study.tell(number, state=TrialState.FAIL)
        elif any(trial.status == "stopped" for trial in trials):
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            self.study.tell(number, mean(scores))

    def _write(self) -> None:
        write_trials(self.folder, self.trials.values())


def _new_record(trial_id: str, number: int, config: TrialConfig) -> TrialRecord:
    method, engine = config.method, config.engine
    return TrialRecord(
        trial_id=trial_id,
        configuration=number,
        seed=config.seed,
        status="waiting",
        method=config.method_name,
        grafting=method.grafting if method.grafts else "none",
        pruning=method.pruning,
        selection=config.task.selection,
        task=config.task.name,
        model=config.model.path or config.model.name,
        metric=TASKS[config.task.name].metric,
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
