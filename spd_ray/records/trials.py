"""The trials of a sweep on disk: `trials.parquet`, and a journal of what has changed since it was written.

Why so: docs/decisions.md #trials-on-disk.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from spd_ray.base.files import append_lines, read_lines
from spd_ray.base.pace import Pace
from spd_ray.records import layout
from spd_ray.records.parquet import write_parquet
from spd_ray.records.schema import ENDED, TRIAL_SCHEMA, TrialRecord

_FOLD_SHARE, _FOLD_SECONDS = 0.05, 5.0  # of the time, at most, to write trials.parquet; between two times, at least


def read_trials(sweep_folder: Path) -> list[TrialRecord]:
    """All trials of a sweep that no driver is writing to; of one that runs, as they were seconds ago."""
    path = layout.trials_table(sweep_folder)
    rows = pq.read_table(path, schema=TRIAL_SCHEMA).to_pylist() if path.exists() else []
    rows += read_lines(layout.trials_journal(sweep_folder))
    newest = {row["trial_id"]: row for row in rows}
    return [TrialRecord(**newest[trial_id]) for trial_id in sorted(newest)]


def write_trials(sweep_folder: Path, trials: Iterable[TrialRecord]) -> None:
    """Rewrite `trials.parquet`."""
    write_parquet(sorted(trials, key=lambda trial: trial.trial_id), TRIAL_SCHEMA, layout.trials_table(sweep_folder))


class TrialStore:
    """The trials of a sweep by id, and on disk: what a change costs does not grow with their number.

    A change is in the journal when `put` returns. `trials.parquet` is rewritten when it is due, and the
    journal starts empty; after a kill in between the journal repeats what the table has already.
    """

    def __init__(self, sweep_folder: Path) -> None:
        self.folder = sweep_folder
        self.trials = {trial.trial_id: trial for trial in read_trials(sweep_folder)}
        self._journal = layout.trials_journal(sweep_folder)
        self.pace = Pace(_FOLD_SHARE, _FOLD_SECONDS)
        self.fold()

    def put(self, *trials: TrialRecord) -> None:
        """Add new trials, or replace old ones by what is known of them now.

        The end of a trial survives a power cut: the study is told next, and must not know more than the store.
        """
        self.trials.update((trial.trial_id, trial) for trial in trials)
        rows = [{name: getattr(trial, name) for name in TRIAL_SCHEMA.names} for trial in trials]
        append_lines(self._journal, rows, outlives_power_cut=any(trial.status in ENDED for trial in trials))
        self.fold_if_due()

    def fold_if_due(self) -> None:
        """Write `trials.parquet` if a trial has changed and the last time is long enough ago."""
        if self.pace.due:
            self.fold()

    def fold(self) -> None:
        """Write `trials.parquet` if a trial has changed."""
        if not self._journal.exists():
            return
        with self.pace.measured():
            if self.trials:
                write_trials(self.folder, self.trials.values())
            self._journal.unlink()
