"""Tasks of the user's own: labels of every type, metrics, and what does not go together."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spd_ray.base import user_code
from spd_ray.base.errors import UserError
from spd_ray.config import load, section, sweep
from spd_ray.config.load import load_spec
from spd_ray.config.task import TaskConfig
from spd_ray.data import metrics
from spd_ray.data.own import label_name
from spd_ray.data.tasks import load_task, metric_of
from tests.own_data import LABELS, TEXTS, load_both, own_task


def test_the_fingerprint_is_of_what_is_learnt_and_of_nothing_else(tmp_path: Path) -> None:
    columns = {"text": TEXTS, "label": LABELS}
    first = load_both(tmp_path, columns).fingerprint
    assert load_both(tmp_path, {"other": [""] * 6, **columns}, metric="macro_f1").fingerprint == first
    assert load_both(tmp_path, {"text": [*TEXTS[:-1], '"'], "label": LABELS}).fingerprint != first
    assert load_both(tmp_path, {"text": TEXTS, "label": [*LABELS[:-1], "spam"]}).fingerprint != first
    assert load_both(tmp_path, columns, labels=("spam", "ham")).fingerprint != first


def test_two_columns_are_a_pair(tmp_path: Path) -> None:
    columns = {"premise": TEXTS, "claim": TEXTS[::-1], "label": LABELS}
    train = load_both(tmp_path, columns, text_columns=("premise", "claim")).train
    assert (train.text_a, train.text_b) == (TEXTS, TEXTS[::-1])


@pytest.mark.parametrize(
    ("values", "classes", "indices"),
    [
        ([3, 1, 2, 1], ("1", "2", "3"), [2, 0, 1, 0]),
        ([10, 9, 10, 9], ("9", "10"), [1, 0, 1, 0]),
        ([1.0, 0.0, 0.0, 1.0], ("0", "1"), [1, 0, 0, 1]),
        ([0.5, 1.5, 0.5, 1.5], ("0.5", "1.5"), [0, 1, 0, 1]),
        ([True, False, False, True], ("false", "true"), [1, 0, 0, 1]),
        (["b", "a", "b", "a"], ("a", "b"), [1, 0, 1, 0]),
        (["01", "1", "1", "01"], ("01", "1"), [0, 1, 1, 0]),
    ],
)
def test_labels_of_every_type_are_classes_by_name(
    values: list[Any], classes: tuple[str, ...], indices: list[int], tmp_path: Path
) -> None:
    for ending in (".csv", ".jsonl", ".parquet", ".saved"):
        data = load_both(tmp_path, {"text": list("wxyz"), "label": values}, ending)
        assert data.task.labels == classes
        assert data.train.labels.tolist() == indices


def test_numbers_are_regression(tmp_path: Path) -> None:
    for ending in (".csv", ".jsonl", ".parquet", ".saved"):
        for metric in ("spearman", "pearson", "mse"):
            data = load_both(tmp_path, {"text": list("xyz"), "label": [1.5, -2.0, 1e3]}, ending, metric=metric)
            assert (data.task.labels, data.task.num_labels) == (None, 1)
            assert data.train.labels.tolist() == [1.5, -2.0, 1e3]
            assert data.train.labels.dtype == np.float32


def test_named_labels_have_the_order_that_is_written(tmp_path: Path) -> None:
    columns = {"text": list("xyz"), "label": ["yes", "no", "no"]}
    data = load_both(tmp_path, columns, labels=("yes", "no", "perhaps"))
    assert data.task.labels == ("yes", "no", "perhaps")
    assert data.train.labels.tolist() == [0, 1, 1]


def test_numbers_that_are_taken_for_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="15 classes in 20 examples; for numbers the metric is spearman"):
        load_both(tmp_path, {"text": ["x"] * 20, "label": [min(i, 14) / 10 for i in range(20)]})


def test_a_name_that_is_known_is_not_given_twice(tmp_path: Path) -> None:
    own = own_task(tmp_path).model_copy(update={"name": "rte"})
    with pytest.raises(UserError, match=r"task\.name: rte is the name of a task that is known"):
        load_task(own)


OWN = "train_file: t.csv, dev_file: d.csv, text_columns: [a], label_column: b, metric: accuracy"
SECTIONS = {
    "text_columns: [a]": "one source is needed",
    OWN.replace(", label_column: b", ""): "a task of your own needs label_column too",
    OWN.replace("metric: accuracy", "metric: acuracy"): "unknown metric; did you mean accuracy?",
    OWN.replace(", metric: accuracy", ""): "needs metric too",
    OWN.replace("dev_file: d.csv, ", ""): "dev_file is missing",
    OWN + ", hub: a/b": "one source is needed",
    OWN + ", also: [mse]": "mse is of numbers, the labels are classes",
    OWN + ", also: [accuracy]": "the metrics must differ",
    OWN + ", regression: true": "accuracy is of classes, the labels are numbers",
    OWN + ", labels: [no, yes]": "must be text",
    OWN + ", labels: [x, x]": "the labels must differ",
    OWN + ", config: small": "files have no config",
    OWN + ", encoding: utf-9": "unknown encoding",
    OWN + ", delimiter: '::'": "at most 1 character",
    OWN.replace("[a]", "[a, b, c]"): "at most 2 items",
    OWN.replace("[a]", "a"): "must be a list",
    "hub: nobody, text_columns: [a], label_column: b, metric: f1": "must be OWNER/NAME",
    "labels: [x, y]": "needs text_columns too",
}


@pytest.mark.parametrize("section", SECTIONS)
def test_what_does_not_go_together_is_refused_at_load(section: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"study: {{trials: 1}}\ntask: {{name: mail, {section}}}\n")
    with pytest.raises(UserError) as caught:
        load_spec(tmp_path / "x.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/x.yaml, line 2: ")
    assert SECTIONS[section] in str(caught.value).replace("\n", " ")


def test_paths_start_at_the_file_and_those_of_an_override_where_the_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces/x.yaml").write_text(f"task: {{name: mail, {OWN}}}\nmodel: {{path: ../bert}}\n")
    monkeypatch.chdir(tmp_path)
    for space in ("spaces/x.yaml", tmp_path / "spaces/x.yaml"):
        spec = load_spec(space, ["task.dev_file=d.csv"])
        assert Path(str(spec.task.train_file)) == tmp_path / "spaces/t.csv"
        assert Path(str(spec.task.dev_file)) == tmp_path / "d.csv"
        assert Path(str(spec.model.path)).resolve() == tmp_path / "bert"
    assert load_spec({"name": "x", "task": {"name": "rte", "path": "d"}}).task.path == str(tmp_path / "d")


def test_every_path_of_a_space_starts_at_its_file() -> None:
    def holds_path(annotation: Any) -> bool:
        return "_make_absolute" in repr(annotation) or annotation == section.LocalPath

    found = {
        (name, key)
        for name, field in sweep.SweepSpec.model_fields.items()
        for key, inner in getattr(field.annotation, "model_fields", {}).items()
        if holds_path(inner) or holds_path(inner.annotation)
    }
    assert found == set(load.PATHS)


def test_the_papers_preset_holds_for_a_task_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"preset: paper\ntask: {{name: mail, {OWN}}}\n")
    spec = load_spec(tmp_path / "x.yaml")
    assert (spec.method.total_epochs, spec.method.stage2_epochs, spec.teacher.epochs) == (60, 10, 4)


LOGITS = np.eye(3, dtype=np.float32)[[0, 1, 2, 2, 0]]


def test_metrics_of_several_classes_by_hand() -> None:
    """Labels 0 1 2 1 1 against 0 1 2 2 0: F1 of each class 2/3, 1/2, 2/3, so 11/18 in the mean."""
    labels = np.array([0, 1, 2, 1, 1])
    assert metrics.score("accuracy", LOGITS, labels) == pytest.approx(3 / 5)
    assert metrics.score("macro_f1", LOGITS, labels) == pytest.approx(11 / 18)


def test_metrics_of_numbers_by_hand() -> None:
    """Answers 1 2 4 against 1 3 2: errors 0, 1, 4; covariance 2/3 - 0 over sqrt(14/3 * 2)."""
    answers, labels = np.array([[1.0], [2.0], [4.0]], np.float32), np.array([1.0, 3.0, 2.0], np.float32)
    assert metrics.score("mse", answers, labels) == pytest.approx(5 / 3)
    assert metrics.score("neg_mse", answers, labels) == pytest.approx(-5 / 3)
    assert metrics.score("pearson", answers, labels) == pytest.approx(1.0 / np.sqrt(14 / 3 * 2))
    assert metrics.score("pearson", np.zeros((3, 1)), labels) == 0.0


def test_baselines_and_label_counts_by_hand(tmp_path: Path) -> None:
    columns = {"text": list("vwxyz"), "label": ["ham", "ham", "ham", "spam", "junk"]}
    task = load_both(tmp_path, columns, also=("macro_f1",)).task
    train, dev = np.array([0, 0, 0, 2, 1]), np.array([0, 1, 2, 0])
    assert task.describe_labels(train) == "ham 3 (60.0%), junk 1 (20.0%), spam 1 (20.0%)"
    assert task.baseline_score(train, dev) == pytest.approx(1 / 2)
    assert task.baseline_score(train, dev, "macro_f1") == pytest.approx(2 / 9)
    scored = load_both(tmp_path, {"text": list("xy"), "label": [1, 3]}, metric="mse").task
    assert scored.baseline_score(np.array([1.0, 3.0]), np.array([0.0, 2.0])) == pytest.approx(-2.0)
    assert scored.describe_labels(np.array([1.0, 3.0])) == "1 to 3, mean 2, deviation 1"


def test_many_classes_are_described_by_the_most_frequent_and_the_rarest(tmp_path: Path) -> None:
    counts = [9, 1, 8, 2, 7, 3, 6, 4, 5, 5]
    labels = [f"c{index}" for index, count in enumerate(counts) for _ in range(count)]
    data = load_both(tmp_path, {"text": ["x"] * 50, "label": labels})
    shown = "c0 9 (18.0%), c2 8 (16.0%), c4 7 (14.0%), c6 6 (12.0%), c8 5 (10.0%), 4 others, the rarest c1 1 (2.0%)"
    assert data.task.describe_labels(data.train.labels) == shown


def test_f1_is_of_the_second_of_two_classes(tmp_path: Path) -> None:
    columns = {"text": list("wxyz"), "label": ["b", "b", "b", "a"]}
    predictions = np.eye(2, dtype=np.float32)[[1, 1, 1, 1]]
    for labels, expected in ((None, 6 / 7), (("b", "a"), 0.4)):
        data = load_both(tmp_path, columns, metric="f1", labels=labels)
        assert metrics.score("f1", predictions, data.train.labels) == pytest.approx(expected)
    with pytest.raises(UserError, match="f1 is of 2 classes, mail has 3: take macro_f1"):
        load_both(tmp_path, {"text": list("xyz"), "label": [0, 1, 2]}, also=("f1",))


def test_a_known_task_takes_other_metrics_too() -> None:
    task = load_task(
        TaskConfig(name="mini_entailment", train_examples=40, metric="matthews", also=("accuracy", "f1"))
    ).task
    assert (task.metric, task.also) == ("matthews", ("accuracy", "f1"))
    assert metric_of(TaskConfig(name="stsb")) == "spearman"
    assert metric_of(TaskConfig(name="stsb", metric="mse")) == "neg_mse"
    with pytest.raises(UserError, match="accuracy is of classes, the labels are numbers in mini_similarity"):
        load_task(TaskConfig(name="mini_similarity", train_examples=40, also=("accuracy",)))


CODE = """
def recall(labels, answers):
    return (answers[labels == 1] == 1).mean()
def broken(labels, answers):
    return float("nan")
number = 3
"""


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the folder in which the program runs; code is not allowed yet."""
    (tmp_path / "my_metrics.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [""])
    monkeypatch.delenv(user_code.ALLOWED, raising=False)
    monkeypatch.delitem(sys.modules, "my_metrics", raising=False)
    metrics._own_function.cache_clear()
    return tmp_path


def test_code_runs_only_where_it_is_allowed(own_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"text": list("wxyz"), "label": [0, 1, 1, 1]}
    with pytest.raises(UserError, match="my_metrics:recall is code of your own; add --allow-code"):
        load_both(own_code, columns, metric="my_metrics:recall")
    assert "my_metrics" not in sys.modules
    monkeypatch.setenv(user_code.ALLOWED, "1")
    data = load_both(own_code, columns, metric="my_metrics:recall")
    answers = np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]
    assert metrics.score(data.task.metric, answers, data.train.labels) == pytest.approx(2 / 3)
    numbers = load_both(own_code, columns, metric="my_metrics:recall", regression=True)
    assert numbers.task.is_regression
    key = metrics.metrics_key(["my_metrics:recall"])
    (own_code / "my_metrics.py").write_text(CODE + "\n")
    assert metrics.metrics_key(["my_metrics:recall"]) != key
    for name, message in (
        ("my_metrics:none", "cannot be loaded"),
        ("no_such:f", "cannot be loaded"),
        ("my_metrics:number", "is not a function"),
    ):
        with pytest.raises(UserError, match=message):
            load_both(own_code, columns, metric=name)
    with pytest.raises(UserError, match="my_metrics:broken is nan; a finite number"):
        metrics.score("my_metrics:broken", answers, data.train.labels)


@given(
    st.one_of(
        st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text().filter(str.strip)
    )
)
def test_a_labels_name_is_its_own_name(value: Any) -> None:
    name = label_name(value)
    assert name is not None
    assert label_name(name) == name
