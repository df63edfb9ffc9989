"""Time and memory of the whole report on generated sweeps: `python -m benchmarks.analysis`.

By default 10,000 trials and 10 million step rows, as the paper's sweeps would leave them: fig02 to fig12 as grids under
many seeds, and one wide random sweep. The report runs in a process of its own, whose wall time, processor time and
largest resident memory are printed.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spd_ray.records import layout
from spd_ray.records.schema import STEP_SCHEMA, TRIAL_SCHEMA

EVALUATIONS = 20  # a trial, each of train and dev, each with score and loss


def trials_of(share: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Sweep name and what its configurations are; `share` configurations in each."""
    generator = np.random.default_rng(0)
    methods = ("finetune_prune", "progressive_only", "kd_only", "spd")
    yield "fig02", [{"method": "kd_only", "target_sparsity": s} for s in (0.0, 0.5, 0.8, 0.9, 0.95)]
    yield "fig06", [{"method": method} for method in methods]
    yield "fig08", [{"p0": round(0.1 * step, 1)} for step in range(1, 11)]
    yield "fig09", [{"lr_schedule": schedule} for schedule in ("two_decays", "one_decay")]
    yield "fig10", [{"pruning_end": end} for end in (0.5, 0.75, 1.0, 1.25, 1.5)]
    yield "fig11", [{"stage23_lr": rate} for rate in (3e-5, 1e-4, 3.2e-4, 5e-4)]
    yield "wide", [
        {"p0": float(p), "stage23_lr": float(rate), "stage1_epochs": float(epochs)}
        for p, rate, epochs in zip(generator.uniform(0.1, 1, share), 10 ** generator.uniform(-5, -3, share),
                                   generator.integers(10, 30, share), strict=True)
    ]  # fmt: skip


def write_sweep(root: Path, name: str, cells: list[dict[str, Any]], trials: int, steps: int) -> None:
    """About `trials` trials of `steps` step rows each."""
    generator = np.random.default_rng(1)
    seeds = max(1, trials // len(cells))
    rows = [_trial(number, seed, cell, steps) for number, cell in enumerate(cells) for seed in range(seeds)]
    table = pa.Table.from_pylist(rows, schema=TRIAL_SCHEMA)
    (root / name).mkdir(parents=True)
    pq.write_table(table, root / name / "trials.parquet")
    for row in rows:
        part = layout.step_part(root / name, row["trial_id"], 0, steps)
        part.parent.mkdir(parents=True)
        pq.write_table(_steps(steps, generator), part)


def _trial(number: int, seed: int, cell: dict[str, Any], steps: int) -> dict[str, Any]:
    score = 0.7 + 0.05 * np.sin(number) + 0.001 * seed
    row: dict[str, Any] = {
        "trial_id": f"{number:05d}-s{seed}", "configuration": number, "seed": seed, "status": "finished",
        "method": "spd", "grafting": "three_stage", "pruning": "magnitude", "task": "rte", "model": "bert",
        "metric": "accuracy", "selection": "dev", "layers": 12, "prunable_parameters": 84_934_656,
        "encoder_parameters": 85_054_464, "parameters": 109_482_240, "p0": 0.6, "total_epochs": 60.0,
        "stage1_epochs": 30.0, "stage2_epochs": 10.0, "stage1_lr": 3e-5, "stage23_lr": 3e-5,
        "lr_schedule": "two_decays", "target_sparsity": 0.9, "pruning_end": 1.0, "batch_size": 32,
        "precision": "fp32", "zero_stage": 0, "t1": steps // 2, "t2": 2 * steps // 3, "t3": steps, "feasible": True,
        "best_score": score, "best_step": steps, "train_score": 0.95, "achieved_sparsity": 0.9, "teacher_score": 0.72,
        "majority_score": 0.53, "device_seconds": 3_600.0, **cell,
    }  # fmt: skip
    method = {key: value for key, value in row.items() if key in ("p0", "stage1_epochs", "stage23_lr", "pruning_end")}
    return {**row, "config": json.dumps({"seed": seed, "method": method, "engine": {"precision": "fp32"}})}


def _steps(steps: int, generator: np.random.Generator) -> pa.Table:
    """Training steps and 4 rows for each evaluation, together `steps` rows, in the order in which they are recorded."""
    at = np.linspace(steps / EVALUATIONS, steps, EVALUATIONS).astype(int)
    count = steps - 4 * EVALUATIONS
    step = np.concatenate([np.arange(count), np.repeat(at, 4)])
    columns: dict[str, Any] = {
        "step": step,
        "epoch": step / 78,
        "stage": np.ones(steps, int),
        "split": ["batch"] * count + ["train", "train", "dev", "dev"] * EVALUATIONS,
        "metric": ["loss"] * count + ["accuracy", "loss"] * (2 * EVALUATIONS),
        "value": generator.uniform(0.5, 1.0, steps),
        "sparsity": np.minimum(step / (steps / 2), 1) * 0.9,
        "seconds": generator.uniform(0.1, 0.2, steps),
    }
    for name in ("loss_hidden", "loss_attention", "loss_prediction", "p", "learning_rate"):
        columns[name] = np.where(np.arange(steps) < count, generator.uniform(0, 1, steps), np.nan)
    empty = [name for name in STEP_SCHEMA.names if name not in columns]
    return pa.table({**columns, **dict.fromkeys(empty, [None] * steps)}).select(STEP_SCHEMA.names).cast(STEP_SCHEMA)


def main() -> None:
    """Generate, report, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000_000, help="step rows in all")
    parser.add_argument("--folder", type=Path, help="where the sweeps lie; generated there unless they are (default: "
                        "a temporary folder)")  # fmt: skip
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary)
        if not (root / "wide").exists():
            sweeps = list(trials_of(options.trials // 4))
            start = time.perf_counter()
            for name, cells in sweeps:
                share = options.trials // 4 if name == "wide" else options.trials * 3 // 4 // (len(sweeps) - 1)
                write_sweep(root, name, cells, share, options.rows // options.trials)
            print(f"generated in {time.perf_counter() - start:.0f} s")
        start = time.perf_counter()
        command = [sys.executable, "-m", "analysis", "--runs", str(root), "--out", str(Path(temporary) / "report")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"report: {wall:.1f} s wall, {used.ru_utime + used.ru_stime:.1f} s processor, {used.ru_maxrss / 2**20:.2f} GiB"
    )


if __name__ == "__main__":
    main()
