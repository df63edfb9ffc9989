"""The sweep as a user runs it: real processes, real Ray, Optuna, DeepSpeed, MLflow and Parquet."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from spd_ray.records.provenance import read_sweep_yaml
from spd_ray.records.trials import read_trials
from spd_ray.tracking.missed_points import read_evaluations
from tests.sweeps import SPACE, Sweeps, curves, mlflow_runs, scores, steps_of, study_states

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sweep_of(tiny_teacher, tmp_path_factory):
    return Sweeps(tmp_path_factory.mktemp("sweeps"), tiny_teacher)


@pytest.fixture(scope="module")
def finished(sweep_of):
    done, folder = sweep_of("finished")
    assert done.returncode == 0, done.stderr
    return done, folder


def test_a_sweep_ends_with_the_best_trial_its_scores_and_where_things_are(finished):
    done, folder = finished
    best = min(read_trials(folder), key=lambda trial: (-trial.best_score, trial.trial_id))
    assert f"best feasible trial: {best.trial_id}" in done.stdout
    for words in (
        "dense teacher",
        "sparse student",
        "best sparse checkpoint",
        "mlflow",
        "models:/spd_ray-finished@best",
        "packed: ",
    ):
        assert words in done.stdout
    assert "4 trials: 4 finished, 0 stopped, 0 failed" in done.stdout
    assert re.search(r"^wall time .*\d s in this run, device time \d+ s inside", done.stdout, re.MULTILINE)
    assert "Writing model shards" not in done.stderr
    (said,) = re.findall(r"^the teacher's outputs: (.*)$", done.stdout, re.MULTILINE)
    assert said.endswith("MiB in memory that the workers of a machine share")


def test_the_leaderboards_command_can_be_pasted_and_finds_the_best_checkpoint(finished):
    done, _ = finished
    (command,) = re.findall(r"^leaderboard: +(.*)$", done.stdout, re.MULTILINE)
    path = subprocess.run(f"{command} --path", shell=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    assert f"best sparse checkpoint: {path}" in done.stdout.splitlines()
    assert (Path(path) / "model.safetensors").is_file()


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
    told = [row[:3] for row in study_states(folder)]
    assert told == [(0, "COMPLETE", pytest.approx(means[0])), (1, "COMPLETE", pytest.approx(means[1]))]
    parents, children = mlflow_runs(folder)
    assert len(parents) == 1
    assert sorted(run.data.tags["spd_ray.trial_id"] for run in children) == [t.trial_id for t in trials]
    assert {run.info.run_id for run in children} == {t.mlflow_run_id for t in trials}
    (teacher,) = {t.teacher_files for t in trials}
    assert {run.data.tags["spd_ray.teacher"] for run in children} == {teacher}
    assert read_sweep_yaml(folder)["content"]["teacher_files"] == teacher


def test_mlflow_has_the_curves_of_a_trial_as_its_records_give_them(finished):
    _, folder = finished
    for trial in read_trials(folder):
        ((status, curve),) = curves(folder)[trial.trial_id]
        evaluations = read_evaluations(folder / "steps" / f"trial={trial.trial_id}", "dev", trial.metric)
        assert (status, len(evaluations)) == ("FINISHED", 6)
        assert curve["dev_score"] == [(one.step, one.score) for one in evaluations]
        assert curve["train_score"] == [(one.step, one.train_score) for one in evaluations]
        assert curve["sparsity"][-1] == (trial.t3, pytest.approx(0.5, abs=0.01))
        assert curve["target_sparsity"] == [(0, 0.5)]
        assert curve["best_dev_score"][-1][1] == trial.best_score
        assert curve["train_score_at_best"] == [(trial.best_step, trial.train_score)]
        assert curve["best_step"] == [(trial.best_step, trial.best_step)]
        terms = {"loss", "loss_hidden", "loss_attention", "loss_prediction"}
        assert evaluations[0].course.keys() == {*terms, "p", "learning_rate"}
        for name in evaluations[0].course:
            assert curve[name] == [(one.step, one.course[name]) for one in evaluations]
        assert curve["p"][0] == (8, pytest.approx(trial.p0))
        assert curve["p"][-1] == (48, 1.0)


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


def test_what_the_best_students_and_the_teacher_answer_on_dev_is_kept(finished):
    _, folder = finished
    kept = {trial.trial_id: trial for trial in read_trials(folder) if trial.checkpoint}
    answers = {path.stem: pq.read_table(path) for path in (folder / "predictions").iterdir()}
    assert answers.keys() == kept.keys() | {"teacher"}
    for name, table in answers.items():
        right = pc.mean(pc.cast(pc.equal(table["label"], table["prediction"]), "float64")).as_py()
        assert right == pytest.approx(kept[name].dev_score if name in kept else read_trials(folder)[0].teacher_score)


def test_the_same_sweep_from_a_notebook_gives_the_same_trials_and_scores_also_by_a_relative_path(finished, sweep_of):
    _, folder = finished
    where = sweep_of.task
    sweep_of.command("again")
    code = (
        "import sys; from spd_ray import run_sweep; "
        f"result = run_sweep(sys.argv[1], storage=sys.argv[2], set={{'task.path': {where.name!r}}}); "
        "print(result, result.best.trial_id, result.best.dev_score, result.checkpoint, sep='\\n')"
    )
    words = [sys.executable, "-c", code, sweep_of.storage / "again.yaml", sweep_of.storage]
    done = subprocess.run(words, capture_output=True, text=True, cwd=where.parent)
    assert done.returncode == 0, done.stderr
    again = sweep_of.storage / "again"
    assert scores(again) == scores(folder)
    assert steps_of(again) == steps_of(folder)
    best = min(read_trials(again), key=lambda trial: (-trial.best_score, trial.trial_id))
    shown, *rest = done.stdout.splitlines()[-4:]
    assert shown.startswith(f"SweepResult('{again}', 4 trials, best: {best.trial_id} with accuracy ")
    assert rest == [best.trial_id, str(best.dev_score), str(again / best.checkpoint)]


def test_tpe_draws_the_same_trials_again_where_one_runs_at_a_time(sweep_of):
    search = {"p0": {"low": 0.1, "high": 0.9}, "stage1_lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    study = {"sampler": "tpe", "trials": 4, "seeds": [0], "seed": 5}
    names = ("once", "twice")
    for name in names:
        done, folder = sweep_of(name, search=search, study=study)
        assert done.returncode == 0, done.stderr
    once, twice = (scores(folder.with_name(name)) for name in names)
    assert once == twice
    assert len({trial[2] for trial in once}) == 4  # p0


def test_a_finished_sweep_can_be_resumed_and_extended_also_where_it_and_its_data_were_moved_to(sweep_of, tmp_path):
    study = {**SPACE["study"], "trials": 1, "seeds": [0]}
    _, folder = sweep_of("extended", study=study)
    (first,) = scores(folder)
    other, _ = sweep_of("extended", "--resume", "--set", "method.batch_size=4", study=study)
    assert other.returncode == 2
    assert "was begun with method.batch_size = 8, and now it is 4" in other.stderr
    moved, data = (
        shutil.copytree(place, tmp_path / name) for place, name in ((folder.parent, "moved"), (sweep_of.task, "data"))
    )
    before, folder = sorted(path.name for path in folder.rglob("*")), moved / "extended"
    more, left = sweep_of(
        "extended", "--storage", str(moved), "--resume", "--trials", "2", "--set", f"task.path={data}", study=study
    )
    assert more.returncode == 0, more.stderr
    assert sorted(path.name for path in left.rglob("*")) == before
    artifacts = {run.info.artifact_uri.rpartition("/mlartifacts/")[0] for run in mlflow_runs(folder)[1]}
    assert artifacts == {moved.as_uri()}
    assert [trial[0] for trial in scores(folder)] == ["00000-s0", "00001-s0"]
    assert scores(folder)[0] == first


def test_a_sweep_whose_first_trials_die_alike_stops_and_says_it_once(sweep_of, tmp_path):
    """What each trial's process imports first: a broken package on the workers' path."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Broken:\n"
        "    def find_spec(self, name, *others):\n"
        "        if name == 'spd_ray.trials.ranks': raise RuntimeError('the same for all')\n"
        "if 'default_worker.py' in ' '.join(sys.orig_argv): sys.meta_path.insert(0, Broken())\n"
    )
    study = {"sampler": "grid", "trials": 2, "seeds": [0, 1, 2, 3]}
    words = sweep_of.command("alike", study=study, retries=0)
    paths = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "the first 3 trials have all failed before an evaluation, and alike: RuntimeError: the same for all" in line
    assert sum(trial.status == "failed" for trial in read_trials(sweep_of.storage / "alike")) < 8
    (parent,), _ = mlflow_runs(sweep_of.storage / "alike")
    assert MlflowClient(f"sqlite:///{sweep_of.storage}/mlflow.db").get_run(parent).info.status == "FAILED"


def test_a_trial_shows_life_before_its_first_evaluation(sweep_of):
    """640 steps of the tiny model, evaluated at the end of stages alone."""
    method = SPACE["method"] | {"total_epochs": 80, "stage1_epochs": 60, "stage2_epochs": 1, "eval_every_epochs": 80}
    study = {"sampler": "grid", "trials": 1, "seeds": [0]}
    done, _ = sweep_of("life", method=method, study=study)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("00000-s0")]
    assert re.match(
        r"00000-s0 spd stage I step \d+/640 loss \d", next(line for line in lines if "starting" not in line)
    )
    assert len(lines) <= 6


def test_a_dry_run_tells_steps_and_cost_and_leaves_nothing(sweep_of):
    ladder = ("--set", "method.ladder=[0.3]", "--set", "method.pruning_events=12")  # they fit 24 steps, not the two run
    done, folder = sweep_of("dry", "--dry-run", *ladder)
    assert done.returncode == 0, done.stderr
    assert "4 trials (2 configurations x 2 seeds)" in done.stdout
    assert "step 1: loss" in done.stdout
    assert "pruning ends" in done.stdout
    assert "task sst2: 60 training and 30 dev examples of" in done.stdout
    assert re.search(r"^teacher: 1 learning rate x 48 steps, \d+ ms each", done.stdout, re.MULTILINE)
    assert "disk: " in done.stdout
    assert not folder.exists()


def test_a_dry_run_of_the_miniature_pretrains_none(tmp_path):
    """Nor for a method whose student starts from the pretrained weights."""
    words = ["--space", str(ROOT / "search_spaces/demo.yaml"), "--method", "tickets", "--storage", str(tmp_path)]
    command = [sys.executable, "-m", "spd_ray.sweep", "--dry-run", "--set", "engine.sparse_kernels=never", *words]
    environment = {**os.environ, "SPD_RAY_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "miniature is not pretrained on this machine yet" in done.stdout
    assert list(tmp_path.iterdir()) == []


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
