"""What MLflow has missed of the trials that began before this session, sent from their Parquet files.

Updates are sent in order, so MLflow has all of a trial whose run has ended. Of the others it misses what was waiting
when an earlier driver ended: killed, interrupted, or finished while the server was away.

Why so: docs/decisions.md #one-fold-of-evaluations, #mlflow-completed-on-resume.
"""

import itertools
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq

from spd_ray.config.timeline import Timeline
from spd_ray.records import layout
from spd_ray.records.schema import ENDED, STEP_SCHEMA
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.tracking.tracker import Tracker, UntimedPoint
from spd_ray.tracking.trial_runs import begin_run, end_run, points_of
from spd_ray.trials.standing import COURSE_COLUMNS, Evaluation, Standing, course_of, judge


def send_missed_points(ledger: Ledger, tracker: Tracker, storage: SweepStorage, train_examples: int) -> None:
    """Bring the MLflow runs of all trials that have begun up to what their records say."""
    complete = tracker.store.ended_trials()
    for trial in list(ledger.trials.values()):
        if trial.status == "waiting" or trial.trial_id in complete:
            continue
        run_id = begin_run(ledger, tracker, trial.trial_id)
        steps = layout.steps(ledger.folder, trial.trial_id)
        storage.fetch(steps)
        timeline = Timeline.of(ledger.config(trial.trial_id).method, train_examples)
        standing, points = Standing(), list[UntimedPoint]()
        for evaluation in read_evaluations(steps, trial.selection, trial.metric):
            standing = judge(standing, timeline, evaluation)
            points += points_of(trial, asdict(standing))
        tracker.log_points(run_id, points)
        if trial.status in ENDED:
            end_run(trial, tracker, run_id, standing.stage if standing.evaluations else 0)
            ledger.update(trial.trial_id, mlflow_run_id=tracker.run_id_of(run_id))


def read_evaluations(folder: Path, selection: str, metric: str) -> list[Evaluation]:
    """A trial's evaluations by step, from its step records; students are chosen by `metric` on `selection`."""
    if not folder.is_dir():
        return []
    columns = ["step", "stage", "split", "metric", "sparsity", *COURSE_COLUMNS]
    rows = pq.read_table(folder, columns=columns, schema=STEP_SCHEMA, partitioning=None).to_pylist()
    steps = {row["step"]: row for row in rows if row["split"] == "batch"}
    scored = [row for row in rows if row["split"] != "batch" and row["metric"] == metric]
    train = {row["step"]: row["value"] for row in scored if row["split"] == "train"}
    chosen = {row["step"]: row for row in scored if row["split"] == selection}
    found = []
    for before, step in itertools.pairwise([0, *sorted(chosen)]):
        row, course = chosen[step], course_of([steps[index] for index in range(before, step) if index in steps])
        found.append(Evaluation(step, row["stage"], row["value"], train[step], row["sparsity"], course))
    return found
