"""A fine-tuned checkpoint of the user's as the teacher: taken as it is, its classes by their names, or refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

from spd_ray.base.errors import UserError
from spd_ray.checks.model_fit import check_model
from spd_ray.checks.untrained import load_untrained
from spd_ray.config.load import load_spec
from spd_ray.config.trial import ModelConfig, TeacherConfig
from spd_ray.data.tasks import load_task
from spd_ray.driver.summary import teacher_line
from spd_ray.model.classifier import order_of_outputs, trained_classifier
from spd_ray.training.teacher import load_teacher, predict

NOT_THERE = ModelConfig(path="/there/is/no/encoder")  # nothing is read of it


@pytest.fixture
def tuned(tiny_teacher, tmp_path, monkeypatch):
    """The files of a fine-tuned classifier, and an empty cache."""
    monkeypatch.setenv("SPD_RAY_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(tiny_teacher.teacher.folder, tmp_path / "mine")


def rename(folder, *names):
    file = folder / "config.json"
    config = json.loads(file.read_text()) | {"id2label": dict(enumerate(names))}
    config["label2id"] = {name: index for index, name in enumerate(names)}
    file.write_text(json.dumps(config))


def swap_outputs(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.copy_(parameter[[1, 0]].clone())
    model.save_pretrained(folder)


def load(tiny_teacher, folder, **settings):
    return load_teacher(tiny_teacher.configs[0], NOT_THERE, TeacherConfig(path=str(folder), gate=False, **settings))


def test_it_is_the_teacher_without_training_whatever_the_recipe_says(tiny_teacher, tuned):
    own = load(tiny_teacher, tuned)
    for name, weight in own.model.state_dict().items():
        assert torch.equal(weight, tiny_teacher.teacher.model.state_dict()[name]), name
    known = tiny_teacher.teacher
    assert (own.score, own.train_score, own.learning_rate) == (known.score, known.train_score, None)
    assert load(tiny_teacher, tuned, epochs=9).folder == own.folder
    assert "yours, not trained" in teacher_line(own)


def test_classes_in_another_order_are_mapped_by_their_names(tiny_teacher, tuned):
    expected = predict(tiny_teacher.teacher.model, tiny_teacher.teacher.data.dev, 8, "cpu")
    swap_outputs(tuned)
    rename(tuned, "Positive", "NEGATIVE")
    own = load(tiny_teacher, tuned)
    assert (predict(own.model, own.data.dev, 8, "cpu") == expected).all()
    assert own.model.config.id2label == {0: "negative", 1: "positive"}
    assert own.score == tiny_teacher.teacher.score


def test_a_head_of_two_matrices_is_mapped_at_its_last(tiny_sst2, tiny_teacher, tmp_path):
    """RoBERTa's first matrix has C outputs too where C is the hidden size."""
    config = RobertaConfig(
        vocab_size=15, hidden_size=2, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
        id2label={0: "positive", 1: "negative"}, label2id={"positive": 0, "negative": 1},
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager").eval()
    mapped = trained_classifier(tmp_path, load_task(tiny_teacher.configs[0]).task).eval()
    tokens = torch.tensor([[0, 5, 7, 2]])
    assert torch.equal(mapped(tokens).logits, plain(tokens).logits[:, [1, 0]])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("LABEL_0", "LABEL_1"), "id2label has LABEL_0, LABEL_1, but the classes of sst2 are negative, positive"),
        (("negative", "neutral", "positive"), "id2label has negative, neutral, positive, but the classes of sst2"),
    ],
)
def test_other_classes_are_refused_before_anything_is_trained(tiny_teacher, tuned, names, message):
    spec = spec_of(tiny_teacher, tuned)
    if len(names) == 3:
        model = AutoModelForSequenceClassification.from_pretrained(tuned, num_labels=3, ignore_mismatched_sizes=True)
        model.save_pretrained(tuned)
    rename(tuned, *names)
    for ask in (lambda: load(tiny_teacher, tuned), lambda: load_untrained(spec)):
        with pytest.raises(UserError) as caught:
            ask()
        assert message in str(caught.value)
        assert f"teacher.path: {tuned}" in str(caught.value)


def test_a_pretrained_encoder_is_no_teacher(tiny_teacher, tuned):
    model = AutoModelForSequenceClassification.from_pretrained(tuned)
    model.base_model.save_pretrained(tuned)
    rename(tuned, "negative", "positive")
    with pytest.raises(UserError, match=r"2 of its weights are not in its files, first classifier\.bias"):
        load(tiny_teacher, tuned)


def test_names_that_differ_in_signs_alone_are_not_mixed_up(tiny_teacher, tuned):
    model = AutoModelForSequenceClassification.from_pretrained(tuned)
    model.config.id2label = {0: "_", 1: "-"}
    task = replace(load_task(tiny_teacher.configs[0]).task, labels=("-", "_"))
    assert order_of_outputs(model.config, task, "here") == [1, 0]


def spec_of(tiny_teacher, folder: Path):
    task = tiny_teacher.configs[0].model_dump(include={"name", "path", "max_length"})
    return load_spec(
        {"name": "own", "task": task, "teacher": {"path": str(folder)}, "search": {"p0": {"choices": [0.5, 1.0]}}}
    )


def test_the_preflight_looks_at_the_teacher_itself(tiny_teacher, tuned):
    spec = spec_of(tiny_teacher, tuned)
    found = check_model(spec, load_untrained(spec))
    assert found.text.startswith(f"teacher.path: {tuned}: BertForSequenceClassification of")
    assert "fine-tuned again" not in found.text


def test_a_teacher_that_knows_nothing_does_not_pass_the_gate(tiny_teacher, tuned):
    model = AutoModelForSequenceClassification.from_pretrained(tuned)
    torch.nn.init.zeros_(model.classifier.weight)
    model.save_pretrained(tuned)
    with pytest.raises(UserError, match=r"it is yours, not trained here\); give a teacher\.path that was fine-tuned"):
        load_teacher(tiny_teacher.configs[0], NOT_THERE, TeacherConfig(path=str(tuned)))
