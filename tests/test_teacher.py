"""The teacher: what is kept, what is cached, what is refused, on a tiny BERT that learns a tiny task in seconds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from spd_ray.base.errors import UserError
from spd_ray.config.trial import ModelConfig, TaskConfig, TeacherConfig
from spd_ray.data.batches import EncodedTask, collate, encode_task
from spd_ray.data.tasks import load_task
from spd_ray.training.fine_tuning import fine_tune
from spd_ray.training.teacher import Teacher, evaluate, load_teacher, predict

TEACHER = TeacherConfig(epochs=15, batch_size=8, learning_rates=(1e-3,))


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty cache of this module's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPD_RAY_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def task(tiny_sst2: Path) -> TaskConfig:
    return TaskConfig(name="sst2", path=str(tiny_sst2), max_length=16)


@pytest.fixture(scope="module")
def model(tiny_bert: Path) -> ModelConfig:
    return ModelConfig(path=str(tiny_bert))


@pytest.fixture(scope="module")
def data(task: TaskConfig, tiny_bert: Path) -> EncodedTask:
    return encode_task(load_task(task), AutoTokenizer.from_pretrained(tiny_bert), task)


@pytest.fixture(scope="module")
def teacher(task: TaskConfig, model: ModelConfig) -> Teacher:
    return load_teacher(task, model, TEACHER)


def test_a_holdout_is_chosen_on_and_is_no_training_example(
    task: TaskConfig, tiny_bert: Path, data: EncodedTask
) -> None:
    config = task.model_copy(update={"selection": "holdout", "holdout_fraction": 0.25})
    split = encode_task(load_task(task), AutoTokenizer.from_pretrained(tiny_bert), config)
    assert split.holdout is not None
    assert (len(split.train), len(split.holdout), len(split.dev)) == (45, 15, 30)
    assert split.chooser is split.holdout
    rows = {tuple(row.tolist()) for row in data.train.input_ids}
    parts = [{tuple(row.tolist()) for row in part.input_ids} for part in (split.train, split.holdout)]
    assert parts[0] | parts[1] == rows
    assert not parts[0] & parts[1]
    assert split.fingerprint != data.fingerprint


def test_a_holdout_of_nothing_is_refused(task: TaskConfig, tiny_bert: Path) -> None:
    config = task.model_copy(update={"selection": "holdout", "holdout_fraction": 0.001})
    with pytest.raises(UserError, match=r"task.holdout_fraction: 0.001 of 60 training examples is 0"):
        encode_task(load_task(task), AutoTokenizer.from_pretrained(tiny_bert), config)


def built(cache_folder: Path) -> int:
    return len([path for path in (cache_folder / "teachers").iterdir() if path.is_dir()])


def test_the_teacher_learns_and_is_frozen(teacher: Teacher) -> None:
    without_cats = 1 - teacher.data.dev.labels.float().mean()
    assert teacher.majority_score == pytest.approx(float(without_cats))
    assert teacher.score > 0.9 > teacher.majority_score
    assert teacher.train_score > 0.9
    assert teacher.learning_rate == 1e-3
    assert not teacher.model.training
    assert teacher.model.config._attn_implementation == "eager"
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in teacher.model.parameters())


def test_the_saved_teacher_is_a_plain_transformers_directory(teacher: Teacher) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(teacher.folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(teacher.folder)
    with torch.no_grad():
        answers = model(**tokenizer(["red cat sleeps well", "blue dog runs"], return_tensors="pt", padding=True)).logits
    assert [model.config.id2label[int(i)] for i in answers.argmax(dim=-1)] == ["positive", "negative"]
    assert model.config.hidden_dropout_prob == model.config.classifier_dropout == TEACHER.dropout
    assert evaluate(model, teacher.data.dev, teacher.data.task).score == teacher.score


def test_the_report_beside_it(teacher: Teacher) -> None:
    report = json.loads((teacher.folder / "spd_ray_teacher.json").read_text())
    assert report["tried"] == [[1e-3, teacher.score]]
    assert report["majority_score"] == teacher.majority_score


def test_the_same_request_is_answered_from_the_cache(
    teacher: Teacher, task: TaskConfig, tiny_bert: Path, tmp_path: Path, cache_folder: Path
) -> None:
    """The key is of content: a copy of the model elsewhere, and the gate, change nothing."""
    before = built(cache_folder)
    copy = shutil.copytree(tiny_bert, tmp_path / "copy")
    again = load_teacher(task, ModelConfig(path=str(copy)), TEACHER.model_copy(update={"gate": False}))
    assert again.folder == teacher.folder
    assert built(cache_folder) == before


def test_another_request_is_another_teacher(
    teacher: Teacher, task: TaskConfig, model: ModelConfig, tiny_bert: Path, tmp_path: Path
) -> None:
    quick = {"epochs": 1, "gate": False}
    first = load_teacher(task, model, TEACHER.model_copy(update=quick))
    other_seed = load_teacher(task, model, TEACHER.model_copy(update=quick | {"seed": 1}))
    shorter = load_teacher(task.model_copy(update={"max_length": 8}), model, TEACHER.model_copy(update=quick))
    fewer = load_teacher(task.model_copy(update={"train_examples": 30}), model, TEACHER.model_copy(update=quick))
    changed = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    copy = shutil.copytree(tiny_bert, tmp_path / "copy")
    changed.base_model.embeddings.word_embeddings.weight.data[0, 0] += 1
    changed.base_model.save_pretrained(copy)
    other_model = load_teacher(task, ModelConfig(path=str(copy)), TEACHER.model_copy(update=quick))
    assert len({x.folder for x in (teacher, first, other_seed, shorter, fewer, other_model)}) == 6


def test_the_best_learning_rate_is_kept(task: TaskConfig, model: ModelConfig) -> None:
    """One far too small, one right, one that is no better: the first of the best."""
    rates = (1e-7, 1e-3, 1.0)
    best = load_teacher(task, model, TEACHER.model_copy(update={"learning_rates": rates}))
    tried = json.loads((best.folder / "spd_ray_teacher.json").read_text())["tried"]
    assert [rate for rate, _ in tried] == list(rates)
    assert best.learning_rate == 1e-3
    assert best.score == max(score for _, score in tried) > tried[0][1]
    assert evaluate(best.model, best.data.dev, best.data.task).score == best.score


def test_fine_tuning_is_a_function_of_its_seed(tiny_bert: Path, data: EncodedTask) -> None:
    """Whatever random numbers were drawn before, and it draws none of its caller's."""
    weights = []
    for draws in (1, 2):
        torch.rand(draws)
        state = torch.get_rng_state()
        tuned = fine_tune(
            tiny_bert, data, TEACHER.model_copy(update={"epochs": 1}), 1e-3, lambda steps=1, note="": None
        )
        assert torch.equal(state, torch.get_rng_state())
        weights.append(tuned.classifier.weight)
    assert torch.equal(*weights)


def test_the_gate_names_scores_rates_and_the_way_on(task: TaskConfig, model: ModelConfig) -> None:
    hopeless = TEACHER.model_copy(update={"epochs": 1, "learning_rates": (1e-9, 2e-9)})
    ungated = load_teacher(task, model, hopeless.model_copy(update={"gate": False}))
    assert ungated.score <= ungated.majority_score
    with pytest.raises(UserError) as caught:
        load_teacher(task, model, hopeless)
    for part in (f"{ungated.score:.4f}", f"{ungated.majority_score:.4f}", "1e-09, 2e-09", "--set teacher.gate=false"):
        assert part in str(caught.value)


def test_a_regression_teacher(model: ModelConfig, tmp_path: Path) -> None:
    """STS-B: one output, trained by MSE, scored by Spearman: more cats, more alike."""
    header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
    words = [("cat", "cat", 5.0), ("dog", "cat", 2.5), ("dog", "bird", 0.0)]
    rows = "".join(f"0\tg\tf\ty\t0\ts\ts\tred {a}\tblue {b}\t{s}\n" for a, b, s in words * 8)
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / name).write_text(header + rows)
    teacher = load_teacher(TaskConfig(name="stsb", path=str(tmp_path), max_length=16), model, TEACHER)
    assert teacher.model.config.problem_type == "regression"
    assert teacher.score > 0.9
    logits = predict(teacher.model, teacher.data.dev, 7, "cpu")
    assert logits.shape == (24, 1)
    labels = teacher.data.dev.labels.numpy()
    scores = evaluate(teacher.model, teacher.data.dev, teacher.data.task)
    assert scores.loss == pytest.approx(np.mean((logits[:, 0] - labels) ** 2), rel=1e-5)


def test_predictions_come_in_the_splits_order(teacher: Teacher) -> None:
    """Whatever the batch size, each example gets what it gets alone; loss and score follow from the logits."""
    dev = teacher.data.dev
    alone = []
    for i in range(len(dev)):
        batch = collate(dev, np.array([i]), "cpu")
        del batch["labels"]
        alone.append(teacher.model(**batch).logits[0].numpy())
    for batch_size in (1, 4, 128):
        np.testing.assert_allclose(predict(teacher.model, dev, batch_size, "cpu"), np.stack(alone), atol=1e-5)
    log_probabilities = torch.log_softmax(torch.tensor(np.stack(alone)), dim=-1)
    expected = -log_probabilities[torch.arange(len(dev)), dev.labels].mean()
    assert evaluate(teacher.model, dev, teacher.data.task).loss == pytest.approx(float(expected), rel=1e-4)


def test_evaluation_leaves_the_models_modes_as_they_were(teacher: Teacher) -> None:
    """A grafted model trains in part: its teacher layers stay in eval mode."""
    model = AutoModelForSequenceClassification.from_pretrained(teacher.folder).train()
    model.base_model.encoder.layer[0].eval()
    modes = [module.training for module in model.modules()]
    first, second = (predict(model, teacher.data.dev, 16, "cpu") for _ in range(2))
    assert np.array_equal(first, second)  # no dropout
    assert [module.training for module in model.modules()] == modes


def rewrite_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


BROKEN_MODELS = {
    "missing": (shutil.rmtree, "is not a directory"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no *.safetensors"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
    "truncated weights": (lambda folder: truncate(folder / "model.safetensors"), "cannot be loaded (SafetensorError"),
    "weights that are none": (lambda folder: (folder / "model.safetensors").write_text("x"), "cannot be loaded"),
    "bad JSON": (lambda folder: truncate(folder / "config.json"), "cannot be loaded"),
    "unknown kind": (lambda folder: rewrite_config(folder, model_type="nothing"), "cannot be loaded"),
    "layers missing": (lambda folder: rewrite_config(folder, num_hidden_layers=3), "16 of the encoder's weights"),
    "another shape": (lambda folder: rewrite_config(folder, intermediate_size=48), "6 of the encoder's weights"),
    "another vocabulary": (lambda folder: rewrite_config(folder, vocab_size=10), "they belong to different models"),
    "too few positions": (
        lambda folder: rewrite_config(folder, max_position_embeddings=12),
        "the model reads at most 12",
    ),
}


@pytest.mark.parametrize("case", BROKEN_MODELS)
def test_a_broken_model_is_refused_in_words(case: str, task: TaskConfig, tiny_bert: Path, tmp_path: Path) -> None:
    harm, message = BROKEN_MODELS[case]
    folder = shutil.copytree(tiny_bert, tmp_path / "broken")
    harm(folder)
    with pytest.raises(UserError) as caught:
        load_teacher(task, ModelConfig(path=str(folder)), TEACHER)
    assert message in str(caught.value)


ASK = """
import sys
from spd_ray.config.trial import ModelConfig, TaskConfig, TeacherConfig
from spd_ray.base.errors import run_main
from spd_ray.training.teacher import load_teacher

def main():
    task = TaskConfig(name="sst2", path=sys.argv[1], max_length=16)
    model = ModelConfig.model_validate_json(sys.argv[2])
    print("ready", flush=True)  # imports are done
    input()
    print(load_teacher(task, model, TeacherConfig.model_validate_json(sys.argv[3])).folder)

run_main(main)
"""


def asking(task: TaskConfig, model: ModelConfig, **environment: str) -> subprocess.Popen[str]:
    """A process that prints a line when it is ready, and asks for the teacher when it reads one."""
    arguments = (str(task.path), model.model_dump_json(), TEACHER.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", ASK, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_ask_and_one_builds(task: TaskConfig, model: ModelConfig, tmp_path: Path) -> None:
    """Real processes with an empty cache: one teacher, one progress bar, the other waits."""
    runs = [asking(task, model, SPD_RAY_CACHE=str(tmp_path)) for _ in range(2)]
    for run in runs:
        run.stdout.readline()
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    outputs = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    assert built(tmp_path) == 1
    assert sum("teacher of sst2:" in errors for _, errors in outputs) == 1


def test_without_a_hub_one_line_says_which_model_to_give(task: TaskConfig, tmp_path: Path) -> None:
    """A real process whose hub is a closed port."""
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    run = asking(task, ModelConfig(name="bert-base-uncased"), **environment)
    _, errors = run.communicate("go\n")
    assert run.returncode == 2
    assert "--set model.path=FOLDER" in errors
    assert errors.count("\n") == 1


def test_a_name_that_no_hub_has_is_refused(task: TaskConfig) -> None:
    with pytest.raises(UserError, match=r"model\.name: not a name is not available from the hub"):
        load_teacher(task, ModelConfig(name="not a name"), TEACHER)
