"""Reading of a sweep's folder: `trials.parquet` and `steps/trial=<id>/*.parquet`, as spd_ray.records documents them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

SCHEMA_VERSION = "2"
_VERSION_KEY = b"spd_ray.schema_version"


class AnalysisError(Exception):
    """What a user can mend. The message is one line: which folder or file, and what would be right."""


class NoData(Exception):
    """The sweep holds nothing to draw this figure from (yet). The message is one line that says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """The columns of `trials.parquet` that the analysis reads; what is not known yet is None."""

    trial_id: str
    configuration: int
    seed: int
    status: str  # "waiting", "running", "finished", "stopped" or "failed"
    task: str
    model: str
    metric: str
    p0: float
    total_epochs: float
    stage1_epochs: float
    stage2_epochs: float
    stage1_lr: float
    stage23_lr: float
    target_sparsity: float
    t1: int | None = None
    t2: int | None = None
    t3: int | None = None
    pruning_end_step: int | None = None
    feasible: bool | None = None
    best_score: float | None = None  # dev, of the best evaluation at the target sparsity
    best_step: int | None = None
    train_score: float | None = None  # at best_step
    achieved_sparsity: float | None = None
    teacher_score: float | None = None
    majority_score: float | None = None
    error: str | None = None
    config: str  # the whole TrialConfig as JSON

    @property
    def eligible(self) -> bool:
        """Whether it can be the best: it ended without failure, a student at its target sparsity was scored."""
        return self.status in ("finished", "stopped") and bool(self.feasible) and self.best_score is not None

    @property
    def comparable(self) -> bool:
        """Whether its score stands beside those of other configurations: eligible and run to its end."""
        return self.eligible and self.status == "finished"

    @property
    def gap(self) -> float | None:
        """Train score minus dev score at `best_step`."""
        if self.train_score is None or self.best_score is None:
            return None
        return self.train_score - self.best_score


@dataclass(frozen=True)
class Tables:
    """A sweep's folder with its trials in the order of configuration and seed; steps are read when asked for."""

    folder: Path
    trials: tuple[Trial, ...]

    def trial(self, trial_id: str) -> Trial:
        """The trial of that id. Raises AnalysisError where there is none."""
        found = [trial for trial in self.trials if trial.trial_id == trial_id]
        if not found:
            known = ", ".join(trial.trial_id for trial in self.trials[:5]) or "none yet"
            raise AnalysisError(f"{self.folder}: no trial {trial_id!r}; there are, for example, {known}")
        return found[0]

    def chosen(self, trial_id: str | None) -> Trial:
        """The trial `trial_id`, by default the best eligible one. Raises NoData where there is none yet."""
        if trial_id is not None:
            return self.trial(trial_id)
        candidates = [trial for trial in self.trials if trial.eligible]
        if not candidates:
            raise NoData(f"no trial has ended with a student at its target sparsity yet ({status_counts(self.trials)})")
        return max(sorted(candidates, key=lambda trial: trial.trial_id), key=lambda trial: trial.best_score or 0.0)

    def steps(self, trial_id: str, columns: Sequence[str], split: str, metric: str) -> dict[str, np.ndarray]:
        """`columns` of the trial's rows of `split` and `metric`, each (N,), by ascending step; missing is NaN.

        A step that two parts hold (a trial restarted with other part boundaries) counts once, as the part
        that begins later has it. Raises AnalysisError on a broken file or one of another schema version.
        """
        wanted = sorted({*columns, "step"})
        condition = (ds.field("split") == split) & (ds.field("metric") == metric)
        parts = sorted((self.folder / "steps" / f"trial={trial_id}").glob("*.parquet"))
        if not parts:
            return {name: np.empty(0) for name in columns}
        table = pa.concat_tables([_read(part, wanted, condition) for part in parts])
        steps = table["step"].to_numpy()
        last_first = np.unique(steps[::-1], return_index=True)[1]
        kept = len(steps) - 1 - last_first
        return {name: table[name].to_numpy()[kept] for name in columns}


def read_tables(folder: Path) -> Tables:
    """Read the trials of the sweep in `folder`.

    Raises AnalysisError where the folder or `trials.parquet` is absent, broken or of another schema version.
    """
    if not folder.is_dir():
        raise AnalysisError(f"{folder}: no such folder; give a sweep's folder, which holds trials.parquet")
    path = folder / "trials.parquet"
    if not path.is_file():
        raise AnalysisError(f"{folder}: holds no trials.parquet; it is no sweep's folder, or no trial has started yet")
    rows = _read(path, [field.name for field in fields(Trial)]).to_pylist()
    trials = (Trial(**row) for row in rows)
    return Tables(folder, tuple(sorted(trials, key=lambda trial: (trial.configuration, trial.seed))))


def _read(path: Path, columns: list[str], condition: ds.Expression | None = None) -> pa.Table:
    """The columns and rows asked for, both pushed down to Parquet, after a check of the schema's version."""
    try:
        dataset = ds.dataset(path, format="parquet")
        version = (dataset.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
        if version != SCHEMA_VERSION:
            raise AnalysisError(f"{path}: schema version {version} (spd_ray.schema_version), not {SCHEMA_VERSION}")
        return dataset.to_table(columns=columns, filter=condition)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:160]
        raise AnalysisError(f"{path}: cannot be read as a sweep's Parquet file: {reason}") from error


def status_counts(trials: Sequence[Trial]) -> str:
    """For example "3 finished, 1 failed", or "no trials"."""
    counts = Counter(trial.status for trial in trials)
    return ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "no trials"


def flat_config(trial: Trial) -> dict[str, str]:
    """The trial's whole configuration as "section.key" -> value in JSON."""
    flat: dict[str, str] = {}

    def add(prefix: str, section: dict) -> None:
        for key, value in section.items():
            if isinstance(value, dict):
                add(f"{prefix}{key}.", value)
            else:
                flat[prefix + key] = json.dumps(value)

    add("", json.loads(trial.config))
    return flat


class Setting(NamedTuple):
    """What the trials of a figure have in common, or the values that they take, ascending."""

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    metrics: tuple[str, ...]
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...]


def setting_of(trials: Sequence[Trial]) -> Setting:
    """The setting of `trials`."""
    return Setting(
        tasks=tuple(sorted({trial.task for trial in trials})),
        models=tuple(sorted({trial.model for trial in trials})),
        metrics=tuple(sorted({trial.metric for trial in trials})),
        sparsities=tuple(sorted({trial.target_sparsity for trial in trials})),
        seeds=tuple(sorted({trial.seed for trial in trials})),
    )
