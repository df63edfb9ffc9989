"""Sweeps of the tiny model, as a user runs them, and what two sweeps are compared by."""

import glob
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import psutil
import pyarrow.parquet as pq
import yaml
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from spd_ray.records.trials import read_trials
from tests.waiting import wait_for

SPACE = {
    "task": {"name": "sst2"},
    "model": {},
    "teacher": {"epochs": 6, "batch_size": 8, "learning_rates": [2e-3], "gate": False},
    "method": {
        "total_epochs": 6, "stage1_epochs": 3, "stage2_epochs": 1, "stage1_lr": 2e-3, "stage23_lr": 2e-3,
        "target_sparsity": 0.5, "batch_size": 8, "dropout": 0.1, "pruning_events": 3,
    },
    "search": {"p0": {"choices": [0.4, 0.8]}},
    "study": {"sampler": "grid", "trials": 2, "seeds": [0, 1]},
    "resources": {"cpus_per_worker": 1, "concurrent": 1},  # a second worker takes longer to start than to do its half
    "checkpoints": {"keep": 2, "state_seconds": 0},
    "tracking": {"report": False},  # which takes seconds
}  # fmt: skip
WHAT_A_SCORE_IS = (
    "trial_id",
    "seed",
    "p0",
    "status",
    "best_score",
    "best_step",
    "train_score",
    "final_score",
    "config",
)


class Sweeps:
    """Sweeps in one storage folder; a call runs one and returns the finished process and the sweep's folder."""

    def __init__(self, storage: Path, tiny_teacher: Any, **changes: Any) -> None:
        self.storage = storage
        self.launched: list[psutil.Popen] = []
        task, model, _ = tiny_teacher.configs
        self.task = Path(task.path)
        self.space = SPACE | {
            "task": {"name": "sst2", "path": task.path, "max_length": 32},
            "model": {"path": model.path},
            **changes,
        }

    def command(self, name: str, *arguments: str, **changes: Any) -> list[str]:
        """Write the space with `changes` and return the words that sweep it."""
        file = self.storage / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**self.space, **changes}))
        words = [sys.executable, "-m", "spd_ray.sweep", "--space", str(file), "--storage", str(self.storage)]
        return [*words, *arguments]

    def launch(self, words: list[str], **options: Any) -> psutil.Popen:
        """Start `words`, stdout and stderr to be read, for `kill_launched` to find."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.launched.append(psutil.Popen(words, **{**pipes, **options}))
        return self.launched[-1]

    def kill_launched(self) -> None:
        """Kill what was launched and still runs; what nobody has read of its output is shown beside a failure."""
        while self.launched:
            process = self.launched.pop()
            if process.poll() is None:
                process.kill()
            if process.stdout and not process.stdout.closed:
                print(*process.communicate())
            process.wait()

    def __call__(
        self, name: str, *arguments: str, cwd: Path | None = None, **changes: Any
    ) -> tuple[subprocess.CompletedProcess[str], Path]:
        words = self.command(name, *arguments, **changes)
        done = subprocess.run(words, capture_output=True, text=True, cwd=cwd)
        return done, self.storage / name


def scores(folder: Path) -> list[tuple[Any, ...]]:
    """What each trial's scores and settings are."""
    return [tuple(getattr(trial, field) for field in WHAT_A_SCORE_IS) for trial in read_trials(folder)]


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """Every training step and score of a sweep, without the wall times."""
    table = pq.read_table(folder / "steps").drop_columns(["seconds"]).to_pylist()
    return sorted(table, key=lambda row: (str(row["trial"]), row["step"], row["split"], row["metric"]))


def study_states(folder: Path) -> list[tuple[int, str, float | None, dict[int, float]]]:
    """Number, state, value and course of each trial in the study."""
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    (name,) = optuna.get_all_study_names(storage)
    return [
        (trial.number, trial.state.name, trial.value, trial.intermediate_values)
        for trial in optuna.load_study(study_name=name, storage=storage).trials
    ]


def mlflow_runs(folder: Path, uri: str | None = None) -> tuple[list[str], list[Any]]:
    """The sweep's parent runs and their children, in its own store or in the one at `uri`."""
    client = MlflowClient(uri or f"sqlite:///{folder.parent}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    parents = [run.info.run_id for run in runs if run.data.tags["mlflow.runName"] == folder.name]
    return parents, [run for run in runs if run.data.tags.get("mlflow.parentRunId") in parents]


def trial_processes(driver: psutil.Process, name: str = "Trainable") -> list[psutil.Process]:
    """The trials' processes among those that `driver` has started, also those that are just beginning.

    By the class of their actor: rank 0 is a Trainable, the others are called Rank.
    """
    found = []
    with suppress(psutil.NoSuchProcess):  # the driver has ended
        for process in driver.children(recursive=True):
            with suppress(psutil.Error, IndexError):
                if name in process.cmdline()[0]:
                    found.append(process)
    return found


def curves(folder: Path, uri: str | None = None) -> dict[str, list[Any]]:
    """The status and the points (step, value) of every run of a sweep's trials, by trial; asserts one parent run.

    Times are left out.
    """
    client = MlflowClient(uri or f"sqlite:///{folder.parent}/mlflow.db")
    parents, children = mlflow_runs(folder, uri)
    assert len(parents) == 1
    found: dict[str, list[Any]] = {}
    for run in children:
        keys = [key for key in sorted(run.data.metrics) if not key.endswith(("_seconds", "latency_ms"))]
        histories = {key: client.get_metric_history(run.info.run_id, key) for key in keys}
        curve = {key: [(point.step, point.value) for point in history] for key, history in histories.items()}
        found.setdefault(run.data.tags["spd_ray.trial_id"], []).append((run.info.status, curve))
    return found


def states(folder: Path) -> set[str]:
    """The states that trials of a sweep can go on from just now."""
    return set(glob.glob(f"{folder}/state/*/step-*"))


def wait_for_saves(folder: Path, number: int, driver: psutil.Popen) -> bool:
    """Wait until trials have saved `number` more states; whether they did before `driver` ended."""
    return wait_for_more(lambda: states(folder), number, driver)


def wait_for_more(found: Callable[[], set[str]], number: int, driver: psutil.Popen) -> bool:
    """Wait until `number` more have been found, also of those that go again; whether before `driver` ended."""
    known, new = found(), set()

    def enough() -> bool:
        new.update(found() - known)
        return len(new) >= number

    return wait_for(enough, driver)
