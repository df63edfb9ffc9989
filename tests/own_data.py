"""Files with a user's own examples, written in every kind, and the task that is made of them."""

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from spd_ray.config.task import TaskConfig
from spd_ray.data.examples import TaskData
from spd_ray.data.tasks import load_task

TEXTS = ['He said "no", twice', "two\nlines", "caf\u00e9 \u4e2d\u6587 \U0001f600", " spaces kept ", "a;b\tc", "'"]
LABELS = ["spam", "ham", "ham", "spam", "ham", "ham"]


def own_task(folder: Path, train: str = "train.csv", **changes: Any) -> TaskConfig:
    """A task of `train` and a dev file of the same ending."""
    files = {"train_file": str(folder / train), "dev_file": str(folder / f"dev{Path(train).suffix}")}
    values = {**files, "text_columns": ("text",), "label_column": "label", "metric": "accuracy", **changes}
    return TaskConfig(name="mail", **{key: value for key, value in values.items() if value is not None})


def write_csv(file: Path, columns: dict[str, list[Any]], delimiter: str = ",", encoding: str = "utf-8") -> None:
    with file.open("w", newline="", encoding=encoding) as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerows([list(columns), *zip(*columns.values(), strict=True)])


def write(file: Path, columns: dict[str, list[Any]]) -> None:
    """The columns as a file of the kind that its ending says."""
    if file.suffix in (".csv", ".tsv"):
        write_csv(file, columns, "\t" if file.suffix == ".tsv" else ",")
    elif file.suffix == ".parquet":
        pq.write_table(pa.table(columns), file)
    elif file.suffix == ".saved":
        datasets.Dataset.from_dict(columns).save_to_disk(file)
    else:
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def load_both(folder: Path, columns: dict[str, list[Any]], ending: str = ".csv", **changes: Any) -> TaskData:
    """The task whose train and dev files both hold `columns`."""
    for split in ("train", "dev"):
        write(folder / f"{split}{ending}", columns)
    return load_task(own_task(folder, f"train{ending}", **changes))
