"""Tasks of the user's own on real engines: every method, and the page that leads through one, as it stands."""

import csv
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import AutoConfig

from spd_ray.config.method import MethodConfig
from spd_ray.config.methods import METHODS, fill_in, load_method
from spd_ray.config.task import TaskConfig
from spd_ray.config.trial import ModelConfig, TeacherConfig, TrialConfig
from spd_ray.training.checkpoint import export_student, verify_checkpoint
from spd_ray.training.teacher import load_teacher
from spd_ray.training.trainer import prepare, train_spd

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/own_task.md").read_text()
ANIMALS = ("cat", "dog", "bird")


def own_task(folder, **changes):
    """Sentences about three animals; the label is the animal, or its number."""
    kind = "numbers" if changes["metric"] == "mse" else "classes"
    words = itertools.product(["red", "green", "blue"], ANIMALS, ["runs", "sleeps"], ["", " well", " very well"])
    rows = [
        (f"{colour} {animal} {verb}{end}", ANIMALS.index(animal) if kind == "numbers" else animal)
        for colour, animal, verb, end in words
    ]
    for split, part in (("train", rows[::2] + rows[1::4]), ("dev", rows[3::4])):
        with (folder / f"{split}_{kind}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *part])
    files = {f"{split}_file": str(folder / f"{split}_{kind}.csv") for split in ("train", "dev")}
    return TaskConfig(name=kind, **files, text_columns=("text",), label_column="label", max_length=16, **changes)


@pytest.fixture(scope="module")
def teachers(tiny_bert, tmp_path_factory):
    """The tiny model fine-tuned on three classes, and on numbers; with what it was made from."""
    folder, model = tmp_path_factory.mktemp("own"), ModelConfig(path=str(tiny_bert))
    recipe = TeacherConfig(epochs=8, batch_size=8, learning_rates=(2e-3,), gate=False)
    tasks = (own_task(folder, metric="macro_f1", also=("accuracy",)), own_task(folder, metric="mse", also=("pearson",)))
    return {task.name: (task, model, recipe, load_teacher(task, model, recipe)) for task in tasks}


def test_a_teacher_of_several_classes_or_numbers_beats_the_constant_answer(teachers):
    for kind, metrics in (("classes", ("macro_f1", "accuracy")), ("numbers", ("neg_mse", "pearson"))):
        *_, teacher = teachers[kind]
        assert (teacher.data.task.metric, *teacher.other_scores) == metrics
        assert teacher.score > teacher.majority_score + 0.1
    assert AutoConfig.from_pretrained(teachers["classes"][-1].folder).id2label == {0: "bird", 1: "cat", 2: "dog"}
    assert AutoConfig.from_pretrained(teachers["numbers"][-1].folder).problem_type == "regression"


AS_OTHERS = ("dst_ee", "grow_prune", "movement", "platon", "soft_movement", "spd_movement", "spd_obert")  # but pruning
OF_CLASSES = ("spd", "tinybert6", "cr_ild", "rpp")  # all methods are tested with two; the number of them is the loss's


@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("numbers", name) for name in METHODS if name not in AS_OTHERS), *(("classes", name) for name in OF_CLASSES)],
)
def test_methods_take_numbers_and_several_classes(teachers, tmp_path, kind, name):
    task, model, recipe, teacher = teachers[kind]
    budget = dict(total_epochs=2, stage1_epochs=1, stage2_epochs=0.5, stage1_lr=2e-3, batch_size=16,
                  target_sparsity=0.5, eval_every_epochs=2, pruning_events=2)  # fmt: skip
    method = MethodConfig.model_validate(fill_in(budget, load_method(name).method))
    run = prepare(TrialConfig(task=task, model=model, teacher=recipe, method=method), teacher)
    records = list(train_spd(run))
    assert np.isfinite([record.value for record in records]).all()
    scored = [record.metric for record in records if record.split == "dev"]
    metric, other = teacher.data.task.metric, teacher.data.task.also[0]
    assert scored == ["loss", other, metric] * (len(scored) // 3)
    export_student(run, tmp_path / "student")
    per_matrix = not method.prunes_globally
    found = verify_checkpoint(tmp_path / "student", run.timeline.final_sparsity, per_matrix, teacher)
    assert found.score == pytest.approx(records[-1].value, abs=1e-4)  # a correlation of answers that hardly differ
    assert found.other_scores == {other: pytest.approx(records[-2].value, abs=1e-4)}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def run(command, folder, **environment):
    """A command of the page, with this interpreter, in the folder where its user would be."""
    command = re.sub(r"^python ", f"{sys.executable} ", command)
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder of a user who has followed the page, and what the sweeps have printed."""
    folder = tmp_path_factory.mktemp("page")
    example, loading, function = blocks("python")
    (folder / "make_example.py").write_text(example)
    (folder / "animals.yaml").write_text(blocks("yaml")[0])
    (folder / "my_metrics.py").write_text(function)
    (folder / "load.py").write_text(loading)
    make, pretrain, sweep, deploy, own_metric = (line for block in blocks("sh") for line in block.splitlines())
    run(make, folder)
    run(pretrain, folder)
    printed = run(sweep, folder)
    run(deploy, folder)
    return folder, printed, run(f"{own_metric} --trials 1", folder)


def test_the_page_is_true(followed):
    folder, printed, _ = followed
    train, dev = (list(csv.reader((folder / f"{split}.csv").open()))[1:] for split in ("train", "dev"))
    assert f"two of {len(train)} and {len(dev)} sentences" in PAGE
    labels = [label for _, label in train]
    counts = ", ".join(f"{name} {labels.count(name)} ({labels.count(name) / 55:.1%})" for name in sorted(ANIMALS))
    assert f"labels: train {counts}; dev " in printed
    assert f"labels: train {counts}; dev " in PAGE
    assert re.search(r"dev macro_f1 +┃ accuracy ", printed)
    trials = pq.read_table(folder / "runs/animals/trials.parquet").to_pylist()
    assert {trial["metric"] for trial in trials} == {"macro_f1"}
    assert all(re.fullmatch(r'\{"accuracy": [0-9.]+\}', trial["other_scores"]) for trial in trials)


def test_a_student_of_ones_own_task_knows_its_classes_also_packed(followed):
    folder, _, _ = followed
    assert run("python load.py", folder).strip() in ANIMALS


def test_a_metric_of_ones_own_runs_in_the_workers_where_it_is_allowed(followed):
    folder, _, printed = followed
    (trial,) = pq.read_table(folder / "runs/rare/trials.parquet").to_pylist()
    assert (trial["metric"], trial["status"]) == ("my_metrics:rare_recall", "finished")
    assert "dev my_metrics:rare_recall" in printed
    steps = pq.read_table(folder / "runs/rare/steps", partitioning=None).to_pylist()
    assert {row["metric"] for row in steps} == {"loss", "accuracy", "my_metrics:rare_recall"}
    shutil.rmtree(folder / "runs/rare")


def test_the_report_speaks_of_the_tasks_own_metric(followed):
    folder, _, _ = followed
    run("python -m analysis --sweep runs/animals", folder)
    html = (folder / "runs/animals/report/index.html").read_text()
    assert "metric macro F1." in html
    assert "metric accuracy" not in html
