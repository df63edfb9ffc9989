"""All evaluations of a sweep in one scan over its step files, also while trials end and their parts are merged."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from analysis.errors import AnalysisError
from analysis.reading.folders import Folder
from analysis.reading.parquet import broken_file, check_version

ATTEMPTS = 3  # at a sweep whose parts vanish while they are read
_THREADS = 4
_SCANNED = pa.schema([
    ("step", pa.int32()), ("split", pa.string()), ("metric", pa.string()), ("value", pa.float64()),
    ("trial", pa.string()),
])  # fmt: skip
_PARTITION = ds.partitioning(pa.schema([("trial", pa.string())]), flavor="hive")


class Evaluations(NamedTuple):
    """All R scores of a sweep's evaluations, sorted by trial, split, metric and ascending step."""

    rows: dict[tuple[str, str, str], slice]  # (trial_id, split, metric) -> its rows
    step: np.ndarray  # (R,) applied optimizer steps before the evaluation
    value: np.ndarray  # (R,)

    def of(self, trial_id: str, split: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps (E,) and values (E,) of one trial, empty where it has none."""
        rows = self.rows.get((trial_id, split, metric), slice(0, 0))
        return self.step[rows], self.value[rows]


def step_parts(folder: Folder) -> list[Folder]:
    """The Parquet files in `folder` and below, by path."""
    return [file for file in folder.entries(fs.FileType.File, recursive=True) if file.path.endswith(".parquet")]


def read_evaluations(sweep: Folder) -> Evaluations:
    """The evaluations under `sweep`/steps. Raises AnalysisError on a broken part or one of another schema version.

    When a trial ends, its parts are merged into one: what vanishes between listing and opening is listed again.
    """
    steps = sweep / "steps"
    parts, read = step_parts(steps), dict[str, list[pa.Table]]()  # folder of a trial -> tables of its parts
    for _ in range(ATTEMPTS):
        folders = [part.path.rsplit("/", 1)[0] for part in parts]
        tables = _scan(steps, parts)
        for folder, table in zip(folders, tables, strict=True):
            read.setdefault(folder, []).append(table)
        gone = {folder for folder, table in zip(folders, tables, strict=True) if table is None}
        for folder in gone:
            del read[folder]
        parts = [part for folder in sorted(gone) for part in step_parts(steps._replace(path=folder))]
        if not parts:
            found = [table for tables in read.values() for table in tables if len(table)]
            return _sort_rows(pa.concat_tables(found)) if found else Evaluations({}, np.empty(0, int), np.empty(0))
    raise AnalysisError(f"{sweep.shown}: parts vanish while they are read; is the sweep being replaced?")


def _scan(steps: Folder, parts: Sequence[Folder]) -> list[pa.Table | None]:
    """The evaluations in each of `parts`, None where it has vanished; Parquet itself selects rows and columns."""
    factory = ds.FileSystemDatasetFactory(
        steps.filesystem, [part.path for part in parts], ds.ParquetFileFormat(),
        ds.FileSystemFactoryOptions(partitioning=_PARTITION, partition_base_dir=steps.path),
    )  # fmt: skip
    fragments = factory.finish(_SCANNED).get_fragments()

    def read(fragment: ds.ParquetFileFragment, part: Folder) -> pa.Table | None:
        try:
            check_version(fragment.physical_schema, part.shown)
            return fragment.to_table(schema=_SCANNED, filter=ds.field("split") != "batch")
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError) as error:
            raise broken_file(part.shown, error) from error

    by_path = {part.path: part for part in parts}
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(lambda fragment: read(fragment, by_path[fragment.path]), fragments))


def _sort_rows(table: pa.Table) -> Evaluations:
    """Rows by (trial, split, metric, step); where two parts have a step, the row of the later part."""
    names, codes = [], []
    for column in ("trial", "split", "metric"):
        encoded = table[column].combine_chunks().dictionary_encode()
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        names.append(encoded.dictionary.to_pylist())
        codes.append(encoded.indices.to_numpy(zero_copy_only=False))
    step, value = table["step"].to_numpy(), table["value"].to_numpy()
    group = (codes[0].astype(np.int64) * len(names[1]) + codes[1]) * len(names[2]) + codes[2]
    order = np.lexsort((np.arange(len(step)), step, group))
    group, step, value = group[order], step[order], value[order]
    last = np.append((group[1:] != group[:-1]) | (step[1:] != step[:-1]), True)
    group, step, value = group[last], step[last], value[last]
    starts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    rows = {}
    for start, end in zip(starts, [*starts[1:], len(group)], strict=True):
        rest, metric = divmod(int(group[start]), len(names[2]))
        trial, split = divmod(rest, len(names[1]))
        rows[names[0][trial], names[1][split], names[2][metric]] = slice(int(start), int(end))
    return Evaluations(rows, step, value)
