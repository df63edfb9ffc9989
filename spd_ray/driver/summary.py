"""The end of a sweep: the best students go to MLflow, the summary to the screen."""

import tempfile
from pathlib import Path
from statistics import mean, stdev

from rich.console import Console
from rich.table import Table

from analysis.figures import fig04
from analysis.reading.sweeps import read_sweep
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.timeline import Timeline
from spd_ray.records import layout
from spd_ray.records.schema import TrialRecord
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.tracking.tracker import Tracker
from spd_ray.training.checkpoint import Verification
from spd_ray.training.teacher import Teacher


def teacher_line(teacher: Teacher) -> str:
    """The dense teacher's scores in one line."""
    task = teacher.data.task
    return (
        f"teacher: {teacher.data.selection} {task.metric} {teacher.score:.4f}, train {teacher.train_score:.4f}, "
        f"majority class {teacher.majority_score:.4f}, learning rate {teacher.learning_rate:g} ({teacher.folder})"
    )


def publish(
    spec: SweepSpec,
    ledger: Ledger,
    tracker: Tracker,
    storage: SweepStorage,
    verified: dict[str, Verification],
    best: TrialRecord | None,
) -> None:
    """Upload the verified students and their schedules to their runs; register the best under the alias `best`."""
    folder = storage.folder
    tracker.upload(tracker.store.parent_run_id, layout.sweep_yaml(folder))
    for trial_id, verification in verified.items():
        trial = ledger.trials[trial_id]
        run_id = str(trial.mlflow_run_id)
        storage.fetch(layout.steps(folder, trial_id))
        with tempfile.TemporaryDirectory() as drawings:
            picture = Path(drawings) / "schedules.png"
            fig04.figure(fig04.compute([read_sweep(folder)], trial_id)).savefig(picture, dpi=150)
            tracker.upload(run_id, picture)
        tracker.upload(run_id, folder / str(trial.checkpoint), "checkpoint")
        tracker.log_points(
            run_id, [(f"{trial.selection}_score_read_back", verification.score, trial.best_step or 0, None)]
        )
    if best is not None:
        name = spec.tracking.registered_model or f"spd_ray-{spec.name}"
        tags = {"trial_id": best.trial_id, "score": best.best_score, "sparsity": best.achieved_sparsity}
        tracker.register_best(str(best.mlflow_run_id), "checkpoint", name, tags)


def print_summary(
    spec: SweepSpec,
    ledger: Ledger,
    teacher: Teacher,
    storage: SweepStorage,
    verified: dict[str, Verification],
    best: TrialRecord | None,
    tracker: Tracker,
    console: Console,
) -> None:
    """The best feasible trial, the scores side by side, and where everything is."""
    counts = {status: sum(t.status == status for t in ledger.ended) for status in ("finished", "stopped", "failed")}
    console.rule(f"sweep {spec.name}")
    console.print(", ".join(f"{count} trials {status}" for status, count in counts.items()))
    for trial in ledger.ended:
        if trial.status == "failed":
            console.print(f"failed: {trial.trial_id}: {trial.error}", soft_wrap=True, markup=False)
    if best is None:
        console.print("no feasible student: no trial was scored at its target sparsity and read back as it was")
        return
    config = ledger.config(best.trial_id)
    timeline = Timeline.of(config.method, len(teacher.data.train))
    scores = [t.best_score for t in ledger.seeds_of(best.configuration) if t.best_score is not None]
    spread = f" +- {stdev(scores):.4f}" if len(scores) > 1 else ""
    console.print(
        f"best feasible trial: {best.trial_id} (configuration {best.configuration}, "
        f"mean over {len(scores)} seeds {mean(scores):.4f}{spread})"
    )
    values = config.method.model_dump()
    shown = dict.fromkeys(("p0", "stage1_lr", "stage23_lr", "pruning_end", "target_sparsity", *spec.search))
    console.print(
        "  " + ", ".join(f"{name} {values[name]:.4g}" for name in shown if isinstance(values.get(name), int | float))
    )
    stages = f"t1 {timeline.t1}, t2 {timeline.t2}, t3 {timeline.t3} steps"
    console.print(f"  {stages}; pruning ends at {timeline.pruning_end_step}")
    console.print(_scores_table(best, teacher, verified[best.trial_id]))
    console.print(f"best sparse checkpoint: {storage.shown(storage.folder / str(best.checkpoint))}", soft_wrap=True)
    console.print(f"browse the runs with:   {tracker.store.ui_command()}", soft_wrap=True)
    console.print(f"figures and tables:     python -m analysis --sweep {storage.place}", soft_wrap=True)


def _scores_table(best: TrialRecord, teacher: Teacher, verification: Verification) -> Table:
    """Majority, dense teacher and sparse student on what was chosen on and on train; with a holdout also on dev."""
    table = Table("model", f"{best.selection} {best.metric}", "train", "encoder zeros")
    table.add_row("majority class", f"{teacher.majority_score:.4f}", "", "")
    table.add_row("dense teacher", f"{teacher.score:.4f}", f"{teacher.train_score:.4f}", "0.0000")
    reloaded = f"{verification.score:.4f} (read back from disk)"
    table.add_row("sparse student", reloaded, f"{best.train_score:.4f}", f"{verification.sparsity:.4f}")
    if best.selection == "holdout":
        table.add_row("sparse student, dev", f"{verification.dev_score:.4f} (its only use)", "", "")
    return table
