"""Reading of sweeps: `trials.parquet` and `steps/trial=<id>/*.parquet`, as spd_ray.records documents them.

Nothing is read twice: a sweep's trials at once, its evaluations in one scan over all its parts when a figure first
asks for them, the training steps of a single trial when Figure 4 does.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from analysis.errors import AnalysisError
from analysis.reading.folders import (
    TRIALS,
    Folder,
    broken,
    check_version,
    find_sweeps,
    first_line,
    open_folder,
    read_file,
)
from analysis.reading.trials import Trial

_THREADS = 4
_ATTEMPTS = 3  # at a sweep whose parts vanish while they are read
_EVALUATION = pa.schema(
    [("step", pa.int32()), ("split", pa.string()), ("metric", pa.string()), ("value", pa.float64())]
)
_SCANNED = pa.schema([*_EVALUATION, ("trial", pa.string())])
_PARTITION = ds.partitioning(pa.schema([("trial", pa.string())]), flavor="hive")


class Evaluations(NamedTuple):
    """All R scores of a sweep's evaluations, by trial, split, metric and ascending step; names are codes (rows)."""

    keys: dict[tuple[str, str, str], slice]  # (trial_id, split, metric) -> its rows
    step: np.ndarray  # (R,) applied steps before the evaluation
    value: np.ndarray  # (R,)

    def of(self, trial_id: str, split: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps (E,) and values (E,) of one trial, empty where it has none."""
        rows = self.keys.get((trial_id, split, metric), slice(0, 0))
        return self.step[rows], self.value[rows]


@dataclass(frozen=True)
class Tables:
    """A sweep's folder with its trials in the order of configuration and seed; steps are read when asked for."""

    folder: Folder
    trials: tuple[Trial, ...]

    @property
    def name(self) -> str:
        """The sweep's name, which is its folder's."""
        return self.folder.name

    @cached_property
    def comparable(self) -> list[Trial]:
        """The trials that ran to their end with a student at the target sparsity."""
        return [trial for trial in self.trials if trial.comparable]

    @cached_property
    def _description(self) -> str:
        return (self.folder / "sweep.yaml").text()

    @property
    def sampler(self) -> str | None:
        """What drew the configurations: "grid", "random" or "tpe"; None where sweep.yaml does not say."""
        return _yaml_value(self._description, "study", "sampler")

    @property
    def tracking_uri(self) -> str | None:
        """Where MLflow is, as sweep.yaml says it; None for the sweep's own file."""
        return _yaml_value(self._description, "tracking", "uri")

    def trial(self, trial_id: str) -> Trial:
        """The trial of that id. Raises AnalysisError where there is none."""
        found = [trial for trial in self.trials if trial.trial_id == trial_id]
        if not found:
            known = ", ".join(trial.trial_id for trial in self.trials[:5]) or "none yet"
            raise AnalysisError(f"{self.folder.shown}: no trial {trial_id!r}; there are, for example, {known}")
        return found[0]

    def steps(self, trial_id: str, columns: Sequence[str], split: str, metric: str) -> dict[str, np.ndarray]:
        """`columns` of one trial's rows of `split` and `metric`, each (N,), by ascending step; missing is NaN.

        A step that two parts hold (a trial restarted with other part boundaries) counts once, as the part
        that begins later has it. Raises AnalysisError on a broken file or one of another schema version.
        """
        wanted = sorted({*columns, "step"})
        condition = (ds.field("split") == split) & (ds.field("metric") == metric)
        read = []
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError):  # the trial's parts became one, or the sweep was replaced, at this moment
                parts = _parts(self.folder / "steps" / f"trial={trial_id}")
                read = [read_file(part, wanted, condition) for part in parts]
                break
        if not read:
            return {name: np.empty(0) for name in columns}
        table = pa.concat_tables(read)
        steps = table["step"].to_numpy()
        last_first = np.unique(steps[::-1], return_index=True)[1]
        kept = len(steps) - 1 - last_first
        return {name: table[name].to_numpy()[kept] for name in columns}

    @property
    def evaluations(self) -> Evaluations:
        """Every evaluation of the sweep. Raises AnalysisError on a broken part or one of another schema version."""
        if isinstance(self._evaluated, AnalysisError):
            raise self._evaluated
        return self._evaluated

    @cached_property
    def _evaluated(self) -> Evaluations | AnalysisError:
        """The evaluations, or what is wrong with them: the parts are scanned once, whatever comes of it."""
        try:
            return self._scanned()
        except AnalysisError as error:
            return error

    def _scanned(self) -> Evaluations:
        steps = self.folder / "steps"
        parts, read = _parts(steps), dict[str, list[pa.Table]]()
        for _ in range(_ATTEMPTS):
            folders = [part.path.rsplit("/", 1)[0] for part in parts]
            tables = _scan(steps, parts)
            for folder, table in zip(folders, tables, strict=True):
                read.setdefault(folder, []).append(table)
            gone = {folder for folder, table in zip(folders, tables, strict=True) if table is None}
            for folder in gone:  # its trial has ended meanwhile, and its parts are one now
                del read[folder]
            parts = [part for folder in sorted(gone) for part in _parts(steps._replace(path=folder))]
            if not parts:
                found = [table for tables in read.values() for table in tables if len(table)]
                return _sorted(pa.concat_tables(found)) if found else Evaluations({}, np.empty(0, int), np.empty(0))
        raise AnalysisError(f"{self.folder.shown}: parts vanish while they are read; is the sweep being replaced?")


def _yaml_value(text: str, section: str, key: str) -> str | None:
    """A scalar of `spec`'s section in sweep.yaml, which its writer dumps in block style, one key a line.

    >>> _yaml_value("spec:\\n  study:\\n    sampler: tpe\\n", "study", "sampler")
    'tpe'
    """
    found = re.search(rf"^  {section}:\n(?:    .*\n)*?    {key}: (.+)$", text, re.MULTILINE)
    value = found.group(1).strip("'\" ") if found else "null"
    return None if value in ("null", "~", "") else value


def _parts(folder: Folder) -> list[Folder]:
    """The Parquet files in `folder` and below, by path."""
    return [file for file in folder.entries(fs.FileType.File, recursive=True) if file.path.endswith(".parquet")]


def _scan(steps: Folder, parts: Sequence[Folder]) -> list[pa.Table | None]:
    """The evaluations in each of `parts`, None where it has vanished; Parquet reads the rows and columns asked for."""
    kind = ds.ParquetFileFormat()
    make = ds.FileSystemDatasetFactory(
        steps.filesystem, [part.path for part in parts], kind,
        ds.FileSystemFactoryOptions(partitioning=_PARTITION, partition_base_dir=steps.path),
    )  # fmt: skip
    fragments = make.finish(_SCANNED).get_fragments()

    def read(fragment: ds.ParquetFileFragment, part: Folder) -> pa.Table | None:
        try:
            check_version(fragment.physical_schema, part.shown)
            return fragment.to_table(schema=_SCANNED, filter=ds.field("split") != "batch")
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError) as error:
            raise broken(part.shown, error) from error

    shown = {part.path: part for part in parts}
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(lambda fragment: read(fragment, shown[fragment.path]), fragments))


def _sorted(table: pa.Table) -> Evaluations:
    """Rows by (trial, split, metric, step); of a step in two parts the row of the later part."""
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
    last = np.append((group[1:] != group[:-1]) | (step[1:] != step[:-1]), True) if len(step) else np.empty(0, bool)
    group, step, value = group[last], step[last], value[last]
    starts = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(group) else np.empty(0, int)
    keys = {}
    for start, end in zip(starts, [*starts[1:], len(group)], strict=True):
        rest, metric = divmod(int(group[start]), len(names[2]))
        trial, split = divmod(rest, len(names[1]))
        keys[names[0][trial], names[1][split], names[2][metric]] = slice(int(start), int(end))
    return Evaluations(keys, step, value)


def read_tables(place: str | Path | Folder) -> Tables:
    """Read the trials of the sweep at `place`, a path or a URI.

    Raises AnalysisError where the folder or `trials.parquet` is absent, broken or of another schema version.
    """
    folder = place if isinstance(place, Folder) else open_folder(place)
    try:
        if folder.kind() != fs.FileType.Directory:
            raise AnalysisError(f"{folder.shown}: no such folder; give a sweep's folder, which holds {TRIALS}")
        if (folder / TRIALS).kind() != fs.FileType.File:
            raise AnalysisError(f"{folder.shown}: holds no {TRIALS}; it is no sweep's folder, or no trial has started")
        table = read_file(folder / TRIALS, [field.name for field in fields(Trial)])
    except (pa.ArrowException, OSError) as error:
        raise AnalysisError(f"{folder.shown}: cannot be read: {first_line(error)}") from error
    trials = (Trial(**row) for row in table.to_pylist())
    return Tables(folder, tuple(sorted(trials, key=lambda trial: (trial.configuration, trial.seed))))


def read_sweeps(place: str | Path | Folder, problem: Callable[[str], None]) -> list[Tables]:
    """Every readable sweep at or below `place`, by name; `problem` is told of each other one in one line.

    Raises AnalysisError where `place` does not exist or holds no sweep at all.
    """
    folder = place if isinstance(place, Folder) else open_folder(place)
    found = find_sweeps(folder)
    if not found:
        raise AnalysisError(f"{folder.shown}: holds no sweep: no folder in it has {TRIALS}")
    sweeps = []
    for sweep in found:
        try:
            sweeps.append(read_tables(sweep))
        except AnalysisError as error:
            problem(str(error))
    return sorted(sweeps, key=lambda tables: tables.name)
