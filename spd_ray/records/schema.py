"""The records of a sweep and their Parquet schemas: the documented interface of a sweep's folder.

Steps (`steps/trial=<id>/<first>-<last>.parquet`) are in long form. A row is one training step
(`split = "batch"`, `metric = "loss"`, the schedule and loss columns filled), or one score of one
evaluation (`split` "train" or the selection split, `metric` the task's metric or "loss"). `step` of a training step is
its index t in [0, t3); `step` of an evaluation is the number of applied steps before it, in [1, t3].

A trial writes a part an evaluation; one that has ended has all in one, named by the whole range. For the moment between
the appearance of the whole and the removal of its parts a row is there twice: a reader takes each (step, split, metric)
once, and lists a trial's parts again if one vanishes.

Trials (`trials.parquet`) hold one row a trial, that is, a configuration under one seed. While a sweep runs, what has
changed in the last seconds is in `trials.journal` alone, a line of JSON a change: a whole record, the last one counts.

Predictions (`predictions/<id>.parquet`) hold one row an example of dev for a retained student, and in `teacher.parquet`
for the dense teacher: what is needed to resample examples and to compare two students on the same ones.

Why so: docs/decisions.md #schema-versions.
"""

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, get_args

import pyarrow as pa

from spd_ray.config.method import TERMS
from spd_ray.equations.loss_terms import column

SCHEMA_VERSION = "3"
_METADATA = {"spd_ray.schema_version": SCHEMA_VERSION}
COSTS = ("packed_bytes", "latency_ms", "dense_latency_ms")  # columns of trials, of a student that was read back
ENDED = ("finished", "stopped", "failed")  # the status of a trial that runs no more


LOSS_COLUMNS = tuple(column(name) for name in TERMS)
StepLosses: Any = make_dataclass(
    "StepLosses",
    [(name, float | None, field(default=None)) for name in LOSS_COLUMNS],
    frozen=True,
    kw_only=True,
    slots=True,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord(StepLosses):
    """One training step, or one score of one evaluation (then the fields that default to None are None).

    The terms of the step's objective, unweighted, are `loss_<name>` for each name of `config.method.TERMS`.
    """

    step: int
    epoch: float
    stage: int  # 1, 2 or 3
    split: str  # "batch", "train", and what students are chosen on: "dev" or "holdout"
    metric: str  # "loss", or the task's metric: "accuracy", "f1", ..., "neg_mse", or another that `task.also` names
    value: float
    sparsity: float  # achieved fraction of zeros over the prunable matrices, in [0, 1]
    seconds: float  # wall seconds of the step, or of the evaluation
    p: float | None = None  # replacing probability, Eq. (5)
    learning_rate: float | None = None  # Eq. (6)
    draw: str | None = None  # r_1 ... r_M of Eq. (1), "1" for a grafted student layer: "1011"
    tokens: int | None = None  # real tokens in the batch, padding not counted
    loss_scale: float | None = None
    skipped: int | None = None  # attempts at this step that overflowed before it was applied


STEP_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("epoch", pa.float32(), nullable=False),
        pa.field("stage", pa.int8(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("sparsity", pa.float64(), nullable=False),
        pa.field("seconds", pa.float32(), nullable=False),
        *(pa.field(name, pa.float32()) for name in LOSS_COLUMNS),
        pa.field("p", pa.float32()),
        pa.field("learning_rate", pa.float32()),
        pa.field("draw", pa.string()),
        pa.field("tokens", pa.int32()),
        pa.field("loss_scale", pa.float32()),
        pa.field("skipped", pa.int32()),
    ],
    metadata=_METADATA,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """One trial as the sweep knows it; what is not known yet is None."""

    trial_id: str  # "<configuration>-s<seed>", also the partition of the steps and the MLflow tag
    configuration: int  # the Optuna trial's number
    seed: int
    status: str  # "waiting", "running", "finished", "stopped" (early) or "failed"
    method: str  # "spd", or what it is compared with: a file of spd_ray/config/methods
    grafting: str  # "none", "three_stage", "constant" or "linear"
    pruning: str  # "none", a criterion, "global_magnitude", "lottery" or "reweighted_l1"
    task: str
    model: str
    metric: str
    selection: str  # the split that students are chosen on: "dev" or "holdout"
    layers: int | None = None  # of the teacher's encoder
    student_layers: int | None = None
    prunable_parameters: int | None = None  # of the teacher
    encoder_parameters: int | None = None  # of the teacher's encoder layers, biases and LayerNorm counted
    parameters: int | None = None  # of the whole teacher
    remaining_encoder_parameters: int | None = None  # of the best student, its zeros not counted
    remaining_parameters: int | None = None
    p0: float
    total_epochs: float
    stage1_epochs: float
    stage2_epochs: float
    stage1_lr: float
    stage23_lr: float
    lr_schedule: str  # "two_decays" (Eq. 6), "one_decay", "rounds", "phases" or "constant"
    target_sparsity: float  # 0 where nothing is pruned
    pruning_end: float  # multiple of t1
    batch_size: int
    precision: str
    zero_stage: int
    t1: int | None = None
    t2: int | None = None
    t3: int | None = None
    pruning_end_step: int | None = None
    feasible: bool | None = None  # whether a student at its target sparsity was scored
    best_score: float | None = None  # on the selection split, of the best feasible evaluation
    best_step: int | None = None
    train_score: float | None = None  # at best_step
    other_scores: str | None = None  # JSON: the metrics of `task.also`, where best_score is
    final_score: float | None = None  # on the selection split, at the last evaluation
    dev_score: float | None = None  # of the retained student, read back from disk: with a holdout, dev's only use
    packed_bytes: int | None = None  # of the retained student's weights, as `python -m spd_ray.deploy` packs it
    latency_ms: float | None = None  # of the packed student, on `timed_on`
    dense_latency_ms: float | None = None  # of the same student with its zeros, by torch
    timed_on: str | None = None  # "1 x 128 tokens, 1 thread, <processor>"
    ladder: str | None = None  # JSON: one {"sparsity", "score", "train_score", "step", "checkpoint"} a level
    achieved_sparsity: float | None = None  # of the student at best_step
    teacher_score: float | None = None  # dev, of the dense teacher
    teacher_files: str | None = None  # the hash of the teacher's own files, the same in every trial of a sweep
    majority_score: float | None = None  # dev, of always answering the majority class, or the mean (0 for correlations)
    wall_seconds: float | None = None
    device_seconds: float | None = None  # seconds inside training steps times the trial's workers
    peak_memory_bytes: int | None = None
    checkpoint: str | None = None  # URI or path, relative to the sweep's folder
    mlflow_run_id: str | None = None
    error: str | None = None
    config: str  # the whole TrialConfig as JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionRecord:
    """What one model answers to one example of the dev set."""

    example: int  # its place in the dev set
    label: float  # the class, or the value of a regression task
    prediction: float  # the class of the largest logit, or the value


_ARROW_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}

TRIAL_SCHEMA = pa.schema(
    [pa.field(f.name, _ARROW_TYPES[(get_args(f.type) or (f.type,))[0]]) for f in fields(TrialRecord)],
    metadata=_METADATA,
)

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("example", pa.int32(), nullable=False),
        pa.field("label", pa.float32(), nullable=False),
        pa.field("prediction", pa.float32(), nullable=False),
    ],
    metadata=_METADATA,
)
