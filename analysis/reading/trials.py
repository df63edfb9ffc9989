"""A trial as the analysis sees it, and what a set of trials has in common or differs in."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from analysis.reading.description import flatten, parse_config

LATER_COLUMNS = ("packed_bytes", "latency_ms", "dense_latency_ms")  # that sweeps of before they were measured lack


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """The columns of `trials.parquet` that the analysis reads; what is not known yet is None."""

    trial_id: str
    configuration: int
    seed: int
    status: str  # "waiting", "running", "finished", "stopped" or "failed"
    method: str  # "spd", "finetune_prune", "progressive_only", "kd_only", ...
    grafting: str
    task: str
    model: str
    metric: str
    selection: str  # the split on which students are chosen: "dev" or "holdout"
    layers: int | None = None
    prunable_parameters: int | None = None
    encoder_parameters: int | None = None
    parameters: int | None = None
    remaining_encoder_parameters: int | None = None  # of the best student
    remaining_parameters: int | None = None
    p0: float
    total_epochs: float
    stage1_epochs: float
    stage2_epochs: float
    stage1_lr: float
    stage23_lr: float
    lr_schedule: str  # "two_decays", "one_decay", "rounds", ...
    target_sparsity: float
    pruning_end: float  # multiple of t1
    t1: int | None = None
    t2: int | None = None
    t3: int | None = None
    pruning_end_step: int | None = None
    feasible: bool | None = None
    best_score: float | None = None  # on the selection split, of the best evaluation at the target sparsity
    best_step: int | None = None
    train_score: float | None = None  # at best_step
    final_score: float | None = None  # at the last evaluation, the end of Stage III
    dev_score: float | None = None  # of the retained student
    ladder: str | None = None  # JSON, one {"sparsity", "score", "train_score", ...} per level
    achieved_sparsity: float | None = None
    teacher_score: float | None = None
    majority_score: float | None = None
    device_seconds: float | None = None
    packed_bytes: int | None = None  # of the best student as `spd_ray.deploy` packs it
    latency_ms: float | None = None  # of one input through the packed student
    dense_latency_ms: float | None = None  # of the same through the dense model
    checkpoint: str | None = None
    mlflow_run_id: str | None = None
    error: str | None = None
    config: str  # the whole TrialConfig as JSON

    @property
    def eligible(self) -> bool:
        """Whether it can be the best: it ended without failure, and a student at its target sparsity was scored."""
        return self.status in ("finished", "stopped") and bool(self.feasible) and self.best_score is not None

    @property
    def comparable(self) -> bool:
        """Whether its score may be compared with other configurations': eligible and run to its end."""
        return self.eligible and self.status == "finished"

    @property
    def is_regression(self) -> bool:
        """Whether the labels are numbers, as those of STS-B are."""
        return self.metric in ("spearman", "pearson", "neg_mse") or flat_config(self).get("task.regression") == "true"

    @property
    def gap(self) -> float | None:
        """Train score minus the selection split's score, both of the best student."""
        if self.train_score is None or self.best_score is None:
            return None
        return self.train_score - self.best_score

    @property
    def remaining(self) -> float | None:
        """The fraction of the encoder's parameters that the best student keeps, from the counts alone."""
        if not self.encoder_parameters or self.remaining_encoder_parameters is None:
            return None
        return self.remaining_encoder_parameters / self.encoder_parameters


class Level(NamedTuple):
    """A student of a trial at one of the sparsities that the trial passed through."""

    sparsity: float
    score: float | None
    train_score: float | None
    checkpoint: str | None = None  # None where it was not kept


def ladder_levels(trial: Trial) -> list[Level]:
    """The trial's students below its target sparsity; they are kept as long as its best one is."""
    rows = json.loads(trial.ladder or "[]")
    return [
        Level(row["sparsity"], row.get("score"), row.get("train_score"), trial.checkpoint and row.get("checkpoint"))
        for row in rows if row["sparsity"] < trial.target_sparsity
    ]  # fmt: skip


def levels(trial: Trial) -> list[Level]:
    """The trial's students by ascending sparsity: those of its ladder, and the best at the target sparsity."""
    sparsity = trial.target_sparsity if trial.achieved_sparsity is None else trial.achieved_sparsity
    return [*ladder_levels(trial), Level(sparsity, trial.best_score, trial.train_score, trial.checkpoint)]


def status_counts(trials: Sequence[Trial]) -> str:
    """For example "3 finished, 1 failed", or "no trials"."""
    counts = Counter(trial.status for trial in trials)
    return ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "no trials"


Exclusions = tuple[tuple[str, int], ...]  # (reason, number of trials), by reason


def count_exclusions(trials: Sequence[Trial]) -> Exclusions:
    """How many of `trials` cannot be compared with the others, by reason: ("infeasible", 1), ("stopped", 2), ..."""
    reasons = ("infeasible" if trial.status == "finished" else trial.status for trial in trials if not trial.comparable)
    return tuple(sorted(Counter(reasons).items()))


def teacher_scores(trials: Sequence[Trial]) -> tuple[float, ...]:
    """The distinct dev scores of the trials' dense teachers, ascending."""
    return tuple(sorted({trial.teacher_score for trial in trials if trial.teacher_score is not None}))


@lru_cache(maxsize=65_536)
def _flat(config: str) -> dict[str, str]:
    return flatten(parse_config(config))


def flat_config(trial: Trial) -> dict[str, str]:
    """The trial's whole configuration as "section.key" -> value in JSON."""
    return _flat(trial.config)


def varying_keys(trials: Sequence[Trial]) -> list[str]:
    """The keys "section.key" of the configuration, the seed excepted, in which `trials` differ; ascending."""
    configs = [flat_config(trial) for trial in trials]
    keys = set().union(*configs) - {"seed"}
    return sorted(key for key in keys if len({config.get(key) for config in configs}) > 1)


def short_key(key: str) -> str:
    """The key without its section.

    >>> short_key("method.p0")
    'p0'
    """
    return key.rsplit(".", 1)[-1]


class Setting(NamedTuple):
    """What the trials of a figure have in common, or the values that they take, ascending."""

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    metrics: tuple[str, ...]
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...]
    selections: tuple[str, ...]


def setting_of(trials: Sequence[Trial]) -> Setting:
    """The setting of `trials`."""
    return Setting(
        tasks=tuple(sorted({trial.task for trial in trials})),
        models=tuple(sorted({trial.model for trial in trials})),
        metrics=tuple(sorted({trial.metric for trial in trials})),
        sparsities=tuple(sorted({trial.target_sparsity for trial in trials})),
        seeds=tuple(sorted({trial.seed for trial in trials})),
        selections=tuple(sorted({trial.selection for trial in trials})),
    )
