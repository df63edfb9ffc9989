"""Scores over dev examples and paired tests: against scikit-learn and scipy, by hand, and by simulation."""

from pathlib import Path

import numpy as np
import pytest
from hand_made_sweep import read, trial
from scipy.stats import binomtest, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef

from analysis.__main__ import main
from analysis.numbers import over_examples, retained_students
from analysis.numbers.over_examples import difference_interval, mcnemar, paired_p, score, score_interval
from spd_ray.records import layout
from spd_ray.records.parquet import write_parquet
from spd_ray.records.schema import PREDICTION_SCHEMA, PredictionRecord
from spd_ray.records.trials import write_trials

GENERATOR = np.random.default_rng(11)
LABEL = GENERATOR.integers(0, 2, 60)
ANSWER = np.where(GENERATOR.random(60) < 0.8, LABEL, 1 - LABEL)


def test_scores_are_scikit_learns_also_of_resamples() -> None:
    picked = GENERATOR.integers(60, size=60)
    weights = np.bincount(picked, minlength=60)[None].astype(float)
    label, answer = LABEL[picked], ANSWER[picked]
    values = GENERATOR.normal(size=60).round(1)
    expected = {
        "accuracy": (label == answer).mean(),
        "f1": f1_score(label, answer),
        "matthews": matthews_corrcoef(label, answer),
    }
    for metric, value in expected.items():
        assert score(metric, label, answer) == pytest.approx(value)
        assert over_examples._scores(metric, LABEL, ANSWER, weights)[0] == pytest.approx(value)
    label3, answer3 = GENERATOR.integers(0, 3, (2, 60))
    several = {
        "macro_f1": f1_score(label3[picked], answer3[picked], average="macro"),
        "matthews": matthews_corrcoef(label3[picked], answer3[picked]),
        "neg_mse": -np.square(label3 - answer3)[picked].mean(),
        "pearson": np.corrcoef(label3[picked], answer3[picked])[0, 1],
    }
    for metric, value in several.items():
        assert over_examples._scores(metric, label3, answer3, weights)[0] == pytest.approx(value)
    ranks = spearmanr(values[picked], label).statistic
    assert over_examples._scores("spearman", LABEL, values, weights)[0] == pytest.approx(ranks)
    assert score("matthews", LABEL, np.ones(60)) == 0


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs() -> None:
    right, other = GENERATOR.random((2, 200)) < [[0.9], [0.8]]
    b, c = (right & ~other).sum(), (~right & other).sum()
    assert mcnemar(right, other) == pytest.approx(binomtest(b, b + c).pvalue)
    assert mcnemar(right, right) == 1
    assert mcnemar(np.arange(20) < 6, np.zeros(20, bool)) == 2 / 64


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_intervals_over_examples_cover_the_truth(metric: str) -> None:
    """Balanced labels, 80% right in both classes: accuracy and F1 of the population are 0.8."""
    generator, inside = np.random.default_rng(12), []
    for _ in range(200):
        label = generator.integers(0, 2, 300)
        answer = np.where(generator.random(300) < 0.8, label, 1 - label)
        low, high = score_interval(metric, label, answer)
        inside.append(low <= 0.8 <= high)
    assert np.mean(inside) >= 0.95 - 3 * (0.95 * 0.05 / 200) ** 0.5


@pytest.mark.parametrize(("metric", "most"), [("accuracy", 0.05), ("spearman", 0.07)])
def test_equal_models_are_told_apart_in_at_most_5_percent(metric: str, most: float) -> None:
    """McNemar's exact test keeps its level; the bootstrap's of correlations is a little too eager at 100 examples."""
    generator, told, studies = np.random.default_rng(13), [], 300 if metric == "accuracy" else 40
    for _ in range(studies):
        label = generator.normal(size=100) if metric == "spearman" else generator.integers(0, 2, 100)
        if metric == "spearman":
            one, other = label + generator.normal(size=(2, 100))
        else:
            one, other = np.where(generator.random((2, 100)) < 0.8, label, 1 - label)
        told.append(paired_p(metric, label, one, other) <= 0.05)
    assert np.mean(told) <= most + 3 * (most * (1 - most) / studies) ** 0.5


def test_the_paired_interval_is_of_the_examples_on_which_two_models_differ() -> None:
    label = np.zeros(100)
    one, other = (np.arange(100) < 20).astype(float), (np.arange(100) < 10).astype(float)  # errors: 20, 10 of the same
    low, high = difference_interval("accuracy", label, one, other)
    assert (low, high) == pytest.approx((-0.16, -0.05), abs=0.011)  # Binomial(100, 0.1): 2.5% and 97.5% points
    alone = score_interval("accuracy", label, one)
    assert alone[1] - alone[0] > high - low


def write_answers(folder: Path, name: str, answers: np.ndarray, labels: np.ndarray) -> None:
    rows = [
        PredictionRecord(example=index, label=float(label), prediction=float(answer))
        for index, (label, answer) in enumerate(zip(labels, answers, strict=True))
    ]
    write_parquet(rows, PREDICTION_SCHEMA, layout.predictions(folder, name))


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    """A teacher that errs on 10 of 100 examples, students that err on 30 and 12; 2-s0 is retained no more."""
    folder, labels = tmp_path / "sweep", np.arange(100) % 2
    write_trials(folder, [
        trial(0, checkpoint="checkpoints/0-s0"), trial(1, checkpoint="checkpoints/1-s0"), trial(2),
    ])  # fmt: skip
    for name, errors in (("teacher", 10), ("0-s0", 30), ("1-s0", 12), ("2-s0", 0)):
        write_answers(folder, name, np.where(np.arange(100) < errors, 1 - labels, labels), labels)
    return folder


def test_retained_students_are_compared_with_the_teacher_and_the_best(answered: Path) -> None:
    best, worse = retained_students.compute(read(answered.parent)[0])
    assert (best.trial.trial_id, best.score, best.examples) == ("1-s0", pytest.approx(0.88), 100)
    assert best.low < 0.88 < best.high
    (to_teacher,) = best.differences
    assert (to_teacher.other, to_teacher.value) == ("teacher", pytest.approx(-0.02))
    assert to_teacher.p == pytest.approx(0.5)  # 2 examples of one side: 2 x 1/4
    assert [(one.other, round(one.value, 2)) for one in worse.differences] == [("teacher", -0.2), ("1-s0", -0.18)]
    assert [one.p for one in worse.differences] == pytest.approx([3 * 2 / 2**20, 2 * 2 / 2**18])  # Holm over three


def test_they_stand_in_the_tables_and_a_broken_file_is_one_line(answered: Path, tmp_path: Path) -> None:
    assert main(["--sweep", str(answered), "--out", str(tmp_path / "out")]) == []
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "## Retained students of sweep over dev examples" in text
    assert "| 1-s0 | spd | 0.900 | 0.880 |" in text
    page = (tmp_path / "out" / "index.html").read_text().partition('<section id="students">')[2]
    assert '<tr><th scope="row">1-s0</th><td>spd</td><td>0.900</td><td>0.880</td>' in page.partition("</section>")[0]
    layout.predictions(answered, "0-s0").write_bytes(b"PAR1")
    (problem,) = main(["--sweep", str(answered), "--out", str(tmp_path / "out")])
    assert "predictions/0-s0.parquet: cannot be read" in problem
