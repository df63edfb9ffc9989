"""The MLflow run of one trial: its beginning, its points, its end; of a live trial and of what MLflow has missed.

A number has one name, in runs, in the parent run and in the registered model's tags: `dev_score` and `train_score` at
each evaluation, `best_dev_score` of the best student at its target sparsity so far (`holdout_score`,
`best_holdout_score` where students are chosen on a holdout), `sparsity` as achieved and `target_sparsity` as asked.

Why so: docs/decisions.md #one-fold-of-evaluations, #one-name-a-number-in-mlflow.
"""

from collections.abc import Mapping
from typing import Any

from spd_ray.records.schema import TrialRecord
from spd_ray.study.ledger import Ledger
from spd_ray.tracking.mlflow_store import Status
from spd_ray.tracking.tracker import Tracker, UntimedPoint

TARGET = "target_sparsity"
RESULTS = {  # metric -> field of the trial's record, logged once when the trial ends
    "train_score_at_best": "train_score",
    "best_step": "best_step",
    "remaining_parameters": "remaining_parameters",
    "wall_seconds": "wall_seconds",
    "device_seconds": "device_seconds",
}
STATUS: dict[str, Status] = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}  # tag `status` tells


def best_name(trial: TrialRecord) -> str:
    """What the best score of a trial is called."""
    return f"best_{trial.selection}_score"


def begin_run(ledger: Ledger, tracker: Tracker, trial_id: str) -> str:
    """Begin a trial's MLflow run, or continue it, and return the tracker's handle."""
    trial = ledger.trials[trial_id]
    params = ledger.config(trial_id).model_dump(mode="json")
    tags = {"configuration": trial.configuration, "seed": trial.seed, "status": "running"}
    run_id = tracker.begin_trial(trial_id, params, tags)
    tracker.note_points(run_id, [(TARGET, trial.target_sparsity, 0, None)])
    return run_id


def points_of(trial: TrialRecord, standing: Mapping[str, Any], time_ms: int | None = None) -> list[UntimedPoint]:
    """MLflow's points of a standing at `time_ms`, in milliseconds since 1970; None: when they are logged."""
    values = {
        f"{trial.selection}_score": standing["score"],
        "train_score": standing["train_score_now"],
        best_name(trial): standing["best_score"],
        "sparsity": standing["sparsity"],
        "budget": standing["budget"],
        **standing["course"],
    }
    return [(name, value, standing["step"], time_ms) for name, value in values.items() if value is not None]


def end_run(trial: TrialRecord, tracker: Tracker, run_id: str, stage: int) -> None:
    """End the MLflow run of a trial that ended, in `stage`, as its record says."""
    found = {name: getattr(trial, field) for name, field in RESULTS.items()}
    results = [(name, value, trial.best_step or 0, None) for name, value in found.items() if value is not None]
    tags = {"feasible": trial.feasible, "stage": stage, "status": trial.status, "error": trial.error or ""}
    tracker.end_trial(run_id, STATUS[trial.status], tags, results)


def fail_run(trial: TrialRecord, tracker: Tracker) -> None:
    """Mark the run of a trial as failed whose student was not what the trial had said."""
    tracker.end_trial(str(trial.mlflow_run_id), "FAILED", {"status": "failed", "error": trial.error or ""})
