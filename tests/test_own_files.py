"""The user's own files: every kind is read as it was written, and what is broken is named with its row."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spd_ray.base.errors import UserError
from spd_ray.data.own import label_name
from spd_ray.data.tasks import load_task
from tests.own_data import LABELS, TEXTS, load_both, own_task, write, write_csv


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".saved"])
def test_every_kind_of_file_gives_the_same_task(ending: str, tmp_path: Path) -> None:
    data = load_both(tmp_path, {"id": list(range(6)), "label": LABELS, "text": TEXTS}, ending)
    assert data.train.text_a == TEXTS
    assert data.task.labels == ("ham", "spam")
    assert data.train.labels.tolist() == [1, 0, 0, 1, 0, 0]
    assert data.train.labels.dtype == np.int64
    (tmp_path / "csv").mkdir()
    assert data.fingerprint == load_both(tmp_path / "csv", {"text": TEXTS, "label": LABELS}).fingerprint


def test_the_class_names_of_datasets_are_kept_in_every_form(tmp_path: Path) -> None:
    """Also in Parquet, where `datasets` writes them into the file's metadata, and in a copy of a hub's repository."""
    rows = datasets.Dataset.from_dict({"text": ["x", "y", "z"], "label": [2, 0, 2]})
    rows = rows.cast_column("label", datasets.ClassLabel(names=["zero", "one", "two"]))
    rows.to_parquet(tmp_path / "train.parquet")
    rows.to_parquet(tmp_path / "dev.parquet")
    datasets.DatasetDict(train=rows, validation=rows).save_to_disk(tmp_path / "saved")
    (tmp_path / "hub/data").mkdir(parents=True)
    rows.to_parquet(tmp_path / "hub/data/train-00000-of-00001.parquet")
    rows.to_parquet(tmp_path / "hub/data/validation-00000-of-00001.parquet")
    own = {"train_file": None, "dev_file": None}
    for task in (
        own_task(tmp_path, "train.parquet"),
        own_task(tmp_path, **own, path=str(tmp_path / "saved")),
        own_task(tmp_path, **own, path=str(tmp_path / "hub")),
    ):
        data = load_task(task)
        assert data.task.labels == ("zero", "one", "two")
        assert data.train.labels.tolist() == [2, 0, 2]


def test_a_hub_dataset_has_configs_and_splits(tmp_path: Path) -> None:
    """A folder of the hub's layout: two configurations, of which one is named, and splits by other names."""
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
        for split in ("fit", "check"):
            write_csv(tmp_path / f"{name}/{split}.csv", {"text": [name, split], "label": [0, 1]})
    parts = "".join(
        f"- config_name: {name}\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {name}/{split}.csv\n" for split in ("fit", "check"))
        for name in ("small", "large")
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{parts}---\n")
    own = {"train_file": None, "dev_file": None, "path": str(tmp_path), "train_split": "fit", "dev_split": "check"}
    assert load_task(own_task(tmp_path, **own, config="large")).train.text_a == ["large", "fit"]
    assert load_task(own_task(tmp_path, **own, config="small")).dev.text_a == ["small", "check"]
    for changes, message in (
        ({}, "cannot be loaded"),
        ({"config": "small", "dev_split": "validation"}, "task.dev_split: .* has no split validation; it has fit, che"),
        ({"config": "small", "label_column": "target"}, "no column target; it has text, label"),
    ):
        with pytest.raises(UserError, match=message):
            load_task(own_task(tmp_path, **{**own, **changes}))


def test_a_hub_that_does_not_answer_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"task\.hub: nobody/nothing cannot be loaded .* task\.train_file"):
        load_task(own_task(tmp_path, train_file=None, dev_file=None, hub="nobody/nothing"))


ENCODED = {
    "utf-8": (TEXTS, None),
    "utf-8-sig": (TEXTS, None),
    "utf-16": (TEXTS, None),
    "utf-16-le": (TEXTS, "utf-16-le"),
    "cp1252": (["na\u00efve \u2013 \u20ac5", "caf\u00e9"], "cp1252"),
    "shift_jis": (["\u65e5\u672c\u8a9e", "\u30c6\u30ad\u30b9\u30c8"], "shift_jis"),
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_encodings(encoding: str, tmp_path: Path) -> None:
    """A mark tells UTF-8 and UTF-16; another encoding is written down."""
    texts, named = ENCODED[encoding]
    for split in ("train", "dev"):
        write_csv(
            tmp_path / f"{split}.csv", {"text": texts, "label": [i % 2 for i in range(len(texts))]}, ",", encoding
        )
    assert load_task(own_task(tmp_path, encoding=named)).train.text_a == texts


def test_delimiters_line_ends_blank_lines_and_plain_quotes(tmp_path: Path) -> None:
    for train, changes in (
        (b"text;label\r\nx;1\r\n\r\n;\r\ny;0\r\n\r\n", {"delimiter": ";"}),
        (b"\n text , label \nx,1\n  \ny, 0 ", {}),
        (b"text\tlabel\rx\t1\ry\t0\r", {"train_file": str(tmp_path / "train.tsv")}),
    ):
        (tmp_path / "dev.csv").write_bytes(b"text;label\nx;1" if "delimiter" in changes else b"text,label\nx,1")
        for name in ("train.csv", "train.tsv"):
            (tmp_path / name).write_bytes(train)
        data = load_task(own_task(tmp_path, **changes))
        assert (data.train.text_a, data.train.labels.tolist()) == (["x", "y"], [1, 0])
    (tmp_path / "train.tsv").write_text('text\tlabel\n"unbalanced\t0\nin "the" middle\t1\n')
    task = own_task(tmp_path, train_file=str(tmp_path / "train.tsv"), delimiter="\t", quotes=False)
    (tmp_path / "dev.csv").write_text('text\tlabel\n"x"\t0\n')
    assert load_task(task).train.text_a == ['"unbalanced', 'in "the" middle']
    assert load_task(task).dev.text_a == ['"x"']


GOOD = b"text,label\nx,0\ny,1\n"
ROW = b'{"text": "x", "label": 0}\n'
BROKEN: dict[str, tuple[str, bytes, str]] = {
    "no column": ("train.csv", b"text,lable\nx,0\n", "train.csv, line 1: no column label; it has text, lable"),
    "another delimiter": ("train.csv", b"text;label\nx;0\n", "line 1: no column text; it has text;label"),
    "a column twice": ("train.csv", b"text,label,text\nx,0,y\n", "line 1: column text is there twice"),
    "too many fields": ("train.csv", GOOD + b"a, b,1\n", "line 4: 3 fields where 2 are needed (text, label)"),
    "after a quoted break": ("train.csv", b'text,label\n"x\ny",0\nz\n', "line 4: 1 fields where 2"),
    "open quote": ("train.csv", GOOD + b'"never closed,1\nz,0\n', "line 4: unexpected end of data; a quote"),
    "stray quote": ("train.csv", GOOD + b'"a" b,1\n', "line 4: ',' expected after '\"'; a quote"),
    "no text": ("train.csv", GOOD + b",1\n", "line 4: no text in column text"),
    "blank text": ("train.csv", GOOD + b'"  ",1\n', "line 4: no text in column text"),
    "no label": ("train.csv", GOOD + b"z,\n", "line 4: no label"),
    "unknown label in dev": ("dev.csv", b"text,label\nx,0\ny,2\n", "line 3: unknown label '2'; known are 0, 1; task."),
    "one class": ("train.csv", b"text,label\nx,0\ny,0\n", "column label has one class alone, '0'"),
    "empty": ("train.csv", b"", "train.csv: no examples"),
    "header only": ("train.csv", b"text,label\n\n", "train.csv: no examples"),
    "not UTF-8": ("train.csv", GOOD + b"caf\xe9,1\n", "line 4: byte 0xe9 is not utf-8"),
    "UTF-16 without a mark": ("train.csv", GOOD.decode().encode("utf-16-le"), "line 1: a zero byte; UTF-16"),
    "not JSON": ("train.jsonl", ROW + b'{"text": x}', "train.jsonl, line 2: not JSON"),
    "no object": ("train.jsonl", b'\n["x", 0]\n', 'line 2: not an object, such as {"text": ..., "label": ...}'),
    "no key": ("train.jsonl", b'{"text": "x"}\n', "line 1: no column label; it has text"),
    "null text": ("train.jsonl", ROW + b'{"text": null, "label": 1}\n', "line 2: no text"),
    "null label": ("train.jsonl", ROW + b'{"text": "y", "label": null}\n', "line 2: no label"),
    "number for text": ("train.jsonl", ROW + b'{"text": 5, "label": 1}', "line 2: column text: 5"),
    "list for label": ("train.jsonl", ROW + b'{"text": "y", "label": [1]}', "line 2: the label [1]"),
    "half a character": ("train.jsonl", ROW + b'{"text": "\\ud83d", "label": 1}', "line 2: column text has half"),
    "no Parquet": ("train.parquet", GOOD, "train.parquet: cannot be read as Parquet"),
    "unknown ending": ("train.xlsx", GOOD, "its kind is not known by its ending; known are .csv, .tsv"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_named_with_file_and_row(case: str, tmp_path: Path) -> None:
    name, content, message = BROKEN[case]
    for file in ("train.csv", "dev.csv"):
        (tmp_path / file).write_bytes(GOOD)
    (tmp_path / name).write_bytes(content)
    files = {"train_file": str(tmp_path / name)} if name.startswith("train") else {}
    with pytest.raises(UserError) as caught:
        load_task(own_task(tmp_path, **files))
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("label", ["high", "", "nan", "inf", "1e39", "1_0", "1,5"])
def test_what_is_no_number_is_refused_in_regression(label: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=f"line 3: the label '{label}' is not a number" if label else "line 3: no label"
    ):
        load_both(tmp_path, {"text": ["x", "y"], "label": ["1.5", label]}, metric="mse")


@pytest.mark.parametrize("ending", [".parquet", ".saved"])
def test_rows_of_tables_are_counted_from_0(ending: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 2 \(from 0\): no label"):
        load_both(tmp_path, {"text": list("xyz"), "label": [1, 0, None]}, ending)
    with pytest.raises(UserError, match=r"row 1 \(from 0\): no text in column text"):
        load_both(tmp_path, {"text": ["x", None, "z"], "label": [1, 0, 1]}, ending)
    with pytest.raises(UserError, match="no column label; it has text"):
        load_both(tmp_path, {"text": ["x"]}, ending)


def test_files_that_are_missing_are_named_by_their_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.train_file: .*train\.csv: No such file"):
        load_task(own_task(tmp_path))
    with pytest.raises(UserError, match=r"task\.path: .*none is not a directory"):
        load_task(own_task(tmp_path, train_file=None, dev_file=None, path=str(tmp_path / "none")))
    write(tmp_path / "train.saved", {"text": ["x"], "label": [0]})
    saved = datasets.Dataset.from_dict({"text": ["x"], "label": [0]})
    datasets.DatasetDict(train=saved).save_to_disk(tmp_path / "dev.saved")
    with pytest.raises(UserError, match=r"task\.dev_file: .* holds the splits train: give it as task\.path"):
        load_task(own_task(tmp_path, "train.saved"))


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
ANY_LABEL = ANY_TEXT.map(str.strip).filter(lambda text: label_name(text) == text)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(ANY_TEXT, st.integers(0, 2)), min_size=3, max_size=8),
    names=st.lists(ANY_LABEL, min_size=3, max_size=3, unique=True),
    kind=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_whatever_a_csv_writer_or_json_or_parquet_holds_is_read_back(
    rows: list[tuple[str, int]], names: list[str], kind: str, encoding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Texts with quotes, delimiters, line breaks of every kind and any script; labels that are any text."""
    folder = tmp_path_factory.mktemp("round")
    rows = [*rows, *((name, index) for index, name in enumerate(names))]
    columns = {"text": [text for text, _ in rows], "label": [names[index] for _, index in rows]}
    for split in ("train", "dev"):
        file = folder / f"{split}{kind}"
        if kind in (".csv", ".tsv"):
            write_csv(file, columns, "\t" if kind == ".tsv" else ",", encoding)
        else:
            write(file, columns)
    data = load_task(own_task(folder, f"train{kind}"))
    assert data.train.text_a == columns["text"]
    assert data.task.labels is not None
    assert [data.task.labels[index] for index in data.train.labels] == columns["label"]
    assert set(data.task.labels) == set(columns["label"])
