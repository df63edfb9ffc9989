"""Tasks: metrics worked by hand, the four sources of examples, and what a user can get wrong."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spd_ray.base.errors import UserError
from spd_ray.config.trial import TaskConfig
from spd_ray.data.metrics import score
from spd_ray.data.tasks import TASKS, load_task

GLUE = Path(os.environ.get("SPD_RAY_GLUE", Path(__file__).parents[2] / "shared" / "glue"))
HEADERS = {
    "cola": "",
    "sst2": "sentence\tlabel\n",
    "mrpc": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n",
    "stsb": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n",
    "qnli": "index\tquestion\tsentence\tlabel\n",
    "rte": "index\tsentence1\tsentence2\tlabel\n",
}
ROWS = {
    "cola": ["gj04\t0\t*\tThe box by sleeps.\n", "gj04\t1\t\tThe sailors sleep.\n"],
    "sst2": ["dull \t0\n", "bright \t1\n"],
    "mrpc": ["0\t12\t34\tHe ate.\tShe slept.\n", "1\t56\t78\tHe ate.\tHe did eat.\n"],
    "stsb": [
        "0\tmain\tMSRvid\t2012\t1\tnone\tnone\tA plane.\tAn aeroplane.\t5.000\n",
        "1\tmain\tMSRvid\t2012\t2\tnone\tnone\tA plane.\tA flute.\t0.5\n",
    ],
    "qnli": ["0\tWho ate?\tHe ate.\tentailment\n", "1\tWho ate?\tIt rains.\tnot_entailment\n"],
    "rte": ["0\tHe ate bread.\tHe ate.\tentailment\n", "1\tHe ate.\tHe slept.\tnot_entailment\n"],
}
FIRST = {
    "cola": ("The box by sleeps.", None, [0, 1]),
    "sst2": ("dull ", None, [0, 1]),
    "mrpc": ("He ate.", "She slept.", [0, 1]),
    "stsb": ("A plane.", "An aeroplane.", [5.0, 0.5]),
    "qnli": ("Who ate?", "He ate.", [0, 1]),
    "rte": ("He ate bread.", "He ate.", [0, 1]),
}


def write_glue(folder: Path, task: str, train: bytes | None = None) -> Path:
    """GLUE files of two rows; `train` replaces the content of train.tsv."""
    content = (HEADERS[task] + "".join(ROWS[task])).encode()
    folder.mkdir(exist_ok=True)
    (folder / "train.tsv").write_bytes(content if train is None else train)
    (folder / "dev.tsv").write_bytes(content)
    return folder


def logits_of(predictions: list[int], classes: int = 2) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[predictions]


def test_metrics_by_hand() -> None:
    """TP 2, FP 1, FN 1, TN 1: accuracy 3/5, F1 4/6, Matthews (2 * 1 - 1 * 1) / sqrt(3 * 3 * 2 * 2)."""
    labels, logits = np.array([1, 1, 1, 0, 0]), logits_of([1, 1, 0, 1, 0])
    assert score("accuracy", logits, labels) == pytest.approx(3 / 5)
    assert score("f1", logits, labels) == pytest.approx(4 / 6)
    assert score("matthews", logits, labels) == pytest.approx(1 / 6)


def test_spearman_by_hand() -> None:
    """Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15) = 0.8."""
    assert score("spearman", np.array([[0.1], [0.5], [0.4], [9.0]]), np.array([0.0, 1.0, 2.0, 3.0])) == pytest.approx(
        0.8
    )


@pytest.mark.parametrize("constant", [0.0, float("nan")])
def test_a_constant_correlates_with_nothing_and_warns_of_nothing(constant: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score("spearman", np.full((3, 1), constant), np.array([0.0, 1.0, 2.0])) == 0.0
        assert score("matthews", logits_of([1, 1, 1]), np.array([0, 1, 1])) == 0.0
        assert score("matthews", logits_of([1, 1]), np.array([1, 1])) == 0.0
        assert score("f1", logits_of([0, 0]), np.array([0, 1])) == 0.0
        assert score("f1", logits_of([0, 0]), np.array([0, 0])) == 0.0


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_scores_stay_in_their_range(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = (np.array(column) for column in zip(*pairs, strict=True))
    for metric, low in (("accuracy", 0), ("f1", 0), ("matthews", -1)):
        assert low <= score(metric, logits_of(list(predictions)), labels) <= 1


def test_majority_scores_by_hand() -> None:
    train, dev = np.array([1, 1, 0]), np.array([1, 0, 0, 1, 1])
    assert TASKS["sst2"].baseline_score(train, dev) == pytest.approx(3 / 5)
    assert TASKS["mrpc"].baseline_score(train, dev) == pytest.approx(2 * 3 / (2 * 3 + 2))
    assert TASKS["mrpc"].baseline_score(1 - train, dev) == 0.0
    assert TASKS["cola"].baseline_score(train, dev) == 0.0
    assert TASKS["stsb"].baseline_score(train.astype(np.float32), dev.astype(np.float32)) == 0.0


@pytest.mark.parametrize("name", HEADERS)
def test_every_task_reads_its_own_layout(name: str, tmp_path: Path) -> None:
    data = load_task(TaskConfig(name=name, path=str(write_glue(tmp_path, name))))
    text_a, text_b, labels = FIRST[name]
    assert data.train.text_a[0] == text_a
    assert (data.train.text_b and data.train.text_b[0]) == text_b
    assert data.train.labels.tolist() == labels
    assert data.train.labels.dtype == (np.float32 if name == "stsb" else np.int64)
    assert data.dev.text_a == data.train.text_a


@pytest.mark.parametrize("name", HEADERS)
def test_a_saved_datasets_directory_gives_the_same_as_the_files(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    data = load_task(TaskConfig(name=name, path=str(write_glue(tmp_path / "tsv", name))))
    texts = [data.train.text_a] + ([data.train.text_b] if data.train.text_b else [])
    label = datasets.Value("float32") if task.labels is None else datasets.ClassLabel(names=list(task.labels))
    columns = dict(zip(task.text_columns, texts, strict=True)) | {"label": data.train.labels.tolist()}
    rows = datasets.Dataset.from_dict(columns).cast_column("label", label)
    datasets.DatasetDict(train=rows, validation=rows).save_to_disk(tmp_path / "saved")
    saved = load_task(TaskConfig(name=name, path=str(tmp_path / "saved")))
    assert saved.fingerprint == data.fingerprint


def test_quotes_and_odd_line_breaks_are_plain_text(tmp_path: Path) -> None:
    train = 'sentence\tlabel\r\n"unbalanced\t0\r\nnext\u2028line\x85\t1\r\n'.encode()
    data = load_task(TaskConfig(name="sst2", path=str(write_glue(tmp_path, "sst2", train))))
    assert data.train.text_a == ['"unbalanced', "next\u2028line\x85"]


RTE = HEADERS["rte"] + ROWS["rte"][0]
BROKEN = {
    "too few columns": ("rte", RTE + "1\tonly\n", "line 3: 2 columns where 4 are needed"),
    "too many columns": ("rte", RTE + "1\ta\tb\tc\tentailment\n", "line 3: 5 columns where 4"),
    "blank line": ("rte", RTE + "\n" + ROWS["rte"][1], "line 3: 1 columns where 4"),
    "unknown label": ("rte", RTE + "1\ta\tb\tmaybe\n", "line 3: unknown label 'maybe'; known are entailment"),
    "missing column": ("rte", "index\tsentence1\tlabel\n0\ta\tentailment\n", "line 1: no column sentence2"),
    "empty": ("rte", "", "no examples"),
    "header only": ("rte", HEADERS["rte"], "no examples"),
    "empty without header": ("cola", "", "no examples"),
    "cola with a header": ("cola", "source\tlabel\tmark\tsentence\n", "line 1: unknown label 'label'"),
    "not a number": ("stsb", HEADERS["stsb"] + ROWS["stsb"][0].replace("5.000", "high"), "line 2: label 'high'"),
    "not finite": ("stsb", HEADERS["stsb"] + ROWS["stsb"][0].replace("5.000", "nan"), "line 2: label 'nan'"),
    "out of range": ("stsb", HEADERS["stsb"] + ROWS["stsb"][0].replace("5.000", "5.1"), "from 0 to 5"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_its_row(case: str, tmp_path: Path) -> None:
    name, content, message = BROKEN[case]
    folder = write_glue(tmp_path, name, content.encode())
    with pytest.raises(UserError) as caught:
        load_task(TaskConfig(name=name, path=str(folder)))
    assert message in str(caught.value)
    assert str(folder / "train.tsv") in str(caught.value)


def test_bytes_that_are_not_utf8_are_named_with_their_row(tmp_path: Path) -> None:
    folder = write_glue(tmp_path, "sst2", b"sentence\tlabel\nfine\t1\ncaf\xe9\t1\n")
    with pytest.raises(UserError, match=r"train\.tsv, line 3: not UTF-8"):
        load_task(TaskConfig(name="sst2", path=str(folder)))


def test_missing_files_and_names(tmp_path: Path) -> None:
    folder = write_glue(tmp_path / "rte", "rte")
    (folder / "dev.tsv").unlink()
    for config, message in (
        (TaskConfig(name="rte", path=str(folder)), "has no dev.tsv"),
        (TaskConfig(name="rte", path=str(tmp_path / "nowhere")), "is not a directory"),
        (TaskConfig(name="rte", path=str(folder / "train.tsv")), "is not a directory"),
        (TaskConfig(name="wnli"), "task.name: 'wnli' is unknown; known are cola, "),
        (TaskConfig(name="mini_entailment", path=str(folder)), "leave task.path out"),
    ):
        with pytest.raises(UserError) as caught:
            load_task(config)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sentence1": ["a"], "label": [0]}, "train: no column sentence2"),
        ({"sentence1": ["a"], "sentence2": [None], "label": [0]}, "train, sentence2, row 0: None is not text"),
        ({"sentence1": ["a"] * 2, "sentence2": ["b"] * 2, "label": [0, -1]}, "train, row 1: unknown label -1"),
        ({"sentence1": [], "sentence2": [], "label": []}, "saved is not a readable `datasets` directory"),
    ],
)
def test_broken_saved_datasets(columns: dict[str, list], message: str, tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict(columns)
    datasets.DatasetDict(train=rows, validation=rows).save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError, match=message):
        load_task(TaskConfig(name="rte", path=str(tmp_path / "saved")))


def test_a_saved_datasets_directory_with_other_classes_or_splits_is_refused(tmp_path: Path) -> None:
    columns = {"sentence1": ["a"], "sentence2": ["b"], "label": [0]}
    rows = datasets.Dataset.from_dict(columns).cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
    datasets.DatasetDict(train=rows, validation=rows).save_to_disk(tmp_path / "classes")
    datasets.DatasetDict(train=rows).save_to_disk(tmp_path / "splits")
    (tmp_path / "corrupt").mkdir()
    (tmp_path / "corrupt" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    for name, message in (
        ("classes", "its classes are"),
        ("splits", "no split validation"),
        ("corrupt", "not a readable"),
    ):
        with pytest.raises(UserError, match=message):
            load_task(TaskConfig(name="rte", path=str(tmp_path / name)))


def test_subsets_are_fixed_and_nested(tmp_path: Path) -> None:
    train = HEADERS["sst2"] + "".join(f"sentence {i}\t{i % 2}\n" for i in range(40))
    path = str(write_glue(tmp_path, "sst2", train.encode()))
    small, again, large = (load_task(TaskConfig(name="sst2", path=path, train_examples=size)) for size in (10, 10, 20))
    assert small.fingerprint == again.fingerprint != large.fingerprint
    assert len(small.train.text_a) == len(small.train.labels) == 10
    assert set(small.train.text_a) < set(large.train.text_a)
    assert [int(text.split()[1]) % 2 for text in small.train.text_a] == small.train.labels.tolist()
    with pytest.raises(UserError, match="41 asked for, but the training set has 40"):
        load_task(TaskConfig(name="sst2", path=path, train_examples=41))


def test_the_fingerprint_is_of_content_alone(tmp_path: Path) -> None:
    first = load_task(TaskConfig(name="rte", path=str(write_glue(tmp_path / "a", "rte"))))
    second = load_task(TaskConfig(name="rte", path=str(write_glue(tmp_path / "b", "rte"))))
    changed = write_glue(tmp_path / "c", "rte", (RTE + ROWS["rte"][1].replace("slept", "sleeps")).encode())
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != load_task(TaskConfig(name="rte", path=str(changed))).fingerprint


OFFLINE = """
from spd_ray.config.trial import TaskConfig
from spd_ray.base.errors import run_main
from spd_ray.data.tasks import load_task
run_main(lambda: load_task(TaskConfig(name="rte")) and None)
"""


@pytest.mark.parametrize("variable", ["HF_ENDPOINT=http://127.0.0.1:9", "HF_HUB_OFFLINE=1"])
def test_without_a_hub_one_line_says_what_to_give(variable: str, tmp_path: Path) -> None:
    """A real process whose hub is a closed port. `datasets` alone would print six lines in 23 s of retries."""
    name, value = variable.split("=", 1)
    environment = os.environ | {name: value, "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", OFFLINE]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 2
    assert "--set task.path=FOLDER" in run.stderr
    assert "search_spaces/demo.yaml" in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["mini_entailment", "mini_acceptability", "mini_similarity"])
def test_the_miniature_needs_no_files(name: str) -> None:
    data = load_task(TaskConfig(name=name, train_examples=40))
    assert len(data.train.text_a) == len(data.train.labels) == 40
    assert (data.train.text_b is None) == (len(data.task.text_columns) == 1)
    assert load_task(TaskConfig(name=name, train_examples=40)).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("name", "folder", "train", "dev", "majority"),
    [("rte", "RTE", 2490, 277, 146 / 277), ("cola", "CoLA", 8551, 1043, 0.0), ("sst2", "SST-2", 67349, 872, 444 / 872)],
)
def test_glue_itself(name: str, folder: str, train: int, dev: int, majority: float) -> None:
    """The published sizes and majority baselines (RTE 52.7, SST-2 50.9)."""
    if not (GLUE / folder).is_dir():
        pytest.skip(f"no {folder} in {GLUE}; set SPD_RAY_GLUE")
    data = load_task(TaskConfig(name=name, path=str(GLUE / folder)))
    assert len(data.train.labels) == train
    assert len(data.dev.labels) == dev
    assert data.task.baseline_score(data.train.labels, data.dev.labels) == pytest.approx(majority)
