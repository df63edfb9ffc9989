"""The GLUE tasks of the paper and the three of the miniature: what they are, their metrics, and their examples.

Shapes: N examples, C classes (C = 1 for regression).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from spd_ray.base.cache import content_key
from spd_ray.base.errors import UserError
from spd_ray.config.trial import TaskConfig
from spd_ray.data import miniature

Metric = Literal["accuracy", "f1", "matthews", "spearman"]
HUB_NAME = "nyu-mll/glue"
SUBSET_SEED = 0  # of `train_examples`: smaller subsets lie inside larger ones


@dataclass(frozen=True)
class TsvLayout:
    """Columns of GLUE's own files. `labels` are the file's words for class 0, 1, ...; empty for regression."""

    columns: tuple[str, ...]
    texts: tuple[str, ...]
    label: str
    labels: tuple[str, ...] = ()
    header: bool = True


@dataclass(frozen=True)
class Task:
    """One task. `text_columns` are the hub's; class i is called `labels[i]`; no labels mean regression."""

    name: str
    text_columns: tuple[str, ...]
    labels: tuple[str, ...] | None
    metric: Metric
    label_range: tuple[float, float] | None = None
    tsv: TsvLayout | None = None

    @property
    def is_regression(self) -> bool:
        return self.labels is None

    @property
    def num_labels(self) -> int:
        """C, the number of outputs: 1 for regression."""
        return 1 if self.labels is None else len(self.labels)


class Examples(NamedTuple):
    """N texts, or pairs of texts, and their labels (N,): int64 class indices, or float32."""

    text_a: list[str]
    text_b: list[str] | None
    labels: np.ndarray


@dataclass(frozen=True)
class TaskData:
    """A task with its examples. `fingerprint` is a hash of the task's name and all its content."""

    task: Task
    train: Examples
    dev: Examples
    fingerprint: str


ENTAILMENT = ("entailment", "not_entailment")
ACCEPTABILITY = ("unacceptable", "acceptable")
ONE, TWO = ("sentence",), ("sentence1", "sentence2")
COLA = TsvLayout(("source", "label", "mark", "sentence"), ONE, "label", ("0", "1"), header=False)
SST2 = TsvLayout(("sentence", "label"), ONE, "label", ("0", "1"))
MRPC = TsvLayout(
    ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"), ("#1 String", "#2 String"), "Quality", ("0", "1")
)
STSB = TsvLayout(("index", "genre", "filename", "year", "old_index", "source1", "source2", *TWO, "score"), TWO, "score")
QNLI = TsvLayout(("index", "question", "sentence", "label"), ("question", "sentence"), "label", ENTAILMENT)
RTE = TsvLayout(("index", *TWO, "label"), TWO, "label", ENTAILMENT)

TASKS = {
    task.name: task
    for task in (
        Task("cola", ONE, ACCEPTABILITY, "matthews", tsv=COLA),
        Task("sst2", ONE, ("negative", "positive"), "accuracy", tsv=SST2),
        Task("mrpc", TWO, ("not_equivalent", "equivalent"), "f1", tsv=MRPC),
        Task("stsb", TWO, None, "spearman", label_range=(0.0, 5.0), tsv=STSB),
        Task("qnli", ("question", "sentence"), ENTAILMENT, "accuracy", tsv=QNLI),
        Task("rte", TWO, ENTAILMENT, "accuracy", tsv=RTE),
        Task("mini_entailment", TWO, ENTAILMENT, "accuracy"),
        Task("mini_acceptability", ONE, ACCEPTABILITY, "matthews"),
        Task("mini_similarity", TWO, None, "spearman"),
    )
}


def score(metric: str, logits: np.ndarray, labels: np.ndarray) -> float:
    """GLUE's score of `logits` (N, C) against `labels` (N,): 1 is best; F1 is of class 1.

    A correlation with constant predictions or constant labels is 0.
    """
    predictions = logits[:, 0] if metric == "spearman" else logits.argmax(axis=1)
    if metric == "accuracy":
        return float(accuracy_score(labels, predictions))
    if metric == "f1":
        return float(f1_score(labels, predictions, pos_label=1, zero_division=0.0))
    if not np.ptp(predictions) > 0 or not np.ptp(labels) > 0:
        return 0.0
    if metric == "matthews":
        return float(matthews_corrcoef(labels, predictions))
    return float(spearmanr(predictions, labels).statistic)


def majority_score(task: Task, train_labels: np.ndarray, dev_labels: np.ndarray) -> float:
    """The dev score of always answering the training set's most frequent class; 0 for correlations."""
    if task.is_regression:
        return 0.0
    counts = np.bincount(train_labels, minlength=task.num_labels)
    logits = np.tile(counts == counts.max(), (len(dev_labels), 1)).astype(np.float32)
    return score(task.metric, logits, dev_labels)


def load_task(config: TaskConfig) -> TaskData:
    """Read the examples of `config.name`: generated, from `config.path`, or from the hub.

    Raises UserError, naming file and row, for whatever is missing or broken.
    """
    if config.name not in TASKS:
        raise UserError(f"task.name: {config.name!r} is unknown; known are {', '.join(TASKS)}")
    task = TASKS[config.name]
    if config.name in miniature.MINI_TASKS:
        if config.path is not None:
            raise UserError(f"task.path: {config.name} is generated and reads no files; leave task.path out")
        generated = miniature.load_mini_task(config.name, config.train_examples)
        train, dev = (_examples(task, [a] if b is None else [a, b], labels) for a, b, labels in generated)
    else:
        train, dev = _read_directory(task, Path(config.path)) if config.path is not None else _read_hub(task)
        if config.train_examples is not None:
            train = _subset(train, config.train_examples)
    content = [[part.text_a, part.text_b, part.labels.tolist()] for part in (train, dev)]
    return TaskData(task, train, dev, content_key({"task": task.name, "content": content}))


def _examples(task: Task, texts: Sequence[list[str]], labels: Sequence[float]) -> Examples:
    dtype = np.float32 if task.is_regression else np.int64
    return Examples(texts[0], texts[1] if len(texts) > 1 else None, np.asarray(labels, dtype))


def _subset(examples: Examples, size: int) -> Examples:
    """`size` examples, always the same ones, in their order."""
    total = len(examples.labels)
    if size > total:
        raise UserError(f"task.train_examples: {size} asked for, but the training set has {total} examples")
    kept = np.sort(np.random.default_rng(SUBSET_SEED).permutation(total)[:size])
    text_a, text_b, labels = examples
    return Examples([text_a[i] for i in kept], text_b and [text_b[i] for i in kept], labels[kept])


def _read_directory(task: Task, folder: Path) -> tuple[Examples, Examples]:
    if not folder.is_dir():
        raise UserError(f"task.path: {folder} is not a directory")
    if (folder / "dataset_dict.json").is_file():
        return _read_saved_datasets(task, folder)
    for name in ("train.tsv", "dev.tsv"):
        if not (folder / name).is_file():
            raise UserError(
                f"task.path: {folder} has no {name}; a folder of GLUE TSV files holds train.tsv and dev.tsv, "
                f"a saved `datasets` directory holds dataset_dict.json"
            )
    return read_tsv(task, folder / "train.tsv"), read_tsv(task, folder / "dev.tsv")


def read_tsv(task: Task, file: Path) -> Examples:
    """Read one of GLUE's own files: tab-separated, no quoting, a row is a line. Raises UserError with file and line."""
    layout = task.tsv
    assert layout is not None, task.name
    lines = list(enumerate(_lines(file), start=1))
    columns = layout.columns
    if layout.header and lines:
        columns = tuple(lines.pop(0)[1].split("\t"))
        missing = [name for name in (*layout.texts, layout.label) if name not in columns]
        if missing:
            raise UserError(
                f"{file}, line 1: no column {', '.join(missing)}; {task.name} needs {', '.join(layout.columns)}"
            )
    if not lines:
        raise UserError(f"{file}: no examples")
    text_indices, label_index = [columns.index(name) for name in layout.texts], columns.index(layout.label)
    texts: list[list[str]] = [[] for _ in text_indices]
    labels = []
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise UserError(
                f"{file}, line {number}: {len(cells)} columns where {len(columns)} are needed ({', '.join(columns)})"
            )
        for column, index in zip(texts, text_indices, strict=True):
            column.append(cells[index])
        labels.append(_label(task, cells[label_index], layout.labels, f"{file}, line {number}"))
    return _examples(task, texts, labels)


def _lines(file: Path) -> list[str]:
    """The lines of `file`, which end at line feeds alone; a byte-order mark and carriage returns are dropped."""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}, line {number}: not UTF-8 ({error.reason})") from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def _label(task: Task, value: Any, names: Sequence[str], place: str) -> float:
    """The number that stands for `value`; a class is given by its index or by one of `names`."""
    if task.label_range is not None:
        low, high = task.label_range
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if low <= number <= high:
            return number
        raise UserError(f"{place}: label {value!r} is not a number from {low:g} to {high:g}")
    if isinstance(value, int) and 0 <= value < len(names):
        return value
    if value in names:
        return names.index(value)
    raise UserError(f"{place}: unknown label {value!r}; known are {', '.join(names)}")


def _read_saved_datasets(task: Task, folder: Path) -> tuple[Examples, Examples]:
    import datasets  # here, since it takes a second that most runs need not wait

    try:
        splits = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, LookupError) as error:
        raise UserError(f"task.path: {folder} is not a readable `datasets` directory ({error})") from error
    return _read_splits(task, splits, str(folder))


def _read_hub(task: Task) -> tuple[Examples, Examples]:
    """From the hub, or, under HF_HUB_OFFLINE=1, from its cache.

    One question is asked first: without a network `load_dataset` alone would retry for 23 seconds.
    """
    import datasets
    import huggingface_hub

    try:
        if not huggingface_hub.constants.HF_HUB_OFFLINE:
            huggingface_hub.HfApi().dataset_info(HUB_NAME, timeout=10)
        splits = datasets.load_dataset(HUB_NAME, task.name)
    except Exception as error:  # whatever the HTTP client of the day raises
        raise UserError(
            f"task.name: {task.name} cannot be had from the hub ({type(error).__name__}: {error}); give "
            f"`--set task.path=FOLDER`, a folder of GLUE TSV files, or use search_spaces/demo.yaml, which needs nothing"
        ) from error
    return _read_splits(task, splits, f"{HUB_NAME} {task.name}")


def _read_splits(task: Task, splits: Any, source: str) -> tuple[Examples, Examples]:
    """Train and validation of a DatasetDict with the hub's columns."""
    for name in ("train", "validation"):
        if name not in splits:
            raise UserError(f"{source}: no split {name}; it has {', '.join(splits)}")
    train, dev = (_read_split(task, splits[name], f"{source}, {name}") for name in ("train", "validation"))
    return train, dev


def _read_split(task: Task, rows: Any, source: str) -> Examples:
    missing = [name for name in (*task.text_columns, "label") if name not in rows.column_names]
    if missing:
        raise UserError(f"{source}: no column {', '.join(missing)}; it has {', '.join(rows.column_names)}")
    names = getattr(rows.features["label"], "names", None)
    if names is not None and tuple(names) != task.labels:
        raise UserError(f"{source}: its classes are {names}; those of {task.name} are {list(task.labels or ())}")
    texts = [list(_texts(rows[name], f"{source}, {name}")) for name in task.text_columns]
    known = task.labels or ()
    labels = [_label(task, value, known, f"{source}, row {row}") for row, value in enumerate(rows["label"])]
    if not labels:
        raise UserError(f"{source}: no examples")
    return _examples(task, texts, labels)


def _texts(values: Iterable[Any], place: str) -> Iterable[str]:
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise UserError(f"{place}, row {row}: {value!r} is not text")
        yield value
