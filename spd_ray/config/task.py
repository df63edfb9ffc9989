"""Which data a sweep trains on: a task by name, or a task of the user's own, its files, columns, labels and metrics."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from spd_ray.base.errors import nearest
from spd_ray.config.section import LocalPath, PositiveInt, Section, refuse

OF_CLASSES = ("accuracy", "f1", "macro_f1", "matthews")
OF_NUMBERS = ("spearman", "pearson", "mse")
METRICS = (*OF_CLASSES, *OF_NUMBERS)
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_function(metric: str) -> bool:
    """Whether a metric is the user's own code, `module:function`."""
    return ":" in metric


def _check_metric(metric: str) -> str:
    if metric not in METRICS and not _FUNCTION.fullmatch(metric):
        raise ValueError(f"unknown metric; {nearest(metric, METRICS)}, or MODULE:FUNCTION")
    return metric


def _check_encoding(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError:
        raise ValueError("unknown encoding; it must be a name such as utf-8, utf-16, cp1252 or latin-1") from None
    return encoding


def _check_hub_name(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError("must be OWNER/NAME of a dataset on the hub; a folder is task.path")
    return name


Metric = Annotated[str, AfterValidator(_check_metric)]


class TaskConfig(Section):
    """Which data. `name` is a key of `spd_ray.data.tasks.TASKS`, or that of a task of one's own, which has columns."""

    name: str
    path: LocalPath | None = Field(
        None,
        description="a folder: GLUE's TSV files, a DatasetDict saved by `datasets`, or, for a task of your own, "
        "a copy of a hub dataset; null: hub",
    )
    train_file: LocalPath | None = Field(
        None, description=f"your own: {', '.join(ENDINGS)}, or a Dataset saved by `datasets`"
    )
    dev_file: LocalPath | None = Field(None, description="as train_file; the kinds may differ")
    hub: Annotated[str, AfterValidator(_check_hub_name)] | None = Field(
        None, description="OWNER/NAME of a dataset on the hub"
    )
    config: str | None = Field(None, description="of a hub dataset that has several")
    train_split: str = Field("train", description="of a hub dataset, or of a task of your own under path")
    dev_split: str = Field("validation", description="as train_split")
    text_columns: tuple[str, ...] | None = Field(
        None, min_length=1, max_length=2, description="your own task's texts: one, or two that are read as a pair"
    )
    label_column: str | None = Field(None, description="your own task's labels: text, numbers, true or false")
    labels: tuple[str, ...] | None = Field(
        None,
        min_length=2,
        description="its classes in order; null: the training set's, sorted. f1 is of the second",
    )
    metric: Metric | None = Field(
        None,
        description=f"{', '.join(METRICS)}, or MODULE:FUNCTION (labels, answers) -> number with --allow-code; "
        "null: GLUE's. Everything is chosen by it; mse is recorded as neg_mse: more is better",
    )
    also: tuple[Metric, ...] = Field((), description="other metrics, recorded beside it")
    regression: bool = Field(
        False, description="your own metric is of numbers, not of classes; spearman, pearson and mse always are"
    )
    encoding: Annotated[str, AfterValidator(_check_encoding)] = Field(
        "utf-8", description="of text files; a byte-order mark, also that of UTF-16, is heeded"
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="of .csv and .tsv files; null: comma and tab"
    )
    quotes: bool = Field(True, description='whether " encloses a field of a .csv or .tsv file; false: it is plain text')
    max_length: int = Field(128, ge=8, description="tokens; longer inputs are truncated")
    train_examples: PositiveInt | None = Field(None, description="a seeded subset of the training set; null: all")
    padding: Literal["longest", "max_length"] = Field("longest", description="training batches are padded to this")
    selection: Literal["dev", "holdout"] = Field(
        "dev",
        description="what everything is chosen on: dev (the paper's way), or a share of train; dev is then used once",
    )
    holdout_fraction: float = Field(0.1, gt=0, lt=1, description="of the training set, with `selection: holdout`")

    @property
    def is_own(self) -> bool:
        """Whether the task is the user's: its columns, labels and metric stand here."""
        return any(value is not None for value in (self.train_file, self.dev_file, self.hub, self.text_columns))

    @property
    def is_regression(self) -> bool:
        """Whether a task of the user's own has numbers for labels."""
        return self.regression or self.metric in OF_NUMBERS

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are written here."""
        return (*filter(None, [self.metric]), *self.also)

    @model_validator(mode="after")
    def _check_own(self) -> "TaskConfig":
        if self.is_own:
            self._check_source()
            for key in ("text_columns", "label_column", "metric"):
                if getattr(self, key) is None:
                    raise refuse(f"a task of your own needs {key} too", "name")
        elif self.label_column or self.labels or self.regression:
            raise refuse("a task of your own needs text_columns too", "label_column", "labels", "regression")
        if self.is_regression and self.labels:
            raise refuse("numbers have no names: leave labels out", "labels")
        if len(set(self.labels or ())) < len(self.labels or ()):
            raise refuse("the labels must differ", "labels")
        if len(set(self.metrics)) < len(self.metrics):
            raise refuse("the metrics must differ, also from metric", "also")
        if self.is_own:
            self._check_kinds()
        return self

    def _check_source(self) -> None:
        sources = {"train_file": self.train_file or self.dev_file, "hub": self.hub, "path": self.path}
        given = [key for key, value in sources.items() if value]
        if len(given) != 1:
            raise refuse("one source is needed: train_file and dev_file, or path, or hub", *(given or ["name"]))
        if given == ["train_file"] and not (self.train_file and self.dev_file):
            missing = "dev_file" if self.train_file else "train_file"
            raise refuse(f"{missing} is missing", "train_file", "dev_file")
        if self.config and given == ["train_file"]:
            raise refuse("files have no config; it is of hub or path", "config")

    def _check_kinds(self) -> None:
        wrong = wrong_kind(self.metrics, self.is_regression)
        if wrong is not None:
            raise refuse(wrong[1], "metric" if wrong[0] == self.metric else "also", "regression")


def wrong_kind(metrics: tuple[str, ...], is_regression: bool) -> tuple[str, str] | None:
    """The first of `metrics` that the labels do not suit, and why; None where all do."""
    others = OF_CLASSES if is_regression else OF_NUMBERS
    kinds = ("classes", "numbers") if is_regression else ("numbers", "classes")
    found = next((metric for metric in metrics if metric in others), None)
    return None if found is None else (found, f"{found} is of {kinds[0]}, the labels are {kinds[1]}")
