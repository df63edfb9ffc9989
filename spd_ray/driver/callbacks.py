"""The driver's eye on Tune: what happens to a trial goes to the ledger, to MLflow and to the screen."""

import json
import time
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from spd_ray.driver.display import SweepDisplay
from spd_ray.driver.tracking import Score, Status, Tracker
from spd_ray.records import layout
from spd_ray.records.schema import ENDED, TrialRecord
from spd_ray.records.steps import compact_steps
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.trials.standing import POINTS

FACTS = (
    "layers",
    "student_layers",
    "prunable_parameters",
    "encoder_parameters",
    "parameters",
    "t1",
    "t2",
    "t3",
    "pruning_end_step",
    "teacher_score",
    "majority_score",
)
BEST = (
    "best_score",
    "best_step",
    "train_score",
    "achieved_sparsity",
    "remaining_encoder_parameters",
    "remaining_parameters",
    "wall_seconds",
    "device_seconds",
)
_SETTLE_SECONDS, _SETTLE_SHARE = 5.0, 0.1  # between what a store is sent; of the driver's time, at most
_RAY_SAW_IT_DIE = "worker process has died"
_RAY_COULD_NOT_SAY = "An unexpected internal error occurred"  # ends the traceback of a worker that died of it
OUTCOMES: dict[str, Status] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class SweepWatcher(Callback):
    """A Tune callback; Tune calls it in the driver's loop."""

    def __init__(self, ledger: Ledger, tracker: Tracker, display: SweepDisplay, storage: SweepStorage) -> None:
        self.ledger = ledger
        self.tracker = tracker
        self.display = display
        self.storage = storage
        self.run_ids: dict[str, str] = {}  # trial id -> the tracker's handle
        self.furthest: dict[str, int] = {}  # trial id -> the last step that this session has seen of it
        left = [folder.name for folder in storage.folders(layout.states(ledger.folder))]
        self._ended = [name for name in left if name in ledger.trials and ledger.trials[name].status in ENDED]
        self._settle_at = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Tune's own snapshot: a sweep is resumed from the ledger."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self.ledger.fold_if_due()
        self.tracker.send_noted()
        self.display.update()
        self.settle()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.ledger.update(_id(trial), status="running", mlflow_run_id=self._run_id(_id(trial)))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self.display.standings[_id(trial)] = result
        if result["step"] > self.furthest.get(_id(trial), 0):
            self.furthest[_id(trial)] = result["step"]
            trial.run_metadata.num_failures = 0  # `retries` are those in a row: a trial that gets on may die often
        self.tracker.note_scores(self._run_id(_id(trial)), points_of(result, int(time.time() * 1000)))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        result = trial.last_result
        if "error" in result:
            self._end(_id(trial), "failed", result, result["error"])
        else:
            self._end(_id(trial), "finished" if result["budget"] >= 1.0 else "stopped", result, None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tune gives up also on a trial with retries left, where two calls to one dead process tell of its death."""
        if trial.run_metadata.num_failures <= trial.max_failures:
            self.ledger.repeat(_id(trial))
        else:
            self._end(_id(trial), "failed", self.display.standings.get(_id(trial), {}), _reason(trial))

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
        known = {name: result[name] for name in (*FACTS, *BEST, "peak_memory_bytes") if name in result}
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
        self._ended.append(trial_id)
        self.settle()
        drop_students(self.ledger, self.storage)
        self.display.end(trial_id)

    def settle(self, at_once: bool = False) -> None:
        """Drop the states of what has ended, once a store behind a URI knows of the ends."""
        began = time.monotonic()
        if self.storage.is_remote:
            if began < self._settle_at and not at_once:
                return
            self.ledger.fold()
            self.storage.send_files()
        for trial_id in self._ended:
            self.storage.drop(layout.trial_states(self.ledger.folder, trial_id))
        self._ended.clear()
        ended = time.monotonic()
        self._settle_at = ended + max(_SETTLE_SECONDS, (ended - began) / _SETTLE_SHARE)


def points_of(standing: dict[str, Any], time_ms: int | None) -> list[Score]:
    """MLflow's points of a standing; `time_ms`: when it was, in milliseconds since 1970 (None: now)."""
    return [(name, standing[name], standing["step"], time_ms) for name in POINTS if standing[name] is not None]


def begin_run(ledger: Ledger, tracker: Tracker, trial_id: str) -> str:
    """Begin a trial's MLflow run, or go on with it, and return the tracker's handle."""
    trial = ledger.trials[trial_id]
    params = ledger.config(trial_id).model_dump(mode="json")
    return tracker.start_trial(trial_id, params, {"configuration": trial.configuration, "seed": trial.seed})


def end_run(trial: TrialRecord, tracker: Tracker, run_id: str, stage: int) -> None:
    """End the MLflow run of a trial that ended, in `stage`, as its record says."""
    tags = {"feasible": trial.feasible, "stage": stage, "status": trial.status, "error": trial.error or ""}
    tracker.end_trial(run_id, OUTCOMES[trial.status], tags)


def drop_students(ledger: Ledger, storage: SweepStorage) -> None:
    """Delete the students of ended trials that are not among the best feasible ones."""
    kept = {trial.trial_id for trial in ledger.best_first(ledger.spec.checkpoints.keep)}
    students = storage.folders(layout.checkpoints(ledger.folder))
    for folder in students:
        trial = ledger.trials.get(folder.name)  # None for a level's student, which goes with the trial's
        if trial is not None and trial.status in ENDED and trial.trial_id not in kept:
            for student in students:
                if layout.is_student_of(student, trial.trial_id):
                    storage.drop(student)
            ledger.update(trial.trial_id, checkpoint=None)


def _id(trial: Trial) -> str:
    return trial.config["order"]["trial_id"]


def _reason(trial: Trial) -> str:
    file = Path(trial.error_file) if trial.error_file else None
    return last_reason(file.read_text() if file and file.exists() else "")


def last_reason(errors: str) -> str:
    """The reason for the last failure in a trial's file of errors: the last line of the worker's traceback.

    A process may have died before it could say, or in the middle of saying it: there is no memory for that, either.
    """
    _, _, last = errors.rpartition("Failure #")
    lines = [line.strip() for line in last.splitlines() if line.strip() and not line.startswith(_RAY_COULD_NOT_SAY)]
    if not lines or _RAY_SAW_IT_DIE in lines[-1]:
        return "the trial's process died: killed, or out of memory"
    return f"the trial's process died: {lines[-1]}" if _RAY_SAW_IT_DIE in last else lines[-1]
