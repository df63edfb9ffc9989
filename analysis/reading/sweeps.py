"""A sweep: its folder with `trials.parquet` and `steps/trial=<id>/*.parquet`, as `spd_ray` documents them.

Nothing is read twice: a sweep's trials at once, its evaluations in one scan over all step files when a figure first
asks for them, the training steps of a single trial when Figure 4 does.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from analysis.errors import AnalysisError
from analysis.reading.description import Description, parse_description
from analysis.reading.evaluations import ATTEMPTS, Evaluations, read_evaluations, step_parts
from analysis.reading.folders import TRIALS, Folder, find_sweeps, first_line, open_folder
from analysis.reading.parquet import read_file
from analysis.reading.trials import LATER_COLUMNS, Trial


@dataclass(frozen=True)
class Sweep:
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
    def description(self) -> Description:
        """What sweep.yaml says, read once."""
        return parse_description((self.folder / "sweep.yaml").text())

    def trial(self, trial_id: str) -> Trial:
        """The trial with that ID. Raises AnalysisError where there is none."""
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
        for _ in range(ATTEMPTS):
            with suppress(FileNotFoundError):  # the trial's parts were merged, or the sweep replaced, at this moment
                parts = step_parts(self.folder / "steps" / f"trial={trial_id}")
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
        if isinstance(self._evaluations_or_error, AnalysisError):
            raise self._evaluations_or_error
        return self._evaluations_or_error

    @cached_property
    def _evaluations_or_error(self) -> Evaluations | AnalysisError:
        """The step files are scanned once, whatever comes of it."""
        try:
            return read_evaluations(self.folder)
        except AnalysisError as error:
            return error


def read_sweep(place: str | Path | Folder) -> Sweep:
    """Read the trials of the sweep at `place`, a path or a URI.

    Raises AnalysisError where the folder or `trials.parquet` is absent, broken or of another schema version.
    """
    folder = place if isinstance(place, Folder) else open_folder(place)
    try:
        if folder.kind() != fs.FileType.Directory:
            raise AnalysisError(f"{folder.shown}: no such folder; give a sweep's folder, which holds {TRIALS}")
        if (folder / TRIALS).kind() != fs.FileType.File:
            raise AnalysisError(f"{folder.shown}: holds no {TRIALS}; not a sweep's folder, or no trial has started yet")
        table = read_file(folder / TRIALS, [field.name for field in fields(Trial)], optional=LATER_COLUMNS)
    except (pa.ArrowException, OSError) as error:
        raise AnalysisError(f"{folder.shown}: cannot be read: {first_line(error)}") from error
    trials = (Trial(**row) for row in table.to_pylist())
    return Sweep(folder, tuple(sorted(trials, key=lambda trial: (trial.configuration, trial.seed))))


def read_sweeps(place: str | Path | Folder, report: Callable[[str], None]) -> list[Sweep]:
    """Every readable sweep at or below `place`, by name; `report` is given one line for each unreadable one.

    Raises AnalysisError where `place` does not exist or holds no sweep at all.
    """
    folder = place if isinstance(place, Folder) else open_folder(place)
    found = find_sweeps(folder)
    if not found:
        raise AnalysisError(f"{folder.shown}: holds no sweep: no folder in it has {TRIALS}")
    sweeps = []
    for one in found:
        try:
            sweeps.append(read_sweep(one))
        except AnalysisError as error:
            report(str(error))
    return sorted(sweeps, key=lambda sweep: sweep.name)
