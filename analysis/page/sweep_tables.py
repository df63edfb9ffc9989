"""Sweeps and their trials as tables."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from analysis.numbers.leaderboard import Board, Row, Student, run_key
from analysis.page.table import Cell, Heading, Link, Table
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial, setting_of, status_counts
from analysis.wording.formatting import (
    MISSING,
    format_number,
    format_rate,
    format_score,
    format_signed,
    format_value,
    join,
)

MOST_TRIALS = 200  # rows of a sweep's table


def sweeps_table(sweeps: Sequence[Sweep]) -> Table:
    """One row per sweep: its setting, how its trials stand, what it cost."""
    headings = (
        Heading("sweep"), Heading("task"), Heading("model"), Heading("trials"), Heading("seeds"), Heading("sampler"),
        Heading("device hours", "seconds inside training steps times workers"),
    )  # fmt: skip
    return Table(headings, list(map(_sweep_row, sweeps)))


def _sweep_row(sweep: Sweep) -> list[str]:
    setting = setting_of(sweep.trials)
    seconds = [trial.device_seconds for trial in sweep.trials if trial.device_seconds is not None]
    return [
        sweep.name, join(setting.tasks), join(setting.models), status_counts(sweep.trials), str(len(setting.seeds)),
        sweep.description.sampler or MISSING, format_number(sum(seconds) / 3600 if seconds else None, ".3g"),
    ]  # fmt: skip


def leaderboard_table(board: Board, dimensions: Sequence[str], sweep: Sweep, out: Path, mlflow: str | None) -> Table:
    """A row a configuration, that of the best student first; at most 200. Columns that nothing fills are left out.

    Links lead to the run of the best student and to the best checkpoint that was kept, as in `trials_table`.
    """
    headings = (
        Heading("best trial", "the configuration's best student is its"),
        Heading("best", "score of the best student, on the split on which students are chosen"),
        Heading("mean ± sd", "over seeds: mean and sample standard deviation"),
        Heading("checkpoint", "the best of the configuration's students that were kept"),
        Heading("run", "in MLflow; without a server, the trial's row below"),
        Heading("seeds", "under which the configuration has a student"),
        Heading("stopped", "early, of these trials"),
        Heading("dev", "of the best student, read back from disk"),
        Heading("sparsity", "achieved by the best student"),
        Heading("MB", "size of the packed student"),
        Heading("ms", "latency of the packed student"),
        Heading("speed-up", "latency of the dense model, divided by the packed student's"),
        *(Heading(name.replace("_", " ")) for name in dimensions),
    )
    shown = board.rows[:MOST_TRIALS]
    rows = [_leaderboard_row(row, dimensions, sweep, out, mlflow) for row in shown]
    keys = [run_key(sweep.name, row.configuration) for row in shown]
    return Table(headings, rows, keys=keys).without_empty_columns(MISSING)


def _leaderboard_row(row: Row, dimensions: Sequence[str], sweep: Sweep, out: Path, mlflow: str | None) -> list[Cell]:
    best, trial = row.best, row.best.trial
    spread = "" if row.deviation is None else f" ± {format_score(row.deviation)}"
    run = _run_cell(trial, sweep, mlflow)
    stopped = sum(student.trial.status == "stopped" for student in row.students)
    faster = best.dense_latency_ms / best.latency_ms if best.dense_latency_ms and best.latency_ms else None
    return [
        trial.trial_id,
        format_score(best.score),
        format_score(row.mean) + spread,
        checkpoint_cell(row.kept, sweep, out),
        run
        if isinstance(run, Link) and run.address
        else Link("below", f"#{quote(run_key(sweep.name, trial.configuration, trial.trial_id))}"),
        str(len(row.students)),
        str(stopped) if stopped else MISSING,
        format_score(best.dev_score),
        format_number(best.achieved, ".4f"),
        format_number(None if best.packed_bytes is None else best.packed_bytes / 1e6, ".2f"),
        format_number(best.latency_ms, ".2f"),
        MISSING if faster is None else f"{faster:.1f}×",
        *(MISSING if row.values[name] is None else format_value(row.values[name]) for name in dimensions),
    ]


def checkpoint_cell(student: Student | None, sweep: Sweep, out: Path) -> Cell:
    """The student's trial with the address of its checkpoint."""
    if student is None or student.checkpoint is None:
        return MISSING
    return Link(student.trial.trial_id, _address(student.checkpoint, sweep, out))


_TRIAL_HEADINGS = (
    Heading("trial"),
    Heading("checkpoint", "the retained student"),
    Heading("run", "in MLflow"),
    Heading("status"),
    Heading("best", "best score at the target sparsity, on the split on which students are chosen"),
    Heading("train", "train score at the same step"),
    Heading("gap", "train minus best"),
    Heading("dev", "of the retained student, read back from disk"),
    Heading("target", "target sparsity"),
    Heading("sparsity", "achieved by the best student"),
    Heading("feasible", "a student at its target sparsity was scored"),
    Heading("method"),
    Heading("p₀", "replacing probability in Stage I"),
    Heading("epochs I", "length of Stage I in epochs"),
    Heading("II", "length of Stage II in epochs"),
    Heading("III", "length of Stage III in epochs"),
    Heading("λ₀", "initial learning rate of Stage I"),
    Heading("λ₁", "initial learning rate of Stages II and III"),
    Heading("pruning end", "multiple of the end of Stage I"),
)


def trials_table(sweep: Sweep, out: Path, mlflow: str | None) -> Table:
    """The trials by ascending sparsity, the best score first, those without one last; at most 200 rows.

    Links lead to the MLflow server at `mlflow`, else the sweep's own, and from the folder `out` to the checkpoints.
    """
    shown = rank(sweep.trials)[:MOST_TRIALS]
    rows = [_trial_row(trial, sweep, out, mlflow) for trial in shown]
    keys = [run_key(sweep.name, trial.configuration, trial.trial_id) for trial in shown]
    return Table(_TRIAL_HEADINGS, rows, ["" if trial.comparable else "out" for trial in shown], keys)


def rank(trials: Sequence[Trial]) -> list[Trial]:
    """The eligible trials by sparsity, the best score first, then the others, scored ones first."""

    def key(trial: Trial) -> tuple[bool, float, float]:
        score = float("inf") if trial.best_score is None else -trial.best_score
        return not trial.eligible, trial.target_sparsity, score

    return sorted(trials, key=key)


def _trial_row(trial: Trial, sweep: Sweep, out: Path, mlflow: str | None) -> list[Cell]:
    stage3 = trial.total_epochs - trial.stage1_epochs - trial.stage2_epochs
    return [
        trial.trial_id,
        MISSING if trial.checkpoint is None else Link("open", _address(trial.checkpoint, sweep, out)),
        _run_cell(trial, sweep, mlflow),
        trial.status,
        format_score(trial.best_score),
        format_score(trial.train_score),
        format_signed(trial.gap),
        format_score(trial.dev_score),
        f"{trial.target_sparsity:g}",
        format_number(trial.achieved_sparsity, ".4f"),
        {True: "yes", False: "no", None: MISSING}[trial.feasible],
        trial.method,
        f"{trial.p0:.3g}",
        *(f"{epochs:.3g}" for epochs in (trial.stage1_epochs, trial.stage2_epochs, stage3)),
        format_rate(trial.stage1_lr),
        format_rate(trial.stage23_lr),
        f"{trial.pruning_end:.3g}",
    ]


def _run_cell(trial: Trial, sweep: Sweep, mlflow: str | None) -> Cell:
    """The trial's run, with its address where an MLflow server is known."""
    run, server = trial.mlflow_run_id, mlflow or sweep.description.tracking_uri
    if run is None:
        return MISSING
    if server is None or not server.startswith(("http://", "https://")):
        return Link(run[:8], None)
    return Link(run[:8], f"{server.rstrip('/')}/#/runs/{run}")


def _address(checkpoint: str, sweep: Sweep, out: Path) -> str:
    """A URI as it is, a path of this machine as seen from the report's folder."""
    if "://" in checkpoint:
        return checkpoint
    if "://" in sweep.folder.shown:
        return f"{sweep.folder.shown}/{checkpoint}"
    return quote(os.path.relpath(Path(sweep.folder.path) / checkpoint, out.resolve()))
