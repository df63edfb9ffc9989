"""A task of the user's own: what its files hold becomes texts, and classes by name or numbers.

Why so: docs/decisions.md #files-of-ones-own.
"""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from spd_ray.base.errors import UserError
from spd_ray.config.task import TaskConfig
from spd_ray.data.examples import Examples, Task, make_examples
from spd_ray.data.files import Rows, read_splits
from spd_ray.data.metrics import recorded_name

FEW = 20  # examples, below which no number of classes is suspicious
MOST_SHOWN = 10  # classes in a message
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_LARGEST = float(np.finfo(np.float32).max)


def read_own_task(config: TaskConfig) -> tuple[Task, Examples, Examples]:
    """The task that `config` describes, its training and its dev examples. Raises UserError with file and row."""
    train, dev = read_splits(config)
    labels = None if config.is_regression else class_names(config, train)
    task = Task(
        config.name,
        tuple(config.text_columns or ()),
        labels,
        recorded_name(str(config.metric)),
        also=config.also,
    )
    return task, _examples(task, train), _examples(task, dev)


def class_names(config: TaskConfig, train: Rows) -> tuple[str, ...]:
    """The classes in order: those that are written down, those of the file's own list, or the training set's, sorted.

    Raises UserError where there is one alone, or where most examples have a class of their own.
    """
    if config.labels is not None:
        return tuple(str(label_name(name)) for name in config.labels)
    if train.classes is not None:
        return train.classes
    names = {_name(train, row) for row in range(len(train.labels))}
    if len(names) < 2:
        raise UserError(f"{train.source}: column {config.label_column} has one class alone, {names.pop()!r}")
    if FEW <= len(train.labels) < 2 * len(names):
        raise UserError(
            f"{train.source}: column {config.label_column} has {len(names)} classes in {len(train.labels)} examples; "
            f"for numbers the metric is spearman, pearson or mse"
        )
    if all(map(_NUMBER.fullmatch, names)):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def label_name(value: Any) -> str | None:
    """What the class is called that a file's label `value` stands for; None where the label is missing.

    The same class may be 1 in Parquet, "1" in a CSV file, and 1.0 where a column has gaps; and true is True.

    >>> [label_name(value) for value in ("spam ", 1, 1.0, "1.0", "01", 2.5, True, "True", "", None)]
    ['spam', '1', '1', '1', '01', '2.5', 'true', 'true', None, None]

    Raises TypeError for what is neither text nor a number nor a truth value.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float | Decimal):
        return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no label")
    text = value.strip()
    whole = _WHOLE.fullmatch(text)
    if whole:
        return whole[1]
    return (text.lower() if text.lower() in ("true", "false") else text) or None


def _examples(task: Task, rows: Rows) -> Examples:
    for name, column in zip(task.text_columns, rows.texts, strict=True):
        for row, text in enumerate(column):
            _check_text(text, name, rows, row)
    return make_examples(task, rows.texts, _numbers(rows) if task.labels is None else _indices(task.labels, rows))


def _check_text(text: Any, column: str, rows: Rows, row: int) -> None:
    if text is None or (isinstance(text, float) and math.isnan(text)) or (isinstance(text, str) and not text.strip()):
        raise UserError(f"{rows.place(row)}: no text in column {column}; fill it, or take the row out")
    if not isinstance(text, str):
        raise UserError(f"{rows.place(row)}: column {column}: {text!r} is not text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"{rows.place(row)}: column {column} has half a character (a lone surrogate)") from None


def _indices(classes: Sequence[str], rows: Rows) -> list[float]:
    """The index of every row's class."""
    known: dict[str, float] = {name: index for index, name in enumerate(classes)}
    found = []
    for row in range(len(rows.labels)):
        name = _name(rows, row)
        if name not in known:
            more = f" and {len(classes) - MOST_SHOWN} more" if len(classes) > MOST_SHOWN else ""
            raise UserError(
                f"{rows.place(row)}: unknown label {name!r}; known are {', '.join(classes[:MOST_SHOWN])}{more}; "
                f"task.labels can name them all"
            )
        found.append(known[name])
    return found


def _name(rows: Rows, row: int) -> str:
    """The name of a row's class. Raises UserError where it has none."""
    value = rows.labels[row]
    if rows.classes is not None and isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < len(rows.classes):
            raise UserError(f"{rows.place(row)}: no label ({value} of {len(rows.classes)} classes)")
        return rows.classes[value]
    try:
        name = label_name(value)
    except TypeError:
        raise UserError(f"{rows.place(row)}: the label {value!r} is neither text nor a number") from None
    if name is None:
        raise UserError(f"{rows.place(row)}: no label; fill it, or take the row out")
    return name


def _numbers(rows: Rows) -> list[float]:
    """Every row's label as a number that float32 holds."""
    found = []
    for row, value in enumerate(rows.labels):
        if value is None or (isinstance(value, str) and not value.strip()):
            raise UserError(f"{rows.place(row)}: no label; fill it, or take the row out")
        text = str(value).strip()
        number = float(text) if not isinstance(value, bool) and _NUMBER.fullmatch(text) else math.nan
        if not abs(number) <= _LARGEST:
            raise UserError(f"{rows.place(row)}: the label {value!r} is not a number")
        found.append(number)
    return found
