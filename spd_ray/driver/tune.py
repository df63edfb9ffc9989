"""What Ray Tune is given: a searcher for the next trial, a callback for what happens to one.

Why so: docs/decisions.md #one-writer, #retries-in-a-row, #trials-that-tune-gives-up.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from spd_ray.base.pace import Pace
from spd_ray.driver.display import SweepDisplay
from spd_ray.records import layout
from spd_ray.records.schema import ENDED
from spd_ray.records.steps import compact_steps
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.tracking.sweep_page import SweepPage
from spd_ray.tracking.tracker import Tracker
from spd_ray.tracking.trial_runs import begin_run, end_run, points_of
from spd_ray.trials.request import requested_trial
from spd_ray.trials.signs import read_last_words
from spd_ray.trials.standing import RECORDED

_SEND_SHARE, _SEND_SECONDS = 0.1, 5.0  # of the time, at most, to send files to a store; between two times, at least
FIRST_TRIALS = 3  # that fail alike: the others would, too
_WORKER_DIED = "worker process has died"
_DIED = "the trial's process died"
_REPORT_BROKE_OFF = "An unexpected internal error occurred"  # the end of a traceback that its worker did not finish


class LedgerSearcher(Searcher):
    """A Tune searcher that hands out the ledger's trials; `tune_config` makes Tune's configuration of a trial id."""

    def __init__(self, ledger: Ledger, tune_config: Callable[[str], dict[str, Any]]) -> None:
        super().__init__(metric="score", mode="max")
        self.ledger = ledger
        self.tune_config = tune_config

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        due = self.ledger.next_due()
        if due is not None:
            return self.tune_config(due)
        return None if self.ledger.running else Searcher.FINISHED  # one that runs may become due again

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the sweep's callback reports the end to the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Tune's own snapshot: a sweep is resumed from the ledger."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class SweepWatcher(Callback):
    """A Tune callback, called in the driver's loop: it passes on to the ledger, to MLflow and to the screen."""

    def __init__(
        self, ledger: Ledger, tracker: Tracker, page: SweepPage, display: SweepDisplay, storage: SweepStorage
    ) -> None:
        self.ledger = ledger
        self.tracker = tracker
        self.page = page
        self.display = display
        self.storage = storage
        self.run_ids: dict[str, str] = {}  # trial id -> the tracker's handle
        self.furthest: dict[str, int] = {}  # trial id -> the last step that this session has seen of it
        self.pace = Pace(_SEND_SHARE, _SEND_SECONDS)
        self._ended = self._ended_with_state()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Tune's own snapshot: a sweep is resumed from the ledger."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self.ledger.fold_if_due()
        self.tracker.send_noted()
        self.display.update()
        self.drop_states()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.ledger.update(requested_trial(trial), status="running", mlflow_run_id=self._run_id(requested_trial(trial)))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        trial_id = requested_trial(trial)
        self.display.standings[trial_id] = result
        self.display.say_recorded(result.get("recorded"))
        if result["score"] is not None:
            self.ledger.see_score(trial_id, result["step"], result["score"], result["evaluations"])
        if result["step"] > self.furthest.get(trial_id, 0):
            self.furthest[trial_id] = result["step"]
            trial.run_metadata.num_failures = (
                0  # `retries` are those in a row: a trial that makes progress may die often
            )
        points = points_of(self.ledger.trials[trial_id], result, int(time.time() * 1000))
        self.tracker.note_points(self._run_id(trial_id), points)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        result = trial.last_result
        if "error" in result:
            self._end(requested_trial(trial), "failed", result, result["error"])
        else:
            self._end(requested_trial(trial), "finished" if result["budget"] >= 1.0 else "stopped", result, None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tune also gives up on a trial with retries left, where two calls to one dead process report its death."""
        if trial.run_metadata.num_failures <= trial.max_failures:
            self.ledger.requeue(requested_trial(trial))
        else:
            self._end(
                requested_trial(trial), "failed", self.display.standings.get(requested_trial(trial), {}), _reason(trial)
            )

    def _run_id(self, trial_id: str) -> str:
        """The trial's MLflow run, begun here if it has none: a trial can fail before Tune has started it."""
        if trial_id not in self.run_ids:
            self.run_ids[trial_id] = begin_run(self.ledger, self.tracker, trial_id)
        return self.run_ids[trial_id]

    def _ladder(self, trial_id: str, result: dict[str, Any]) -> str | None:
        """The ladder's levels as the record holds them, each with its checkpoint."""
        levels = result.get("levels", {}).values()
        folders = [layout.checkpoint(self.ledger.folder, trial_id, level["sparsity"]) for level in levels]
        relative = [str(folder.relative_to(self.ledger.folder)) for folder in folders]
        found = [{**level, "checkpoint": path} for level, path in zip(levels, relative, strict=True)]
        return json.dumps(found) if found else None

    def _end(self, trial_id: str, status: str, result: dict[str, Any], error: str | None) -> None:
        checkpoint = layout.checkpoint(self.ledger.folder, trial_id)
        known = {name: result[name] for name in (*RECORDED, "peak_memory_bytes") if name in result}
        feasible = result.get("best_score") is not None
        run_id = self._run_id(trial_id)
        compact_steps(self.ledger.folder, trial_id)
        self.ledger.end(
            trial_id,
            status,
            **known,
            final_score=result.get("score"),
            feasible=feasible,
            checkpoint=str(checkpoint.relative_to(self.ledger.folder)) if feasible else None,
            ladder=self._ladder(trial_id, result),
            error=error,
            mlflow_run_id=self.tracker.run_id_of(run_id),
        )
        end_run(self.ledger.trials[trial_id], self.tracker, run_id, result.get("stage", 0))
        self.page.trial_ended(self.ledger.trials[trial_id])
        self._ended.append(trial_id)
        self.drop_states()
        drop_students(self.ledger, self.storage)
        self.display.end(trial_id)

    def common_error(self) -> str | None:
        """The error that the first trials of the sweep have all failed with, before any trial came to an evaluation."""
        if self.furthest or self.ledger.ended_count < FIRST_TRIALS:
            return None
        errors = {trial.error and trial.error.replace(trial.trial_id, "ID") for trial in self.ledger.ended}
        return errors.pop() if len(errors) == 1 else None

    def _ended_with_state(self) -> list[str]:
        """The trials that have ended, and have a state all the same."""
        left = [folder.name for folder in self.storage.folders(layout.states(self.ledger.folder))]
        return [name for name in left if name in self.ledger.trials and self.ledger.trials[name].status in ENDED]

    def drop_states(self, at_once: bool = False) -> None:
        """Drop the states of the trials that have ended, once a store behind a URI has been sent the ends."""
        if self.storage.is_remote and not (at_once or self.pace.due):
            return
        with self.pace.measured():
            if at_once:  # what a worker was writing when its trial was stopped
                self._ended = self._ended_with_state()
            if self.storage.is_remote:
                self.ledger.fold()
                self.storage.send_files()
            for trial_id in self._ended:
                self.storage.drop(layout.trial_states(self.ledger.folder, trial_id))
            self._ended.clear()


def drop_students(ledger: Ledger, storage: SweepStorage) -> None:
    """Delete the students of ended trials that are not among the best feasible ones of their sparsity."""
    kept = {trial.trial_id for trial in ledger.best_of_levels(ledger.spec.checkpoints.keep)}
    students = storage.folders(layout.checkpoints(ledger.folder))
    for folder in students:
        trial = ledger.trials.get(folder.name)  # None for a level's student, which goes with the trial's
        if trial is not None and trial.status in ENDED and trial.trial_id not in kept:
            for student in students:
                if layout.is_student_of(student, trial.trial_id):
                    storage.drop(student)
            ledger.update(trial.trial_id, checkpoint=None)


def _reason(trial: Trial) -> str:
    file = Path(trial.error_file) if trial.error_file else None
    reason = last_reason(file.read_text() if file and file.exists() else "")
    words = read_last_words(requested_trial(trial)) if reason.startswith(_DIED) else ""
    return last_reason(words) if words else reason


def last_reason(errors: str) -> str:
    """The reason for the last failure in Tune's error file of a trial: the last line of the worker's traceback.

    A process may have died before it could report an error, or while it did: that takes memory too.
    """
    _, _, last = errors.rpartition("Failure #")
    lines = [line.strip() for line in last.splitlines() if line.strip() and not line.startswith(_REPORT_BROKE_OFF)]
    if not lines or _WORKER_DIED in lines[-1]:
        return f"{_DIED}: killed, or out of memory"
    return f"{_DIED}: {lines[-1]}" if _WORKER_DIED in last else lines[-1]
