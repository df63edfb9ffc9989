"""Small sweeps' Parquet files written by hand, and what the tests of the analysis share."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from matplotlib.axes import Axes

from analysis.reading.sweeps import Sweep, read_sweeps
from spd_ray.records import layout
from spd_ray.records.parquet import write_parquet
from spd_ray.records.schema import STEP_SCHEMA, StepRecord, TrialRecord
from spd_ray.records.trials import write_trials


def trial(configuration: int, seed: int = 0, params: dict[str, Any] | None = None, **changes: Any) -> TrialRecord:
    """A finished, feasible trial of 8 steps (stages end at 4 and 6); `params` go into its configuration."""
    p0 = changes.get("p0", 0.6)
    values: dict[str, Any] = {
        "trial_id": f"{configuration}-s{seed}", "configuration": configuration, "seed": seed, "status": "finished",
        "method": "spd", "grafting": "three_stage", "pruning": "magnitude", "lr_schedule": "two_decays",
        "selection": "dev", "task": "mini_entailment", "model": "miniature", "metric": "accuracy", "p0": p0,
        "total_epochs": 4.0, "stage1_epochs": 2.0, "stage2_epochs": 1.0, "stage1_lr": 3e-3, "stage23_lr": 2e-3,
        "target_sparsity": 0.9, "pruning_end": 1.0, "batch_size": 16, "precision": "fp32", "zero_stage": 0,
        "t1": 4, "t2": 6, "t3": 8, "pruning_end_step": 4, "feasible": True, "best_score": 0.8, "best_step": 6,
        "train_score": 0.95, "achieved_sparsity": 0.9, "teacher_score": 0.9, "majority_score": 0.5,
        "config": json.dumps({"seed": seed, "method": {"p0": p0, **(params or {})}}),
    }  # fmt: skip
    return TrialRecord(**{**values, **changes})


P = [0.5, 0.5, 0.5, 0.5, 0.5, 0.75, 1.0, 1.0]
SPARSITY = [0.0, 0.0, 0.5, 0.5, 0.9, 0.9, 0.9, 0.9]
RATE = [4e-3, 3e-3, 2e-3, 1e-3, 2e-3, 1.5e-3, 1e-3, 5e-4]
STAGE = [1, 1, 1, 1, 2, 2, 3, 3]


def batch(step: int, **changes: Any) -> StepRecord:
    """Training step `step` of the schedules above."""
    values: dict[str, Any] = {
        "step": step, "epoch": step / 2, "stage": STAGE[step], "split": "batch", "metric": "loss", "value": 1.0,
        "sparsity": SPARSITY[step], "seconds": 0.1, "p": P[step], "learning_rate": RATE[step],
    }  # fmt: skip
    return StepRecord(**{**values, **changes})


def evaluation(step: int, split: str, value: float, metric: str = "accuracy") -> StepRecord:
    """A score after `step` applied steps."""
    return StepRecord(
        step=step, epoch=step / 2, stage=STAGE[min(step, 7)], split=split, metric=metric, value=value, sparsity=0.9,
        seconds=0.1,
    )  # fmt: skip


def write_steps(folder: Path, trial_id: str, first: int, last: int, records: list[StepRecord]) -> None:
    write_parquet(records, STEP_SCHEMA, layout.step_part(folder, trial_id, first, last))


def write_sweep(folder: Path) -> Path:
    """Two values of p0 under two seeds; 1-s1 is the best and has its steps in two parts."""
    scores = {(0, 0): 0.70, (0, 1): 0.74, (1, 0): 0.80, (1, 1): 0.86}
    write_trials(
        folder,
        [trial(c, s, p0=(0.1, 0.5)[c], best_score=score, train_score=0.95) for (c, s), score in scores.items()],
    )
    scored = [evaluation(4, "dev", 0.7), evaluation(4, "train", 0.9), evaluation(4, "dev", 1.5, metric="loss")]
    write_steps(folder, "1-s1", 0, 4, [*map(batch, range(4)), *scored])
    write_steps(
        folder, "1-s1", 4, 8, [*map(batch, range(4, 8)), evaluation(6, "dev", 0.86), evaluation(8, "dev", 0.85)]
    )
    return folder


SPREAD = 0.02  # standard deviation of what a seed adds to all of its trials


class Cell(NamedTuple):
    """One configuration of a hand-made sweep: what it is, and its mean scores."""

    changes: dict[str, Any]
    dev: float
    train: float = 0.95
    train_rise: float = 0.05  # of the train score over the second half of training
    dev_rise: float = 0.0


def write_cells(root: Path, name: str, cells: list[Cell], seeds: int = 5, noise: float = 0.002, **common: Any) -> Path:
    """A sweep of `cells`, each under `seeds` seeds; a seed moves all of its scores alike, `noise` each on its own."""
    folder, generator = root / name, np.random.default_rng(7)
    offsets, records = generator.normal(0, SPREAD, seeds), []
    for number, cell in enumerate(cells):
        for seed in range(seeds):
            dev, train = cell.dev + offsets[seed] + generator.normal(0, noise), cell.train + offsets[seed]
            record = trial(number, seed, best_score=float(dev), final_score=float(dev), train_score=float(train), **{
                "encoder_parameters": 1_010, "prunable_parameters": 1_000, "parameters": 2_000, "layers": 4,
                "device_seconds": 30.0, **common, **cell.changes,
            })  # fmt: skip
            record = replace(record, achieved_sparsity=record.target_sparsity)
            records.append(record)
            rises = cell.train_rise + generator.normal(0, noise), cell.dev_rise
            steps = [
                evaluation(step, split, float(value + rise * (share - 1)), metric=record.metric)
                for step, share in ((2, -0.5), (4, 0.0), (6, 0.5), (8, 1.0))
                for split, value, rise in (("train", train, rises[0]), (record.selection, dev, rises[1]))
            ]
            losses = [
                evaluation(step, split, 2.0 / step, metric="loss") for step in (4, 8) for split in ("train", "dev")
            ]
            write_steps(folder, record.trial_id, 0, 8, [*_schedules(record), *steps, *losses])
    write_trials(folder, records)
    (folder / "sweep.yaml").write_text("spec:\n  study:\n    sampler: grid\n    trials: 8\n")
    return folder


def _schedules(record: TrialRecord) -> list[StepRecord]:
    """The trial's 8 training steps on its own schedules: t1 = 4, t2 = 6."""
    p = [record.p0] * 5 + [(1 + record.p0) / 2, 1.0, 1.0]
    sparsity = [share * record.target_sparsity for share in (0, 0, 0.5, 0.5, 1, 1, 1, 1)]
    return [batch(step, p=p[step], sparsity=sparsity[step]) for step in range(8)]


METHODS = ("finetune_prune", "progressive_only", "kd_only", "spd")


def varied(**values: float) -> dict[str, Any]:
    """A trial whose varied numbers are `values`: its columns and its configuration."""
    return {**values, "config": json.dumps({"seed": 0, "method": values})}


def prunes(method: str, sparsity: float) -> dict[str, Any]:
    """What makes a trial one of Figure 2: `method` is kd_only, or finetune_prune for the variant without KD."""
    return {"method": method, "grafting": "none", "target_sparsity": sparsity}


def write_paper(root: Path, **how: Any) -> Path:
    """Every sweep of the paper, all claims true in it."""

    for name, method in (("fig02", "kd_only"), ("fig02_without_kd", "finetune_prune")):
        sparsities = [Cell(prunes(method, s), 0.85 - 0.1 * s, 0.95 + 0.03 * s) for s in (0.0, 0.5, 0.9)]
        write_cells(root, name, sparsities, **how)
    gaps = zip(METHODS, (0.20, 0.15, 0.08, 0.05), strict=True)
    write_cells(root, "fig06", [Cell({"method": m}, 0.9 - gap, 0.9) for m, gap in gaps], **how)
    write_cells(root, "fig07", [Cell(varied(p0=0.0), 0.70), Cell(varied(p0=0.6), 0.75)], **how)
    p0s = [Cell(varied(p0=p), 0.8 - abs(p - 0.6) / 5 - (p == 1) / 20) for p in (0.2, 0.4, 0.6, 0.8, 1.0)]
    write_cells(root, "fig08", p0s, **how)
    schedules = [Cell({"lr_schedule": "two_decays"}, 0.8), Cell({"lr_schedule": "one_decay"}, 0.76)]
    write_cells(root, "fig09", schedules, **how)
    ends = [Cell(varied(pruning_end=e), 0.8 - abs(e - 1) / 10) for e in (0.5, 1.0, 1.5)]
    write_cells(root, "fig10", ends, task="mini_acceptability", metric="matthews", **how)
    write_cells(root, "fig11", [Cell(varied(stage23_lr=r), s) for r, s in RATES.items()], **how)
    rates = [Cell(varied(stage23_lr=r), s) for r, s in ((1e-4, 0.6), (4e-4, 0.7), (6.4e-4, 0.65))]
    write_cells(root, "fig12", rates, task="mini_similarity", metric="spearman", **how)
    for name, task in (("fig13", "mini_acceptability"), ("fig14", "mini_similarity"), ("fig16", "rte")):
        write_cells(root, name, [Cell({"target_sparsity": 0.95}, 0.6, dev_rise=0.1)], task=task, **how)
    tasks = ("mini_entailment", "rte")
    for task in tasks:
        table = [
            Cell({"method": m, "remaining_parameters": 1_500}, 0.96 - 0.1 * (m != "spd")) for m in ("spd", "theseus")
        ]
        write_cells(root, f"table1_{task}", table, target_sparsity=0.5, task=task, **how)
    sparse = [Cell({"target_sparsity": s}, 0.9 - s / 3) for s in (0.9, 0.95)]
    sparse += [Cell({"method": m, "target_sparsity": s}, 0.5) for m, s in
               (("tinybert4", 0.0), ("rpp", 0.884), ("sparsebert", 0.95))]  # fmt: skip
    write_cells(root, "table2", sparse, **how)
    depths = [Cell({"method": m, "layers": n}, 0.7 + n / 100 * (m == "spd")) for n in (4, 8, 12) for m in METHODS[2:]]
    write_cells(root, "depth", depths, **how)
    lengths = [Cell(varied(stage1_epochs=a, stage2_epochs=b), 0.6 + a / 90 + b / 50) for a in (10.0, 20.0, 30.0)
               for b in (5.0, 10.0)]  # fmt: skip
    write_cells(root, "stages", lengths, **how)
    return root


RATES = {3e-5: 0.70, 1e-4: 0.74, 3.2e-4: 0.80, 6.4e-4: 0.76}  # learning rate -> mean dev score


def read(root: Path) -> list[Sweep]:
    """All sweeps at `root`, each of which must be readable."""
    return read_sweeps(root, pytest.fail)


def two(root: Path, name: str, first: dict[str, Any], second: dict[str, Any], **common: Any) -> list[Sweep]:
    """A sweep of two configurations with mean scores 0.7 and 0.8, read."""
    write_cells(root, name, [Cell(first, 0.7), Cell(second, 0.8)], noise=0.0, **common)
    return read(root)


def labels(axes: Axes) -> dict[str, Any]:
    """Label -> line."""
    return {str(line.get_label()): line for line in axes.get_lines()}


def with_label(axes: Axes, label: str) -> Any:
    """The one line of that label."""
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line
