"""Rows of the user's own files, each with its place: CSV, TSV, JSON lines, Parquet, saved datasets, hub datasets.

Every reader gives the values as the file has them; `spd_ray.data.own` makes texts and labels of them.

Why so: docs/decisions.md #files-of-ones-own.
"""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spd_ray.base.errors import UserError
from spd_ray.config.task import ENDINGS, TaskConfig

_MARKS = {  # byte-order mark -> the encoding that drops it; UTF-32's first, for it begins with UTF-16's
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Rows:
    """N rows of one split. `place` names the row of an index for a message: "mail.csv, line 3"."""

    texts: list[list[Any]]  # one list (N,) a text column
    labels: list[Any]  # (N,)
    place: Callable[[int], str]
    source: str
    classes: tuple[str, ...] | None = None  # what a ClassLabel of `datasets` calls 0, 1, ...


def read_splits(config: TaskConfig) -> tuple[Rows, Rows]:
    """Training and dev rows of a task of the user's own. Raises UserError with file and row."""
    if config.train_file is not None and config.dev_file is not None:
        return _read_file(Path(config.train_file), config, "train"), _read_file(Path(config.dev_file), config, "dev")
    splits, source = _load_splits(config)
    for key in ("train_split", "dev_split"):
        if getattr(config, key) not in splits:
            raise UserError(f"task.{key}: {source} has no split {getattr(config, key)}; it has {', '.join(splits)}")
    train, dev = (
        _of_dataset(splits[split], config, f"{source}, {split}") for split in (config.train_split, config.dev_split)
    )
    return train, dev


def _read_file(file: Path, config: TaskConfig, split: str) -> Rows:
    ending = file.suffix.lower()
    try:
        if file.is_dir():
            return _read_saved_split(file, config, split)
        if ending not in ENDINGS:
            raise UserError(
                f"task.{split}_file: {file}: its kind is not known by its ending; known are {', '.join(ENDINGS)}, and "
                f"folders that `datasets` has saved"
            )
        if ending == ".parquet":
            return _read_parquet(file, config)
        read = _read_delimited if ending in (".csv", ".tsv") else _read_json_lines
        return read(file, config)
    except OSError as error:
        raise UserError(f"task.{split}_file: {file}: {error.strerror or error}") from None


def _read_delimited(file: Path, config: TaskConfig) -> Rows:
    """CSV and TSV as RFC 4180 has them: fields may be quoted, and then hold delimiters and line breaks."""
    lines, columns, indices = [], list[list[str]](), list[int]()
    header: list[str] = []
    for line, cells in _records(file, config):
        if not header:
            header = [cell.strip() for cell in cells]
            indices = _indices_of(config, header, f"{file}, line {line}")
            columns = [[] for _ in indices]
            continue
        if len(cells) != len(header):
            raise UserError(
                f"{file}, line {line}: {len(cells)} fields where {len(header)} are needed ({', '.join(header)}); "
                f"a field that holds the delimiter must be quoted"
            )
        lines.append(line)
        for column, index in zip(columns, indices, strict=True):
            column.append(cells[index])
    if not lines:
        raise UserError(f"{file}: no examples")
    return Rows(columns[:-1], columns[-1], lambda row: f"{file}, line {lines[row]}", str(file))


def _records(file: Path, config: TaskConfig) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV or TSV file with the lines on which they begin; those without any text are left out."""
    text = _decode(file, config.encoding)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=config.delimiter or ("\t" if file.suffix.lower() == ".tsv" else ","),
        quoting=csv.QUOTE_MINIMAL if config.quotes else csv.QUOTE_NONE,
        strict=True,
    )
    line = 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{file}, line {line}: {error}; a quote inside of a quoted field is written twice, and `--set "
            f"task.quotes=false` reads quotes as plain text"
        ) from None


def _read_json_lines(file: Path, config: TaskConfig) -> Rows:
    lines, columns = [], list[list[Any]]([] for _ in _wanted(config))
    for number, line in enumerate(_decode(file, config.encoding).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}, line {number}: not JSON ({error}); each line holds one object") from None
        if not isinstance(record, dict):
            raise UserError(f"{file}, line {number}: not an object, such as {{{_example(config)}}}")
        _indices_of(config, list(record), f"{file}, line {number}")
        lines.append(number)
        for column, name in zip(columns, _wanted(config), strict=True):
            column.append(record[name])
    if not lines:
        raise UserError(f"{file}: no examples")
    return Rows(columns[:-1], columns[-1], lambda row: f"{file}, line {lines[row]}", str(file))


def _example(config: TaskConfig) -> str:
    return ", ".join(f'"{name}": ...' for name in _wanted(config))


def _decode(file: Path, encoding: str) -> str:
    """The text of `file`. Raises UserError naming the line that is not of its encoding."""
    content = file.read_bytes()
    encoding = next((marked for mark, marked in _MARKS.items() if content.startswith(mark)), encoding)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(encoding, "replace").count("\n") + 1
        wrong = content[error.start : error.start + 1].hex()
        raise UserError(
            f"{file}, line {line}: byte 0x{wrong} is not {encoding} ({error.reason}); `--set task.encoding=cp1252` "
            f"or another reads it as that"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{file}, line {line}: a zero byte; UTF-16 without its mark wants `--set task.encoding=utf-16`")
    return text


def _read_parquet(file: Path, config: TaskConfig) -> Rows:
    try:
        parquet = pq.ParquetFile(file)
        _indices_of(config, parquet.schema_arrow.names, str(file))
        table = parquet.read(columns=list(dict.fromkeys(_wanted(config))))
        columns = [table.column(name).to_pylist() for name in _wanted(config)]
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise UserError(f"{file}: cannot be read as Parquet ({error})") from None
    classes = None
    if b"huggingface" in (table.schema.metadata or {}):
        import datasets  # here, since it takes a second that most runs need not wait

        classes = _classes(datasets.Features.from_arrow_schema(table.schema), config)
    return _numbered(columns, str(file), classes)


def _read_saved_split(folder: Path, config: TaskConfig, split: str) -> Rows:
    """A Dataset that `save_to_disk` wrote."""
    rows = load_saved(folder, f"task.{split}_file")
    if hasattr(rows, "keys"):
        raise UserError(f"task.{split}_file: {folder} holds the splits {', '.join(rows)}: give it as task.path alone")
    return _of_dataset(rows, config, str(folder))


def _load_splits(config: TaskConfig) -> tuple[Any, str]:
    """The splits of a saved DatasetDict, of a folder that is laid out as the hub's datasets are, or of the hub."""
    import datasets

    folder = Path(config.path) if config.path is not None else None
    if folder is not None and not folder.is_dir():
        raise UserError(f"task.path: {folder} is not a directory")
    if folder is not None and (folder / "dataset_dict.json").is_file():
        return load_saved(folder, "task.path"), str(folder)
    try:
        if folder is None:
            return load_hub_dataset(str(config.hub), config.config), str(config.hub)
        with _no_progress_bars():
            return datasets.load_dataset(str(folder), config.config), str(folder)
    except Exception as error:  # whatever the HTTP client of the day, or a reader of the hub's many formats, raises
        key, source = ("hub", config.hub) if folder is None else ("path", folder)
        raise UserError(
            f"task.{key}: {source} cannot be loaded ({type(error).__name__}: {_shortened(error)}); files of your own "
            f"are task.train_file and task.dev_file"
        ) from error


def load_hub_dataset(name: str, config: str | None) -> Any:
    """A dataset from the hub, or, under HF_HUB_OFFLINE=1, from its cache. Raises what the HTTP client does.

    One question is asked first: without a network `load_dataset` alone would retry for 23 seconds.
    """
    import datasets
    import huggingface_hub

    if not huggingface_hub.constants.HF_HUB_OFFLINE:
        huggingface_hub.HfApi().dataset_info(name, timeout=10)
    with _no_progress_bars():
        return datasets.load_dataset(name, config)


def load_saved(folder: Path, key: str) -> Any:
    """What `save_to_disk` wrote: a Dataset or a DatasetDict. Raises UserError, naming `key`, where it is broken."""
    import datasets

    try:
        with _no_progress_bars():
            return datasets.load_from_disk(str(folder))
    except (OSError, ValueError, LookupError, pa.ArrowException) as error:
        raise UserError(f"{key}: {folder} is not a readable `datasets` directory ({error})") from error


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()


def _of_dataset(rows: Any, config: TaskConfig, source: str) -> Rows:
    _indices_of(config, rows.column_names, source)
    return _numbered([list(rows[name]) for name in _wanted(config)], source, _classes(rows.features, config))


def _numbered(columns: list[list[Any]], source: str, classes: tuple[str, ...] | None) -> Rows:
    if not columns[-1]:
        raise UserError(f"{source}: no examples")
    return Rows(columns[:-1], columns[-1], lambda row: f"{source}, row {row} (from 0)", source, classes)


def _classes(features: Any, config: TaskConfig) -> tuple[str, ...] | None:
    names = getattr(features[config.label_column], "names", None)
    return None if names is None else tuple(names)


def _wanted(config: TaskConfig) -> list[str]:
    """The texts' columns, then the labels'."""
    assert config.text_columns is not None, config.name
    assert config.label_column is not None, config.name
    return [*config.text_columns, config.label_column]


def _indices_of(config: TaskConfig, header: Sequence[str], place: str) -> list[int]:
    """Where the wanted columns stand in the header. Raises UserError where one is missing, or there twice."""
    for name in _wanted(config):
        if header.count(name) != 1:
            problem = f"no column {name}" if name not in header else f"column {name} is there twice"
            raise UserError(f"{place}: {problem}; it has {_shortened(', '.join(header))}")
    return [header.index(name) for name in _wanted(config)]


def _shortened(text: object, most: int = 300) -> str:
    whole = " ".join(str(text).split())
    return whole if len(whole) <= most else whole[: most - 3] + "..."
