"""Sweeps and their trials as tables."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from analysis.page.table import Cell, Heading, Link, Table
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial, setting_of, status_counts
from analysis.wording.formatting import MISSING, format_number, format_rate, format_score, format_signed, join

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


_TRIAL_HEADINGS = (
    Heading("trial"),
    Heading("status"),
    Heading("feasible", "a student at its target sparsity was scored"),
    Heading("method"),
    Heading("p₀", "replacing probability in Stage I"),
    Heading("epochs I", "length of Stage I in epochs"),
    Heading("II", "length of Stage II in epochs"),
    Heading("III", "length of Stage III in epochs"),
    Heading("λ₀", "initial learning rate of Stage I"),
    Heading("λ₁", "initial learning rate of Stages II and III"),
    Heading("pruning end", "multiple of the end of Stage I"),
    Heading("target", "target sparsity"),
    Heading("sparsity", "achieved by the best student"),
    Heading("best", "best score at the target sparsity, on the split on which students are chosen"),
    Heading("train", "train score at the same step"),
    Heading("gap", "train minus best"),
    Heading("dev", "of the retained student, read back from disk"),
    Heading("run", "in MLflow"),
    Heading("checkpoint", "the retained student"),
)


def trials_table(sweep: Sweep, out: Path, mlflow: str | None) -> Table:
    """The trials, the best score first, those without one last; at most 200 rows.

    Links lead to the MLflow server at `mlflow`, else the sweep's own, and from the folder `out` to the checkpoints.
    """
    shown = rank(sweep.trials)[:MOST_TRIALS]
    rows = [_trial_row(trial, sweep, out, mlflow) for trial in shown]
    return Table(_TRIAL_HEADINGS, rows, ["" if trial.comparable else "out" for trial in shown])


def rank(trials: Sequence[Trial]) -> list[Trial]:
    """The eligible trials, the best score first, then the others, scored ones first."""

    def key(trial: Trial) -> tuple[bool, float]:
        return (not trial.eligible, float("inf") if trial.best_score is None else -trial.best_score)

    return sorted(trials, key=key)


def _trial_row(trial: Trial, sweep: Sweep, out: Path, mlflow: str | None) -> list[Cell]:
    stage3 = trial.total_epochs - trial.stage1_epochs - trial.stage2_epochs
    return [
        trial.trial_id,
        trial.status,
        {True: "yes", False: "no", None: MISSING}[trial.feasible],
        trial.method,
        f"{trial.p0:.3g}",
        *(f"{epochs:.3g}" for epochs in (trial.stage1_epochs, trial.stage2_epochs, stage3)),
        format_rate(trial.stage1_lr),
        format_rate(trial.stage23_lr),
        f"{trial.pruning_end:.3g}",
        f"{trial.target_sparsity:g}",
        format_number(trial.achieved_sparsity, ".4f"),
        format_score(trial.best_score),
        format_score(trial.train_score),
        format_signed(trial.gap),
        format_score(trial.dev_score),
        _run_cell(trial, mlflow or sweep.description.tracking_uri),
        _checkpoint_cell(trial, sweep, out),
    ]


def _run_cell(trial: Trial, server: str | None) -> Cell:
    run = trial.mlflow_run_id
    if run is None:
        return MISSING
    if server is None or not server.startswith(("http://", "https://")):
        return Link(run[:8], None)
    return Link(run[:8], f"{server.rstrip('/')}/#/runs/{run}")


def _checkpoint_cell(trial: Trial, sweep: Sweep, out: Path) -> Cell:
    """The address of the checkpoint: a URI as it is, a path of this machine as seen from the report's folder."""
    place = trial.checkpoint
    if place is None:
        return MISSING
    if "://" in place:
        return Link("open", place)
    if "://" in sweep.folder.shown:
        return Link("open", f"{sweep.folder.shown}/{place}")
    return Link("open", quote(os.path.relpath(Path(sweep.folder.path) / place, out.resolve())))
