"""A small sweep's Parquet files written by hand, for the tests of the analysis."""

import json
from pathlib import Path
from typing import Any

from spd_ray.records import STEP_SCHEMA, StepRecord, TrialRecord, step_part, write_parquet, write_trials


def trial(configuration: int, seed: int = 0, method: dict[str, Any] | None = None, **changes: Any) -> TrialRecord:
    """A finished, feasible trial of 8 steps (stages end at 4 and 6); `method` are searched parameters."""
    p0 = changes.get("p0", 0.6)
    values: dict[str, Any] = {
        "trial_id": f"{configuration}-s{seed}", "configuration": configuration, "seed": seed, "status": "finished",
        "method": "spd", "grafting": "three_stage", "pruning": "magnitude", "lr_schedule": "two_decays",
        "selection": "dev", "task": "mini_entailment", "model": "miniature", "metric": "accuracy", "p0": p0,
        "total_epochs": 4.0, "stage1_epochs": 2.0, "stage2_epochs": 1.0, "stage1_lr": 3e-3, "stage23_lr": 2e-3,
        "target_sparsity": 0.9, "pruning_end": 1.0, "batch_size": 16, "precision": "fp32", "zero_stage": 0,
        "t1": 4, "t2": 6, "t3": 8, "pruning_end_step": 4, "feasible": True, "best_score": 0.8, "best_step": 6,
        "train_score": 0.95, "achieved_sparsity": 0.9, "teacher_score": 0.9, "majority_score": 0.5,
        "config": json.dumps({"seed": seed, "method": {"p0": p0, **(method or {})}}),
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
    write_parquet(records, STEP_SCHEMA, step_part(folder, trial_id, first, last))


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
