"""Trials an hour with one worker and with two, and what a sweep spends outside training: `python -m benchmarks.sweeps`.

Real sweeps of demo-size trials (search_spaces/demo.yaml without early stopping), each command in a process of its
own: with one worker, then with two. "Outside training" is the share of the workers' time, from the first trial's start
to the last one's end, that is not inside a trial's own loop of steps, evaluations and records; a second column counts
the whole command, with Ray's start, the teacher from the cache and the verification at the end.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from spd_ray.records import layout
from spd_ray.records.trials import read_trials

SPACE = Path(__file__).parents[1] / "search_spaces" / "demo.yaml"
WHOLE = ["early_stopping=null", "study.sampler=random", "study.seeds=[0]"]


class Measured(NamedTuple):
    """One sweep of `trials` trials on `workers` slots; seconds."""

    workers: int
    trials: int
    command: float  # the whole command
    trials_span: float  # first start to last end, by when their records were written
    inside: float  # in the trials' loops, all trials together
    steps: float  # of that, inside training steps


def run_sweep(workers: int, trials: int, folder: Path) -> Measured:
    """Run the sweep and read its records."""
    words = [sys.executable, "-m", "spd_ray.sweep", "--space", str(SPACE), "--storage", str(folder)]
    words += ["--name", f"workers-{workers}", "--trials", str(trials)]
    for override in [*WHOLE, f"resources.concurrent={workers}"]:
        words += ["--set", override]
    started = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True)
    command = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    sweep = folder / f"workers-{workers}"
    records = read_trials(sweep)
    parts = {one.trial_id: layout.steps(sweep, one.trial_id).glob("*.parquet") for one in records}
    ends = {trial: max(part.stat().st_mtime for part in written) for trial, written in parts.items()}
    start = min(ends[one.trial_id] - (one.wall_seconds or 0.0) for one in records)
    return Measured(
        workers,
        len(records),
        command,
        max(ends.values()) - start,
        sum(one.wall_seconds or 0.0 for one in records),
        sum(one.device_seconds or 0.0 for one in records),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=6)
    options = parser.parse_args()
    table = Table(
        "workers", "trials an hour", "the whole command", "outside training", "of the whole command",
        "steps alone", title=f"sweeps of {options.trials} demo-size trials, {os.cpu_count()} cores",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        measured = [run_sweep(workers, options.trials, Path(folder)) for workers in (1, 2)]
    for one in measured:
        table.add_row(
            str(one.workers),
            f"{3600 * one.trials / one.trials_span:.0f}",
            f"{one.command:.0f} s",
            f"{1 - one.inside / (one.workers * one.trials_span):.1%}",
            f"{1 - one.inside / (one.workers * one.command):.1%}",
            f"{one.steps / one.inside:.1%} of a trial",
        )
    ratio = measured[0].trials_span / measured[1].trials_span
    table.caption = f"two workers do {ratio:.2f} times the trials an hour of one"
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
