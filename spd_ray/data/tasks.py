"""Tasks by name: those of GLUE that the paper has and the three of the miniature, and their examples; any task."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spd_ray.base.cache import content_key
from spd_ray.base.errors import UserError
from spd_ray.config.task import TaskConfig, wrong_kind
from spd_ray.data import miniature
from spd_ray.data.examples import Examples, Task, TaskData, TsvLayout, make_examples, subset
from spd_ray.data.files import load_hub_dataset, load_saved
from spd_ray.data.metrics import metrics_key, recorded_name
from spd_ray.data.own import read_own_task

HUB_NAME = "nyu-mll/glue"

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
        Task("mini_entailment", TWO, ENTAILMENT, "accuracy", synthetic=True),
        Task("mini_acceptability", ONE, ACCEPTABILITY, "matthews", synthetic=True),
        Task("mini_similarity", TWO, None, "spearman", synthetic=True),
    )
}


def load_task(config: TaskConfig) -> TaskData:
    """Read the examples of `config.name`: generated, from files of the user's own or of GLUE, or from the hub.

    Raises UserError, naming file and row, for whatever is missing or broken, and where a metric does not suit.
    """
    if config.is_own and config.name in TASKS:
        raise UserError(f"task.name: {config.name} is the name of a task that is known here; give yours another")
    task, train, dev = read_own_task(config) if config.is_own else _read_known_task(config)
    check_metrics(config, task)
    if config.train_examples is not None and not task.synthetic:
        train = subset(train, config.train_examples)
    content = [[part.text_a, part.text_b, part.labels.tolist()] for part in (train, dev)]
    named = {"labels": task.labels} if config.is_own else {}
    return TaskData(task, train, dev, content_key({"task": task.name, "content": content, **named}))


def metric_of(config: TaskConfig) -> str:
    """What the scores of the task's trials are called in records; reads no data."""
    return recorded_name(config.metric) if config.metric else TASKS[config.name].metric


def check_metrics(config: TaskConfig, task: Task) -> None:
    """Raises UserError where a metric does not suit the task's labels, or is code that may not run."""
    metrics_key(config.metrics)
    wrong = wrong_kind(config.metrics, task.is_regression)
    if wrong is not None:
        raise UserError(f"task.metric, task.also: {wrong[1]} in {task.name}")
    if "f1" in config.metrics and task.num_labels != 2:
        raise UserError(f"task.metric, task.also: f1 is of 2 classes, {task.name} has {task.num_labels}: take macro_f1")


def _read_known_task(config: TaskConfig) -> tuple[Task, Examples, Examples]:
    if config.name not in TASKS:
        raise UserError(
            f"task.name: {config.name!r} is unknown; known are {', '.join(TASKS)}; one of your own has train_file, "
            f"dev_file, text_columns, label_column and metric, as in search_spaces/own.yaml"
        )
    task = replace(TASKS[config.name], metric=metric_of(config), also=config.also)
    if task.synthetic:
        if config.path is not None:
            raise UserError(f"task.path: {config.name} is generated and reads no files; leave task.path out")
        generated = miniature.load_mini_task(config.name, config.train_examples)
        train, dev = (make_examples(task, [a] if b is None else [a, b], labels) for a, b, labels in generated)
    else:
        train, dev = _read_directory(task, Path(config.path)) if config.path is not None else _read_hub(task)
    return task, train, dev


def _read_directory(task: Task, folder: Path) -> tuple[Examples, Examples]:
    if not folder.is_dir():
        raise UserError(f"task.path: {folder} is not a directory")
    if (folder / "dataset_dict.json").is_file():
        return _read_splits(task, load_saved(folder, "task.path"), str(folder))
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
    return make_examples(task, texts, labels)


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


def _read_hub(task: Task) -> tuple[Examples, Examples]:
    try:
        splits = load_hub_dataset(HUB_NAME, task.name)
    except Exception as error:  # whatever the HTTP client of the day raises
        raise UserError(
            f"task.name: {task.name} is not available from the hub ({type(error).__name__}: {error}); give "
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
    return make_examples(task, texts, labels)


def _texts(values: Iterable[Any], place: str) -> Iterable[str]:
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise UserError(f"{place}, row {row}: {value!r} is not text")
        yield value
