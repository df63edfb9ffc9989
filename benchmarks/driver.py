"""What the driver costs a trial as a sweep grows, without training: `python -m benchmarks.driver`.

10,000 trials of the demo's space over up to 1,000 simulated slots (a tenth of the trials so far) go through the real
study, ledger, early stopping, display and MLflow store on sqlite. Ray Tune is left out: `python -m benchmarks.tune`
measures it by itself. A trial has 12 evaluations; its scores are a fixed function of its point plus noise seeded
by its number, rising over its budget. Simulated time is as fast as the driver allows: what is limited to a share of the
time (writing trials.parquet, sending scores) is measured at full load.

The last hundred trials before each size are measured. In between, draws are random and MLflow's rows are copied from a
measured trial in SQL, for TPE and MLflow would take most of the time and be none the wiser; steps are written by the
measured trials alone. Milliseconds are wall time, in brackets the driver's processor time. The calculation for 100,000
trials carries on the growth of the processor time and leaves the waiting for the disk as it is.
"""

import argparse
import functools
import heapq
import itertools
import random
import resource
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from rich.console import Console
from rich.table import Table

from spd_ray.config.load import load_spec
from spd_ray.config.trial import TrialConfig
from spd_ray.driver import tune
from spd_ray.driver.display import SweepDisplay
from spd_ray.driver.early_stopping import StageAwareAsha
from spd_ray.driver.tune import LedgerSearcher, SweepWatcher
from spd_ray.records import layout
from spd_ray.records.parquet import write_parquet
from spd_ray.records.schema import STEP_SCHEMA, StepRecord
from spd_ray.records.steps import compact_steps
from spd_ray.records.storage import SweepStorage
from spd_ray.records.trials import TrialStore
from spd_ray.study.ledger import Ledger
from spd_ray.study.study import Draws, create_study
from spd_ray.tracking.sweep_page import SweepPage
from spd_ray.tracking.tracker import Tracker
from spd_ray.trials.request import requested_trial
from spd_ray.trials.standing import Standing, TrialFacts

SPACE = Path(__file__).parents[1] / "search_spaces" / "demo.yaml"
EVALUATIONS, STEPS = 12, 1_476  # of a trial
MEASURED = 100  # trials before each size
CALCULATED_FROM = 10_000
MLFLOW_TABLES = ("runs", "tags", "params", "metrics", "latest_metrics")
SHARED = (
    "trials.parquet"  # takes the longer the larger it is, and comes the more rarely: a twentieth of the time at most
)
DRIVER: dict[str, list[tuple[Any, str]]] = {
    "draw (TPE)": [(Draws, "ask")],
    "study.journal": [(optuna.Study, "add_trial"), (optuna.Study, "tell")],
    "ledger": [(Ledger, "next_due"), (Ledger, "update"), (Ledger, "end"), (Ledger, "config")],
    "trials.journal": [(TrialStore, "put")],
    SHARED: [(TrialStore, "fold")],
    "early stopping": [(StageAwareAsha, "on_trial_result")],
    "MLflow: begin": [(Tracker, "begin_trial")],
    "MLflow: scores": [(Tracker, "note_points"), (Tracker, "send_noted")],
    "MLflow: end": [(Tracker, "end_trial")],
    "MLflow: the sweep's page": [(SweepPage, "trial_ended")],
    "display": [(SweepDisplay, "update"), (SweepDisplay, "end")],
    "compact steps": [(tune, "compact_steps")],
    "drop students": [(tune, "drop_students")],
}


class Stopwatch:
    """Seconds, wall and processor, by size and part; a part's time is without that of the parts that it calls."""

    def __init__(self) -> None:
        self.size: int | None = None  # that the trial at hand is measured for
        self.spent: dict[tuple[int | None, str], np.ndarray] = defaultdict(lambda: np.zeros(2))
        self._inner = [np.zeros(2)]

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            self._inner.append(np.zeros(2))
            before = np.array([time.perf_counter(), time.process_time()])
            try:
                return call(*arguments, **named)
            finally:
                took = np.array([time.perf_counter(), time.process_time()]) - before
                self.spent[self.size, part] += took - self._inner.pop()
                self._inner[-1] += took

        return wrapper

    def watch(self, parts: dict[str, list[tuple[Any, str]]]) -> None:
        for part, places in parts.items():
            for owner, name in places:
                setattr(owner, name, self.timed(part, getattr(owner, name)))


class Sampled(Tracker):
    """The tracker for the measured trials, which have a number in `measured`; the others are copied later."""

    measured: frozenset[int]

    def begin_trial(self, trial_id: str, params: Any, tags: Any) -> str:
        return super().begin_trial(trial_id, params, tags) if int(trial_id[:-3]) in self.measured else ""

    def note_points(self, run_id: str, points: Any) -> None:
        if run_id:
            super().note_points(run_id, points)

    def end_trial(self, run_id: str, status: Any, tags: Any, results: Any = ()) -> None:
        if run_id:
            super().end_trial(run_id, status, tags, results)


def copy_run(database: Path, run_id: str, copies: int) -> None:
    """Put `copies` of a run into MLflow's store."""
    with sqlite3.connect(database) as store:
        store.execute("CREATE TEMP TABLE copy AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                      f"WHERE i < {copies}) SELECT lower(hex(randomblob(16))) AS id FROM n")  # fmt: skip
        for table in MLFLOW_TABLES:
            names = [f'"{row[1]}"' for row in store.execute(f"PRAGMA table_info({table})")]
            chosen = ", ".join("copy.id" if name == '"run_uuid"' else f"old.{name}" for name in names)
            store.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {chosen} FROM {table} old, copy "
                          "WHERE old.run_uuid = ?", [run_id])  # fmt: skip
    store.close()


def results(config: TrialConfig, number: int) -> Iterator[dict[str, Any]]:
    """What a worker would report: plausible scores, the best of them once pruning is done."""
    method, noise = config.method, np.random.default_rng([number, 0])
    ripe = 0.9 - 0.2 * (method.p0 - 0.6) ** 2 - 0.05 * np.log10(method.stage1_lr / 3e-3) ** 2
    facts = dict.fromkeys((one.name for one in fields(TrialFacts)), 1) | {
        "t3": STEPS,
        "teacher_score": 0.92,
        "majority_score": 0.5,
    }
    course = {"loss": 0.6, "loss_hidden": 0.1, "loss_attention": 0.2, "loss_prediction": 0.3, "p": 0.6}
    best: dict[str, Any] = asdict(Standing(course=course | {"learning_rate": 1e-3}))
    for evaluation in range(1, EVALUATIONS + 1):
        budget = evaluation / EVALUATIONS
        step, score = evaluation * STEPS // EVALUATIONS, float(ripe - 0.1 * (1 - budget) + noise.normal(0, 0.005))
        if budget > 0.6 and (best["best_score"] is None or score > best["best_score"]):
            best |= {"best_score": score, "best_step": step, "train_score": score + 0.05, "achieved_sparsity": 0.9}
        yield {
            **facts, **best, "step": step, "budget": budget, "score": score, "train_score_now": score + 0.05,
            "sparsity": min(0.9, 1.5 * budget), "pruning_done": budget > 0.6, "stage": 1 + int(3 * budget / 1.01),
            "wall_seconds": 25.0, "device_seconds": 24.0, "peak_memory_bytes": 10**9, "done": evaluation == EVALUATIONS,
        }  # fmt: skip


def step_records(last: int) -> list[StepRecord]:
    """What a trial records between the evaluation before and the one after `last` steps."""
    common: dict[str, Any] = {"epoch": last / 32, "stage": 1, "sparsity": 0.5, "seconds": 0.013}
    losses: dict[str, Any] = {
        "loss_hidden": 0.1,
        "loss_attention": 0.2,
        "loss_prediction": 0.3,
        "p": 0.6,
        "tokens": 300,
    }
    steps = [
        StepRecord(step=step, split="batch", metric="loss", value=random.random(), draw="1011", **common, **losses)
        for step in range(last - STEPS // EVALUATIONS, last)
    ]
    return steps + [
        StepRecord(step=last, split=split, metric=metric, value=random.random(), **common)
        for split, metric in itertools.product(("train", "dev"), ("accuracy", "loss"))
    ]


class Simulation:
    """A sweep without Tune and without training."""

    def __init__(self, folder: Path, sizes: list[int]) -> None:
        self.folder, self.sizes = folder, sizes
        self.spec = load_spec(SPACE, ["study.seeds=[0]", f"study.trials={sizes[-1]}", "early_stopping.rungs=[0.75]"])
        self.at_random = load_spec(SPACE, ["study.sampler=random"])
        self.ledger = Ledger(self.spec, create_study(self.spec, folder / "study.journal"), folder)
        self.tracker = Sampled.open(self.spec, folder)
        Sampled.measured = frozenset(n for size in sizes for n in range(size - MEASURED, size))
        self.display = SweepDisplay(self.ledger, Console(file=(folder / "screen").open("w")))
        task = SimpleNamespace(name="mini_entailment", metric="accuracy")
        scores = {"score": 0.92, "train_score": 0.98, "majority_score": 0.5}
        teacher: Any = SimpleNamespace(data=SimpleNamespace(selection="dev", task=task), **scores)
        page = SweepPage(self.spec, self.ledger, self.tracker, teacher, {"command": "-", "git_commit": None})
        self.watcher = SweepWatcher(self.ledger, self.tracker, page, self.display, SweepStorage(str(folder), "driver"))
        self.scheduler = StageAwareAsha((0.75,), 2.0, folder / "rungs.jsonl", self.ledger.level)
        self.searcher = LedgerSearcher(self.ledger, lambda trial_id: {"request": {"trial_id": trial_id}})
        self.events: list[tuple[float, int, Any, Iterator[dict[str, Any]]]] = []
        self.clock, self.random = Stopwatch(), random.Random(0)
        self.runs, self.last_run = 0, ""  # of MLflow
        self.write_part = self.clock.timed("worker: write parts", write_parquet)
        self.compact = self.clock.timed("worker: compact steps", compact_steps)
        self.clock.watch(DRIVER)

    def run(self) -> Iterator[int]:
        """Run all trials; yields each size when so many trials have ended."""
        now, number, ended = 0.0, 0, 0
        while ended < self.sizes[-1]:
            while len(self.events) < min(1_000, max(10, ended // 10)) and number < self.sizes[-1]:
                self._start(number, now)
                number += 1
            now, started, trial, reports = heapq.heappop(self.events)
            if self._report(started, trial, reports):
                heapq.heappush(self.events, (now + self.random.uniform(1, 3), started, trial, reports))
                continue
            ended += 1
            if ended in self.sizes:
                yield ended

    def _start(self, number: int, now: float) -> None:
        if number + MEASURED in self.sizes and self.last_run:
            copy_run(self.folder.parent / "mlflow.db", self.last_run, number - self.runs)
            self.runs = number
        self.clock.size = self._measured_for(number)
        self.runs += self.clock.size is not None
        self.ledger._draws.spec = self.spec if self.clock.size else self.at_random
        known: dict[str, Any] = {"last_result": {}, "error_file": None, "run_metadata": SimpleNamespace(num_failures=0)}
        trial = SimpleNamespace(config=self.searcher.suggest("-"), **known)
        trial_id = requested_trial(trial)
        self.watcher.on_trial_start(0, [], trial)
        reports = results(self.ledger.config(trial_id), number)
        heapq.heappush(self.events, (now + self.random.uniform(1, 3), number, trial, reports))

    def _report(self, number: int, trial: Any, reports: Iterator[dict[str, Any]]) -> bool:
        """One evaluation of a trial; whether it goes on."""
        result, trial_id = next(reports), requested_trial(trial)
        self.clock.size = self._measured_for(number)
        if self.clock.size:
            last = result["step"]
            part = layout.step_part(self.folder, trial_id, last - STEPS // EVALUATIONS, last)
            self.write_part(step_records(last), STEP_SCHEMA, part)
            if result["done"]:
                self.compact(self.folder, trial_id)
        (self.folder / "checkpoints" / trial_id).mkdir(parents=True, exist_ok=True)
        trial.last_result = result
        stop = self.scheduler.on_trial_result(None, trial, result) == "STOP"
        self.watcher.on_trial_result(0, [], trial, result)
        if stop or result["done"]:
            self.watcher.on_trial_complete(0, [], trial)
            self.last_run = self.watcher.run_ids.pop(trial_id) or self.last_run
        self.watcher.on_step_end(0, [])
        return not (stop or result["done"])

    def _measured_for(self, number: int) -> int | None:
        return next((size for size in self.sizes if size - MEASURED <= number < size), None)


def main() -> None:
    """Simulate and print one table; from 10,000 trials on with the calculation for 100,000."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    options = parser.parse_args()
    sizes = sorted({size for size in (100, 1_000, options.trials) if MEASURED <= size <= options.trials})
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "runs" / "demo"
        folder.mkdir(parents=True)
        simulation, seen = Simulation(folder, sizes), {}
        for size in simulation.run():
            seen[size] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, _megabytes(folder)
        simulation.ledger.fold()
        seen[sizes[-1]] = seen[sizes[-1]][0], _megabytes(folder)
        opened = time.perf_counter()
        Ledger(simulation.spec, create_study(simulation.spec, folder / "study.journal"), folder)
        print_table(simulation.clock, sizes, seen)
        parts = list((folder / "steps").rglob("*.parquet"))
        print(f"steps: {len(parts)} files for {len(sizes) * MEASURED} trials of {EVALUATIONS} parts, "
              f"{sum(part.stat().st_size for part in parts) / len(parts) / 2**10:.0f} KiB each")  # fmt: skip
        print(f"a driver that resumes has read study and trials after {time.perf_counter() - opened:.1f} s")
    print(f"all of this took {time.perf_counter() - started:.0f} s")


def _megabytes(folder: Path) -> dict[str, float]:
    files = [folder / name for name in ("study.journal", "trials.parquet", "rungs.jsonl")]
    return {file.name: file.stat().st_size / 2**20 for file in [*files, folder.parent / "mlflow.db"]}


def print_table(clock: Stopwatch, sizes: list[int], seen: dict[int, tuple[float, dict[str, float]]]) -> None:
    """Milliseconds a trial by part and size; the last column carries the growth of the last two sizes on.

    Only from 10,000: between smaller sizes a millisecond of noise would be a hundred at 100,000.
    """
    calculated = ["100,000 by calculation"] if sizes[-1] >= CALCULATED_FROM else []
    table = Table("ms a trial: wall (processor)", *(f"{size:,}" for size in sizes), *calculated)

    def far(values: list[float]) -> float:
        slope = (values[-1] - values[-2]) / (sizes[-1] - sizes[-2])
        return values[-1] + max(0.0, slope) * (100_000 - sizes[-1])

    total = np.zeros((len(sizes) + len(calculated), 2))
    for part in [*DRIVER, "worker: write parts", "worker: compact steps"]:
        spent = np.array([clock.spent[size, part] for size in sizes]) / MEASURED * 1000
        if calculated:
            grows = part in DRIVER and part != SHARED
            spent = np.vstack([spent, spent[-1] + (far(list(spent[:, 1])) - spent[-1, 1] if grows else 0.0)])
        if part in DRIVER:
            total += spent
        if part == list(DRIVER)[-1]:
            table.add_row(part, *map(_cell, spent), end_section=True)
            table.add_row("the driver", *map(_cell, total), end_section=True)
        else:
            table.add_row(part, *map(_cell, spent))
    table.add_section()
    table.add_row("trials an hour at most", *(f"{3.6e6 / wall:,.0f}" for wall, _ in total))
    table.add_row("1,000 slots: trials of at least, s", *(f"{wall:.0f}" for wall, _ in total))
    rows = {"largest resident memory, MiB": [seen[size][0] for size in sizes]}
    rows |= {f"{name}, MB": [seen[size][1][name] for size in sizes] for name in seen[sizes[0]][1]}
    for name, values in rows.items():
        table.add_row(name, *(f"{value:,.1f}" for value in [*values, *([far(values)] if calculated else [])]))
    Console(width=120).print(table)


def _cell(spent: np.ndarray) -> str:
    return f"{spent[0]:.1f} ({spent[1]:.1f})"


if __name__ == "__main__":
    main()
