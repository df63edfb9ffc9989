"""The end of a sweep: students are read back, and what MLflow then hands out is the model, as anybody would load it."""

import json
import os
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
import requests
import torch
import yaml
from mlflow import MlflowClient
from requests.adapters import HTTPAdapter
from transformers import AutoModelForSequenceClassification, pipeline
from urllib3.util import Retry

from spd_ray.base.cache import check_sums, write_sums
from spd_ray.base.network import free_port
from spd_ray.config.load import load_spec
from spd_ray.data.tasks import load_task
from spd_ray.driver.students import publish, read_students_back
from spd_ray.equations.masks import zeros_asked
from spd_ray.kernels.build import available, unavailable_because
from spd_ray.kernels.packed import pack_model
from spd_ray.model.surgery import encoder_layers
from spd_ray.records import layout
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.study.study import create_study
from spd_ray.tracking.mlflow_store import request_command
from spd_ray.tracking.sweep_page import NOTE, SweepPage
from spd_ray.tracking.tracker import Tracker
from spd_ray.tracking.trial_runs import begin_run, end_run
from spd_ray.training.checkpoint import load_checkpoint
from spd_ray.training.teacher import evaluate
from tests.hand_made_sweep import batch, evaluation, write_steps

PROVENANCE = {"command": "python -m spd_ray.sweep --space x", "git_commit": "abc", "machine": {"cpus": 2}}
SCORES = {0.5: 0, 0.8: 1}  # target sparsity -> configuration


def write_student(folder, teacher, sparsity, config) -> float:
    """The teacher with the smallest weights of each matrix at 0, as a trial leaves its student; its dev score."""
    student = AutoModelForSequenceClassification.from_pretrained(teacher.folder)
    with torch.no_grad():
        for layer in encoder_layers(student):
            for module in layer.modules():
                if isinstance(module, torch.nn.Linear):
                    flat = module.weight.view(-1)
                    flat[flat.abs().argsort()[: zeros_asked(flat.numel(), sparsity)]] = 0
    student.save_pretrained(folder)
    teacher.tokenizer.save_pretrained(folder)
    (folder / "spd_ray.json").write_text(config.model_dump_json())
    write_sums(folder)
    return evaluate(student, teacher.data.dev, teacher.data.task).score


@pytest.fixture(scope="module")
def published(tiny_teacher, tmp_path_factory):
    """A sweep of two target sparsities and a ladder whose trials have just ended: what `publish` made of it."""
    root = tmp_path_factory.mktemp("students")
    task, model, _ = tiny_teacher.configs
    (root / "x.yaml").write_text(
        f"name: tiny\ntask: {{name: sst2, path: {task.path}, max_length: 32}}\nmodel: {{path: {model.path}}}\n"
        "teacher: {epochs: 6, batch_size: 8, learning_rates: [2e-3], gate: false}\n"
        "method: {total_epochs: 6, stage1_epochs: 3, stage2_epochs: 1, batch_size: 8, ladder: [0.3]}\n"
        "search: {target_sparsity: {choices: [0.5, 0.8]}}\nstudy: {sampler: grid, trials: 2}\n"
    )
    spec, folder = load_spec(root / "x.yaml"), root / "runs" / "tiny"
    folder.mkdir(parents=True)
    ledger = Ledger(spec, create_study(spec, folder / "study.journal"), folder)
    teacher, storage = tiny_teacher.teacher, SweepStorage(str(folder), "driver")
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"spec": spec.resolved(), **PROVENANCE}))
    with Tracker.open(spec, folder) as tracker:
        page = SweepPage(spec, ledger, tracker, teacher, PROVENANCE)
        page.begin()
        for target in (0.5, 0.8):
            trial_id = str(ledger.next_due())
            checkpoint, config = layout.checkpoint(folder, trial_id), ledger.config(trial_id)
            run_id = begin_run(ledger, tracker, trial_id)
            score = write_student(checkpoint, teacher, target, config)
            level = layout.checkpoint(folder, trial_id, 0.3)
            step = {"sparsity": 0.3, "score": write_student(level, teacher, 0.3, config), "train_score": 0.9, "step": 2}
            ladder = [{**step, "checkpoint": str(level.relative_to(folder))}]
            write_steps(folder, trial_id, 0, 8, [*map(batch, range(8)), evaluation(8, "dev", score)])
            ledger.end(
                trial_id, "finished", best_score=score, feasible=True, best_step=8, train_score=0.9, t1=4, t2=6, t3=8,
                pruning_end_step=4, checkpoint=str(checkpoint.relative_to(folder)), ladder=json.dumps(ladder),
                mlflow_run_id=run_id,
            )  # fmt: skip
            end_run(ledger.trials[trial_id], tracker, run_id, 3)
            page.trial_ended(ledger.trials[trial_id])
        ledger.fold()
        students = read_students_back(ledger, teacher, storage, worker=None)
        models = publish(spec, storage, teacher, students, page)
    return SimpleNamespace(
        folder=folder, students=students, models=models, teacher=teacher, uri=f"sqlite:///{folder.parent}/mlflow.db",
        parent=tracker.store.parent_run_id, spec=spec, store=tracker.store,
    )  # fmt: skip


@pytest.fixture
def client(published, monkeypatch):
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    mlflow.set_tracking_uri(published.uri)
    yield MlflowClient(published.uri)
    mlflow.set_tracking_uri(None)


def test_one_version_a_sparsity_the_sparsest_is_best_a_ladder_is_found_too(published, client):
    assert [student.level for student in published.students] == [0.8, 0.5, 0.3]
    assert published.models == {
        level: f"models:/spd_ray-tiny@best-{level:.0%}".rstrip("%") for level in (0.8, 0.5, 0.3)
    }
    versions = {
        a: client.get_model_version_by_alias("spd_ray-tiny", a) for a in ("best", "best-80", "best-50", "best-30")
    }
    assert versions["best"].version == versions["best-80"].version
    assert len({one.version for one in versions.values()}) == 3
    tags = versions["best-50"].tags
    assert (tags["trial_id"], tags["target_sparsity"]) == ("00000-s0", "0.5")
    assert float(tags["best_dev_score"]) == published.students[1].verification.score
    assert float(tags["sparsity"]) == pytest.approx(0.5, abs=1e-3)
    assert versions["best-30"].source.endswith("checkpoint-sparsity-0.3")


def test_mlflow_answers_with_the_registered_model_as_transformers_does_from_the_folder(published, client):
    texts = ["red cat runs", "blue dog sleeps well"]
    here = pipeline("text-classification", model=str(published.students[0].folder))(texts)
    model = mlflow.pyfunc.load_model("models:/spd_ray-tiny@best")
    assert model.metadata.signature.inputs.input_names() == ["text"]
    assert model.predict([{"text": text} for text in texts]).to_dict("records") == here
    long = model.predict(
        {"text": " ".join(["cat"] * 60)}
    )  # cut as in training; without that the model could not read it
    assert set(long.columns) == {"label", "score"}
    example = model.input_example
    assert list(example.columns) == ["text"]
    assert len(model.predict(example)) == 1
    assert mlflow.transformers.load_model("models:/spd_ray-tiny@best-80")(texts) == here


def test_the_printed_command_answers_a_request_from_a_shell_that_knows_nothing(published, monkeypatch, tmp_path):
    """MLflow starts uvicorn by its name, which is in the environment's folder of scripts alone."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    command, port = published.store.serve_command("models:/spd_ray-tiny@best"), str(free_port())
    with (tmp_path / "log").open("wb") as log:
        words = ["bash", "-c", command.replace("5001", port)]
        server = subprocess.Popen(words, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.mount(
                "http://", HTTPAdapter(max_retries=Retry(None, connect=4500, backoff_factor=0.2, backoff_max=0.2))
            )
            request = {"inputs": {"text": "red cat runs"}}
            answer = session.post(f"http://127.0.0.1:{port}/invocations", json=request)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    here = pipeline("text-classification", model=str(published.students[0].folder))("red cat runs")
    (found,) = answer.json()["predictions"]  # by a process with other threads: the last bits differ
    assert found == {**here[0], "score": pytest.approx(here[0]["score"], rel=1e-5)}, (tmp_path / "log").read_text()


def test_the_card_has_scores_exact_zeros_and_a_snippet_that_runs(published, capsys):
    best = published.students[0]
    check_sums(best.folder)
    card = (best.folder / "README.md").read_text()
    numel = sum(one.numel for one in best.verification.layers)
    zeros = sum(one.zeros for one in best.verification.layers)
    assert f"{zeros:,} of the {numel:,} weights" in card
    assert f"| dense teacher | {published.teacher.score:.4f} | {published.teacher.train_score:.4f} | 0 |" in card
    assert f"| **this student** | **{best.verification.score:.4f}** | 0.9000 | {zeros / numel:.4f} |" in card
    for words in ("60 training and 30 dev", "@best-80", "python -m spd_ray.sweep --space space.yaml", "What it is not"):
        assert words in card
    snippet = card.partition("## Load it\n\n```python\n")[2].partition("\n```")[0]
    exec(snippet.replace("FOLDER", str(best.folder)), {})
    assert "'label': " in capsys.readouterr().out
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["pipeline_tag"] == "text-classification"
    assert header["model-index"][0]["results"][0]["metrics"][0]["value"] == round(best.verification.dev_score, 6)


def test_size_and_latency_are_in_the_record_in_mlflow_and_on_the_card(published, client, tmp_path):
    best = published.students[0]
    packed = pack_model(load_checkpoint(best.folder), None, tmp_path / "packed").packed
    assert best.trial.packed_bytes == packed == (tmp_path / "packed" / "packed.safetensors").stat().st_size
    run = client.get_run(best.trial.mlflow_run_id).data
    assert run.metrics["packed_bytes"] == packed
    assert f"packed it has {packed / 1e6:.1f} MB." in (best.folder / "README.md").read_text()
    if not available():
        pytest.skip(str(unavailable_because()))
    assert best.trial.timed_on.startswith("1 x 32 tokens, 1 thread, ")  # the tiny model reads no more
    assert 0 < best.trial.latency_ms == run.metrics["latency_ms"]
    assert 0 < best.trial.dense_latency_ms == run.metrics["dense_latency_ms"]
    assert f"Packed it answers in {best.trial.latency_ms:.2f} ms" in (best.folder / "README.md").read_text()


def test_the_space_beside_the_weights_is_that_one_trial(published):
    best = published.students[0]
    alone = load_spec(best.folder / "space.yaml")
    assert alone.name == "tiny-00001-s0"
    assert alone.total_configurations() == 1
    (point,) = alone.first_points()
    config = json.loads((best.folder / "spd_ray.json").read_text())
    assert alone.trial_config(point, alone.study.seeds[0]).model_dump(mode="json") == config
    assert asdict(best.trial)["target_sparsity"] == config["method"]["target_sparsity"] == 0.8


def test_the_parent_run_says_what_is_best_by_sparsity_and_where_it_comes_from(published, client):
    run = client.get_run(published.parent)
    assert run.data.metrics["best_dev_score_at_0.8"] == published.students[0].trial.best_score
    assert run.data.metrics["trials_finished"] == 2
    assert run.data.metrics["teacher_dev_score"] == published.teacher.score
    assert run.data.tags["mlflow.source.git.commit"] == "abc"
    assert run.data.tags["command"] == PROVENANCE["command"]
    note = run.data.tags[NOTE].replace("&nbsp;", "")
    first = next(line for line in note.splitlines() if line.startswith("| **best"))
    assert "00001-s0" in first
    assert first.endswith("| 0.8 | `models:/spd_ray-tiny@best-80` |")
    assert f"runs/{published.students[0].trial.mlflow_run_id}" in first
    assert note.count("| finished |") == 2
    assert "those at 0.5" in note
    report = client.download_artifacts(published.parent, "report/index.html")
    assert "00001-s0" in Path(report).read_text()


def test_the_run_of_a_student_says_what_it_is_worth_and_how_it_is_taken(published, client):
    student = published.students[0]
    note = client.get_run(student.trial.mlflow_run_id).data.tags[NOTE]
    version = client.get_model_version_by_alias("spd_ray-tiny", "best-80")
    worth, *commands = note.replace(" \\\n      ", " ").split("\n\n")
    assert worth.startswith(f"**Sparse student at sparsity 0.8**: dev accuracy **{student.verification.score:.4f}**; ")
    assert version.description == worth
    assert f"packed {student.verification.cost.packed_bytes / 1e6:.2f} MB; " in worth
    assert [command.strip() for command in commands[1::2]] == [
        published.store.download_command("models:/spd_ray-tiny@best-80", student.trial.trial_id),
        published.store.serve_command("models:/spd_ray-tiny@best-80"),
        request_command({"text": load_task(published.spec.task).dev.text_a[0][:40]}),
    ]
    assert max(map(len, note.splitlines()[2:])) < 120


def test_a_student_that_is_not_what_its_trial_said_fails_its_run(published, client):
    trial = published.students[1].trial
    ledger = Ledger(published.spec, create_study(published.spec, published.folder / "study.journal"), published.folder)
    weights = Path(published.folder / str(trial.checkpoint)) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + b"\1" * 8)
    storage = SweepStorage(str(published.folder), "driver")
    with Tracker.open(published.spec, published.folder) as tracker:
        students = read_students_back(ledger, published.teacher, storage, worker=None)
        page = SweepPage(published.spec, ledger, tracker, published.teacher, PROVENANCE)
        tracking = published.spec.tracking.model_copy(update={"report": False})
        publish(published.spec.model_copy(update={"tracking": tracking}), storage, published.teacher, students, page)
    assert [student.level for student in students] == [0.8, 0.3]
    run = client.get_run(trial.mlflow_run_id)
    assert (run.info.status, run.data.tags["status"]) == ("FAILED", "failed")
    assert "model.safetensors" in run.data.tags["error"]
