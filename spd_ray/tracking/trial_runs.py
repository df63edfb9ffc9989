"""The MLflow run of one trial: its beginning, its points, its end; of a live trial and of what MLflow has missed.

A number has one name, in runs, in the parent run and in the registered model's tags: `dev_score` and `train_score` at
each evaluation, `best_dev_score` of the best student at its target sparsity so far (`holdout_score`,
`best_holdout_score` where students are chosen on a holdout), `sparsity` as achieved and `target_sparsity` as asked.

Why so: docs/decisions.md #one-fold-of-evaluations, #one-name-a-number-in-mlflow.
"""

import re
from collections.abc import Mapping
from typing import Any

from spd_ray.records.schema import TrialRecord
from spd_ray.study.ledger import Ledger
from spd_ray.tracking.mlflow_store import Status
from spd_ray.tracking.tracker import Tracker, UntimedPoint

TARGET = "target_sparsity"
TEACHER = "spd_ray.teacher"  # tag of every run: the hash of the teacher's files
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
    tags = {"feasible": trial.feasible, "stage": stage, "status": trial.status}
    if trial.teacher_files:
        tags[TEACHER] = trial.teacher_files
    if trial.error:  # an empty tag reads as an error without a word
        tags["error"] = trial.error
    tracker.end_trial(run_id, STATUS[trial.status], tags, results)


def fail_run(trial: TrialRecord, tracker: Tracker) -> None:
    """Mark the run of a trial as failed whose student was not what the trial had said."""
    tracker.end_trial(str(trial.mlflow_run_id), "FAILED", {"status": "failed", "error": trial.error or ""})


def student_worth(trial: TrialRecord, asked: float, score: float, cost: Mapping[str, Any]) -> str:
    """A sentence in Markdown on a student: its sparsity as asked, its score when it was read back, and what it costs.

    `cost` has the fields of the trial's record that are its cost.
    """
    worth = [f"{trial.selection} {trial.metric} **{score:.4f}**"]
    if trial.teacher_score is not None:
        worth.append(f"dense teacher {trial.teacher_score:.4f}")
    if cost["packed_bytes"] is not None:
        worth.append(f"packed {cost['packed_bytes'] / 1e6:.2f} MB")
    if cost["latency_ms"] is not None:
        worth.append(f"{cost['latency_ms']:.2f} ms, dense {cost['dense_latency_ms']:.2f} ms ({cost['timed_on']})")
    return f"**Sparse student at sparsity {asked:g}**: {'; '.join(worth)}."


def student_note(worth: str, commands: Mapping[str, str]) -> str:
    """The description of a retained student's run: what it is worth, and what to type, by what it is for."""
    return "\n\n".join([worth, *(f"{label}:\n\n    {folded(command)}" for label, command in commands.items())])


def folded(command: str, width: int = 64) -> str:
    """A shell's command in indented lines of about `width` characters: a page would be as wide as its longest line.

    >>> print(folded("A=1 run --say 'two words' --last", width=16))
    A=1 run \\
          --say 'two words' \\
          --last
    """
    lines = [""]
    for word in re.findall(r"""(?:--?[\w-]+\s)?(?:[^\s'"]|'[^']*'|"[^"]*")+""", command):  # an option has its value
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n      ".join(lines)
