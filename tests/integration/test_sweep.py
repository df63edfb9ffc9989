"""The sweep as a user runs it: real processes, real Ray, Optuna, DeepSpeed, MLflow and Parquet."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from spd_ray.records import read_trials

SPACE = {
    "task": {"name": "sst2"},
    "model": {},
    "teacher": {"epochs": 6, "batch_size": 8, "learning_rates": [2e-3], "gate": False},
    "trial": {
        "total_epochs": 6, "stage1_epochs": 3, "stage2_epochs": 1, "stage1_lr": 2e-3, "stage23_lr": 2e-3,
        "target_sparsity": 0.5, "batch_size": 8, "dropout": 0.1, "pruning_events": 3,
    },
    "search": {"p0": {"choices": [0.4, 0.8]}},
    "study": {"sampler": "grid", "trials": 2, "seeds": [0, 1]},
    "resources": {"cpus_per_worker": 1, "concurrent": 2},
    "checkpoints": {"keep": 2},
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


@pytest.fixture(scope="module")
def sweep_of(tiny_teacher, tmp_path_factory):
    """Write a space with some changes and run it; returns the finished process and the sweep's folder."""
    folder = tmp_path_factory.mktemp("sweeps")
    task, model, _ = tiny_teacher.configs

    def command(name, *arguments, **changes):
        space = {
            **SPACE,
            "task": {"name": "sst2", "path": task.path, "max_length": 32},
            "model": {"path": model.path},
            **changes,
        }
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(space))
        return [sys.executable, "-m", "spd_ray.sweep", "--space", str(file), "--storage", str(folder), *arguments]

    def run(name, *arguments, cwd=None, **changes):
        words = command(name, *arguments, **changes)
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, cwd=cwd)
        return done, folder / name

    run.command = command
    run.task_folder = Path(task.path)
    return run


def scores(folder):
    return [tuple(getattr(trial, field) for field in WHAT_A_SCORE_IS) for trial in read_trials(folder)]


def steps_of(folder):
    """Every training step and score of a sweep, without the wall times."""
    table = pq.read_table(folder / "steps").drop_columns(["seconds"]).to_pylist()
    return sorted(table, key=lambda row: (str(row["trial"]), row["step"], row["split"], row["metric"]))


def study_states(folder):
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    (name,) = optuna.get_all_study_names(storage)
    return [
        (trial.number, trial.state.name, trial.value)
        for trial in optuna.load_study(study_name=name, storage=storage).trials
    ]


def mlflow_runs(folder):
    client = MlflowClient(f"sqlite:///{folder.parent}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    parents = [run.info.run_id for run in runs if run.data.tags["mlflow.runName"] == folder.name]
    return parents, [run for run in runs if run.data.tags.get("mlflow.parentRunId") in parents]


@pytest.fixture(scope="module")
def finished(sweep_of):
    done, folder = sweep_of("finished")
    assert done.returncode == 0, done.stderr
    return done, folder


def test_a_sweep_ends_with_the_best_trial_its_scores_and_where_things_are(finished):
    done, folder = finished
    best = min(read_trials(folder), key=lambda trial: (-trial.best_score, trial.trial_id))
    assert f"best feasible trial: {best.trial_id}" in done.stdout
    for words in ("dense teacher", "sparse student", "best sparse checkpoint", "mlflow", "python -m analysis"):
        assert words in done.stdout


def test_every_trial_is_once_in_parquet_the_study_and_mlflow(finished):
    _, folder = finished
    trials = read_trials(folder)
    assert [t.trial_id for t in trials] == ["00000-s0", "00000-s1", "00001-s0", "00001-s1"]
    assert {t.status for t in trials} == {"finished"}
    rows = steps_of(folder)
    assert len({(row["trial"], row["step"], row["split"], row["metric"]) for row in rows}) == len(rows)
    assert sum(row["split"] == "batch" for row in rows) == sum(t.t3 for t in trials)
    parts = {path.relative_to(folder / "steps") for path in (folder / "steps").rglob("*.parquet")}
    assert parts == {Path(f"trial={t.trial_id}") / f"{0:08d}-{t.t3:08d}.parquet" for t in trials}
    assert not (folder / "trials.journal").exists()
    means = [(trials[0].best_score + trials[1].best_score) / 2, (trials[2].best_score + trials[3].best_score) / 2]
    assert study_states(folder) == [(0, "COMPLETE", pytest.approx(means[0])), (1, "COMPLETE", pytest.approx(means[1]))]
    parents, children = mlflow_runs(folder)
    assert len(parents) == 1
    assert sorted(run.data.tags["spd_ray.trial_id"] for run in children) == [t.trial_id for t in trials]
    assert {run.info.run_id for run in children} == {t.mlflow_run_id for t in trials}


def test_the_best_students_are_kept_as_plain_transformers_directories(finished):
    _, folder = finished
    kept = [trial for trial in read_trials(folder) if trial.checkpoint]
    assert len(kept) == 2
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == sorted(t.trial_id for t in kept)
    code = (
        "import sys; from transformers import AutoModelForSequenceClassification as M, AutoTokenizer as T; "
        "m = M.from_pretrained(sys.argv[1]); t = T.from_pretrained(sys.argv[1]); "
        "print(m(**t('red cat runs', return_tensors='pt')).logits.shape, "
        "int((m.bert.encoder.layer[0].intermediate.dense.weight == 0).sum()))"
    )
    done = subprocess.run([sys.executable, "-c", code, folder / kept[0].checkpoint], capture_output=True, text=True)
    assert done.stdout.startswith("torch.Size([1, 2])"), done.stderr


def test_the_same_sweep_gives_the_same_trials_and_scores_also_by_a_relative_path(finished, sweep_of):
    _, folder = finished
    where = sweep_of.task_folder
    done, again = sweep_of("again", "--set", f"task.path={where.name}", cwd=where.parent)
    assert done.returncode == 0, done.stderr
    assert scores(again) == scores(folder)
    assert steps_of(again) == steps_of(folder)


@pytest.mark.parametrize(("sampler", "concurrent"), [("random", 2), ("tpe", 1)])
def test_samplers_draw_the_same_trials_again(sampler, concurrent, sweep_of):
    search = {"p0": {"low": 0.1, "high": 0.9}, "stage1_lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    study = {"sampler": sampler, "trials": 6, "seeds": [0], "seed": 5}
    names = (f"{sampler}-once", f"{sampler}-twice")
    for name in names:
        done, folder = sweep_of(
            name, search=search, study=study, resources={"cpus_per_worker": 1, "concurrent": concurrent}
        )
        assert done.returncode == 0, done.stderr
    once, twice = (scores(folder.with_name(name)) for name in names)
    assert once == twice
    assert len({trial[2] for trial in once}) == 6  # p0


def test_a_finished_sweep_can_be_resumed_and_extended(sweep_of):
    study = {**SPACE["study"], "trials": 1, "seeds": [0]}
    _, folder = sweep_of("extended", study=study)
    (first,) = scores(folder)
    again, _ = sweep_of("extended", "--resume", study=study)
    assert again.returncode == 0, again.stderr
    assert scores(folder) == [first]
    other, _ = sweep_of("extended", "--resume", "--set", "trial.batch_size=4", study=study)
    assert other.returncode == 2
    assert "another space or other --set" in other.stderr
    more, _ = sweep_of("extended", "--resume", "--trials", "2", study=study)
    assert more.returncode == 0, more.stderr
    assert [trial[0] for trial in scores(folder)] == ["00000-s0", "00001-s0"]
    assert scores(folder)[0] == first


def test_a_sweep_killed_with_sigkill_goes_on_with_resume(finished, sweep_of):
    _, undisturbed = finished
    folder = undisturbed.with_name("killed")
    process = subprocess.Popen(
        sweep_of.command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not any(trial.status == "finished" for trial in read_trials(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {t.trial_id: t for t in read_trials(folder) if t.status == "finished"}
    assert 1 <= len(before) < 4
    written = {
        path: path.stat().st_mtime_ns for trial in before for path in (folder / "steps" / f"trial={trial}").iterdir()
    }

    refused, _ = sweep_of("killed")
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    done, _ = sweep_of("killed", "--resume")
    assert done.returncode == 0, done.stderr
    assert scores(folder) == scores(undisturbed)
    assert steps_of(folder) == steps_of(undisturbed)
    assert study_states(folder) == study_states(undisturbed)
    parents, children = mlflow_runs(folder)
    assert len(parents) == 1
    assert sorted(run.data.tags["spd_ray.trial_id"] for run in children) == [t.trial_id for t in read_trials(folder)]
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_a_failing_trial_does_not_take_the_sweep_with_it(sweep_of):
    search = {"stage1_lr": {"choices": [2e-3, 1e30]}}
    done, folder = sweep_of("failing", search=search, study={**SPACE["study"], "seeds": [0]})
    trials = {trial.status: trial for trial in read_trials(folder)}
    assert set(trials) == {"finished", "failed"}, done.stderr
    assert "the loss is nan" in trials["failed"].error or "the loss is inf" in trials["failed"].error
    assert done.returncode == 0
    assert [state for _, state, _ in study_states(folder)] in (["COMPLETE", "FAIL"], ["FAIL", "COMPLETE"])


def test_a_dry_run_tells_steps_and_cost_and_leaves_nothing(sweep_of):
    done, folder = sweep_of("dry", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "4 trials (2 configurations x 2 seeds)" in done.stdout
    assert "step 1: loss" in done.stdout
    assert "pruning ends" in done.stdout
    assert not folder.exists()


def test_two_drivers_cannot_run_one_sweep(sweep_of, finished):
    _, folder = finished
    process = subprocess.Popen(
        sweep_of.command("both"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    lock = folder.with_name(".both.lock")
    while not lock.exists():
        time.sleep(0.05)
    time.sleep(0.5)
    second, _ = sweep_of("both")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert second.returncode == 2
    assert "another sweep of this name is running" in second.stderr


def test_a_worker_that_is_shot_goes_on_from_its_state(finished, sweep_of):
    _, undisturbed = finished
    folder = undisturbed.with_name("shot")
    driver = psutil.Popen(sweep_of.command("shot"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    shot = 0
    while driver.poll() is None and shot < 2:
        for worker in driver.children(recursive=True):
            training = any((folder / "state").glob("*/step-*"))
            if training and worker.is_running() and "Trainable" in " ".join(worker.cmdline()):
                worker.kill()
                shot += 1
        time.sleep(0.05)
    assert driver.wait(timeout=300) == 0, driver.stderr.read()
    assert shot
    assert scores(folder) == scores(undisturbed)
    assert steps_of(folder) == steps_of(undisturbed)
    assert len(mlflow_runs(folder)[1]) == 4


def test_ctrl_c_stops_within_seconds_and_prints_how_to_go_on(finished, sweep_of):
    _, undisturbed = finished
    folder = undisturbed.with_name("interrupted")
    driver = psutil.Popen(sweep_of.command("interrupted"), stdout=subprocess.PIPE, text=True, start_new_session=True)
    while driver.poll() is None and not any((folder / "state").glob("*/step-*")):
        time.sleep(0.05)
    workers = driver.children(recursive=True)
    driver.send_signal(signal.SIGINT)
    out, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert out.rstrip().endswith("--resume")
    assert not psutil.wait_procs(workers, timeout=20)[1]
    done, _ = sweep_of("interrupted", "--resume")
    assert done.returncode == 0, done.stderr
    assert steps_of(folder) == steps_of(undisturbed)
