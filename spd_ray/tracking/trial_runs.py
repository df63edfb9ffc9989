"""The MLflow run of one trial: its beginning, its points, its end; of a live trial and of what MLflow has missed."""

from collections.abc import Mapping
from typing import Any

from spd_ray.records.schema import TrialRecord
from spd_ray.study.ledger import Ledger
from spd_ray.tracking.mlflow_store import Status
from spd_ray.tracking.tracker import Tracker, UntimedPoint

POINTS = ("score", "train_score_now", "best_score", "sparsity", "budget")  # of a standing
STATUS: dict[str, Status] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


def begin_run(ledger: Ledger, tracker: Tracker, trial_id: str) -> str:
    """Begin a trial's MLflow run, or continue it, and return the tracker's handle."""
    trial = ledger.trials[trial_id]
    params = ledger.config(trial_id).model_dump(mode="json")
    return tracker.begin_trial(trial_id, params, {"configuration": trial.configuration, "seed": trial.seed})


def points_of(standing: Mapping[str, Any], time_ms: int | None = None) -> list[UntimedPoint]:
    """MLflow's points of a standing at `time_ms`, in milliseconds since 1970; None: when they are logged."""
    return [(name, standing[name], standing["step"], time_ms) for name in POINTS if standing[name] is not None]


def end_run(trial: TrialRecord, tracker: Tracker, run_id: str, stage: int) -> None:
    """End the MLflow run of a trial that ended, in `stage`, as its record says."""
    tags = {"feasible": trial.feasible, "stage": stage, "status": trial.status, "error": trial.error or ""}
    tracker.end_trial(run_id, STATUS[trial.status], tags)
