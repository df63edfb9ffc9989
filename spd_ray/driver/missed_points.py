"""What MLflow misses of the trials that began before is sent from Parquet.

Updates are sent in order, so a run that has ended has all of its trial. The others miss what waited when an earlier
driver ended: killed, interrupted, or finished while the server was away.
"""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from spd_ray.config.timeline import Timeline
from spd_ray.driver.callbacks import begin_run, end_run
from spd_ray.driver.tracking import Score, Tracker
from spd_ray.records.schema import TrialRecord
from spd_ray.records.steps import steps_folder
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import ENDED, Ledger


def fill_in(ledger: Ledger, tracker: Tracker, storage: SweepStorage, train_examples: int) -> None:
    """Begin, complete and end the runs of the trials as far as these have come."""
    complete = tracker.ended_trials()
    for trial in list(ledger.trials.values()):
        if trial.status == "waiting" or trial.trial_id in complete:
            continue
        run_id = begin_run(ledger, tracker, trial.trial_id)
        steps = steps_folder(ledger.folder, trial.trial_id)
        storage.fetch(steps)
        rows = evaluations(steps)
        timeline = Timeline.of(ledger.config(trial.trial_id).method, train_examples)
        tracker.log_scores(run_id, points(rows, trial, timeline))
        if trial.status in ENDED:
            end_run(trial, tracker, run_id, rows[-1]["stage"] if rows else 0)
            ledger.update(trial.trial_id, mlflow_run_id=tracker.run_id_of(run_id))


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """The rows of a trial's scores, by step; the two losses of an evaluation left out."""
    if not folder.is_dir():
        return []
    scored = [("split", "!=", "batch"), ("metric", "!=", "loss")]
    columns = ["step", "stage", "split", "value", "sparsity"]
    rows = pq.read_table(folder, columns=columns, filters=scored, partitioning=None).to_pylist()
    return sorted(rows, key=lambda row: row["step"])


def points(rows: list[dict[str, Any]], trial: TrialRecord, timeline: Timeline) -> list[Score]:
    """What the driver logs of a trial's evaluations, as `watching` does."""
    found: list[Score] = []
    best = None
    for row in rows:
        step, value = row["step"], row["value"]
        if row["split"] != trial.selection:
            found.append(("train_score_now", value, step, None))
            continue
        if timeline.pruning_rate(step) >= timeline.final_sparsity:
            best = value if best is None else max(best, value)
            found.append(("best_score", best, step, None))
        found += [("score", value, step, None), ("sparsity", row["sparsity"], step, None)]
        found.append(("budget", timeline.budget(step), step, None))
    return found
