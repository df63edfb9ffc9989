"""The training loop: Algorithm 1 of Huang et al. 2022 on one engine, CPU or GPU alike.

Everything random is a function of (seed, step): the order of the data, the draw of Eq. (1), dropout. A trial
that continues from a saved state therefore goes on exactly as if it had never stopped.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from spd_ray import engine as engines
from spd_ray import losses, surgery
from spd_ray.activations import (
    MEMORY_LIMIT_BYTES,
    RecordedTeacher,
    TeacherOutputs,
    bytes_needed,
    record_teacher,
    run_teacher,
)
from spd_ray.config import Timeline, TrialConfig
from spd_ray.data import EncodedSplit, collate, epoch_batches
from spd_ray.records import StepRecord
from spd_ray.surgery import Draw
from spd_ray.teacher import Teacher, evaluate


class Batch(NamedTuple):
    """B examples of L positions."""

    indices: np.ndarray  # (B,) in the training set
    inputs: dict[str, Tensor]  # the model's arguments, (B, L) each
    labels: Tensor  # (B,)
    tokens: Tensor  # (B, L) bool, True for a real token


class TrainingError(RuntimeError):
    """Training cannot go on; the message is the reason that the trial's record gives."""


@dataclass(frozen=True, kw_only=True)
class SpdRun:
    """One trial made ready: the grafted model on its engine, the data and the timeline."""

    config: TrialConfig
    timeline: Timeline
    teacher: Teacher
    train_sample: EncodedSplit  # scored beside dev, to see the gap
    model: PreTrainedModel
    layers: list[surgery.GraftedLayer]
    engine: Any
    known: RecordedTeacher | None  # the teacher's outputs on the training set, where they fit into memory

    @property
    def step(self) -> int:
        """Applied optimizer steps so far."""
        return engines.applied_steps(self.engine)


def prepare(config: TrialConfig, teacher: Teacher) -> SpdRun:
    """Initialise student and grafted model from the teacher (Algorithm 1, Input) and wrap them."""
    method = config.method
    train = teacher.data.train
    model = surgery.graft(teacher.model, method.dropout, method.objective.attention_maps)
    engine = engines.make_engine(model, config.engine, method.batch_size, method.clip_norm, method.weight_decay)
    sample_size = min(method.eval_train_examples, len(train))
    layers = surgery.grafted_layers(model)
    return SpdRun(
        config=config,
        timeline=Timeline.of(method, len(train)),
        teacher=teacher,
        train_sample=train.subset(np.linspace(0, len(train) - 1, sample_size).round().astype(int)),
        model=model,
        layers=layers,
        engine=engine,
        known=_known_outputs(config, teacher, model, layers) if method.objective.distils else None,
    )


_last_known: dict[tuple[str, ...], RecordedTeacher] = {}


def _known_outputs(
    config: TrialConfig, teacher: Teacher, model: PreTrainedModel, layers: list[surgery.GraftedLayer]
) -> RecordedTeacher | None:
    """The teacher's outputs on the training set, kept in the process for the next trial that asks for the same."""
    train = teacher.data.train
    if bytes_needed(model, train) > MEMORY_LIMIT_BYTES:
        return None
    key = (
        str(teacher.folder),
        teacher.data.fingerprint,
        config.engine.precision,
        config.method.objective.attention_maps,
    )
    if key not in _last_known:
        _last_known.clear()
        _last_known[key] = record_teacher(model, layers, train)
    return _last_known[key]


def train_spd(run: SpdRun) -> Iterator[StepRecord]:
    """Algorithm 1 from the run's current step to t3: one record a training step, four an evaluation.

    Each evaluation ends with the dev score. The student is that of the moment whenever the iterator waits.
    Raises TrainingError when the loss is not finite or fp16 overflows at the smallest loss scale.
    """
    timeline = run.timeline
    sparsity = surgery.sparsity(run.model)
    for step, batch in zip(range(run.step, timeline.t3), batches_from(run, run.step), strict=False):
        yield training_step(run, step, batch, sparsity)
        if step + 1 in timeline.pruning_steps:
            surgery.prune(run.model, timeline.pruning_rate(step + 1))
            sparsity = surgery.sparsity(run.model)
        if step + 1 in timeline.eval_steps:
            yield from evaluate_student(run, step + 1, sparsity)


def training_step(run: SpdRun, step: int, batch: Batch, sparsity: float) -> StepRecord:
    """Distil the grafted model from the teacher on one batch, under one draw, until the step is applied."""
    started = time.perf_counter()
    timeline, seed = run.timeline, run.config.seed
    p = timeline.replacing_probability(step)
    draw = draw_at(seed, step, p, len(run.layers))
    learning_rate = timeline.learning_rate(step)
    engines.set_learning_rate(run.engine, learning_rate)

    attempts = 0
    while run.step == step:
        loss_scale = engines.loss_scale(run.engine)
        if attempts and loss_scale <= 1.0:
            raise TrainingError(f"fp16 overflows even at loss scale {loss_scale:g} at step {step}")
        attempts += 1
        torch.manual_seed(seed * 1_000_003 + step)
        terms = loss_terms(run, batch, draw)
        loss = weighted_sum(run, terms)
        engines.apply_step(run.engine, loss)

    total, *values = torch.stack([loss.detach(), *terms.values()]).tolist()
    if not math.isfinite(total):
        raise TrainingError(f"the loss is {total} at step {step} (learning rate {learning_rate:g})")
    value_of = dict(zip(terms, values, strict=True))
    return StepRecord(
        step=step,
        epoch=step / timeline.steps_per_epoch,
        stage=timeline.stage(step),
        split="batch",
        metric="loss",
        value=total,
        sparsity=sparsity,
        seconds=time.perf_counter() - started,
        loss_hidden=value_of.get("hidden"),
        loss_attention=value_of.get("attention"),
        loss_prediction=value_of.get("prediction"),
        loss_task=value_of.get("task"),
        p=p,
        learning_rate=learning_rate,
        draw="".join("1" if r else "0" for r in draw),
        tokens=int(run.teacher.data.train.lengths[batch.indices].sum()),
        loss_scale=loss_scale,
        skipped=attempts - 1,
    )


def batches_from(run: SpdRun, step: int) -> Iterator[Batch]:
    """The batches of `step`, `step` + 1, ...: epochs shuffled by (seed, epoch), examples of like length together."""
    train = run.teacher.data.train
    epoch, index = divmod(step, run.timeline.steps_per_epoch)
    while True:
        for indices in epoch_batches(train.lengths, run.config.method.batch_size, run.config.seed, epoch)[index:]:
            inputs = collate(train, indices, run.engine.device)
            labels = inputs.pop("labels")
            yield Batch(indices, inputs, labels, inputs["attention_mask"].bool())
        epoch, index = epoch + 1, 0


def draw_at(seed: int, step: int, p: float, layers: int) -> Draw:
    """r_1 ... r_M of Eq. (1): independent Bernoulli(p), one draw a step for the whole batch and for all ranks.

    A draw of no student layer is kept: its gradient is zero, and the step is taken with it, as Eq. (1) says.
    """
    return tuple(bool(r) for r in np.random.default_rng([seed, step]).random(layers) < p)


def loss_terms(run: SpdRun, batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """The terms of Eq. (4) that have a weight, each summed over the layers.

    Layers before the first grafted one are the teacher's own: their outputs are known, and their terms are
    exactly zero.
    """
    objective = run.config.method.objective
    if not objective.distils:
        grafted = run_grafted(run, batch, draw)
        return {"task": losses.task_loss(grafted.logits, batch.labels)}

    if run.known is not None:
        teacher = run.known.of(batch.indices, batch.tokens.shape[1])
    else:
        teacher = run_teacher(run.model, run.layers, batch.inputs)
    grafted = run_grafted(run, batch, draw, teacher)
    leading = surgery.leading_teachers(draw)
    hidden = zip((grafted.hidden_states or ())[1:], teacher.hidden[1 + leading :], strict=True)
    attention = zip(grafted.attentions or (), teacher.attention[leading:], strict=True)

    terms = {}
    zero = teacher.logits.new_zeros((), dtype=torch.float32)
    if objective.task:
        terms["task"] = losses.task_loss(grafted.logits, batch.labels)
    if objective.hidden:
        terms["hidden"] = sum((losses.hidden_loss(s, t, batch.tokens) for s, t in hidden), zero)
    if objective.attention:
        terms["attention"] = sum((losses.attention_loss(s, t, batch.tokens) for s, t in attention), zero)
    if objective.prediction:
        terms["prediction"] = losses.prediction_loss(grafted.logits, teacher.logits, objective.temperature)
    return terms


def run_grafted(run: SpdRun, batch: Batch, draw: Draw, teacher: TeacherOutputs | None = None) -> Any:
    """f^G of Eq. (1) on one batch, in training mode; with `teacher`, its layers' outputs come along."""
    surgery.set_draw(run.layers, draw, known=() if teacher is None else tuple(teacher.hidden[1:]))
    surgery.train_students(run.layers, True)
    wanted = teacher is not None
    outputs = run.engine(**batch.inputs, output_hidden_states=wanted, output_attentions=wanted)
    surgery.train_students(run.layers, False)
    return outputs


def weighted_sum(run: SpdRun, terms: dict[str, Tensor]) -> Tensor:
    """The objective, Eq. (2): the terms by their weights; it always has a gradient, be it zero."""
    weights = run.config.method.objective
    loss = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
    if loss.requires_grad:
        return loss
    student = [p for p in run.model.parameters() if p.requires_grad]
    return loss + 0.0 * torch.stack([p.float().sum() for p in student]).sum()


def evaluate_student(run: SpdRun, step: int, sparsity: float) -> Iterator[StepRecord]:
    """Score f^S, all layers the student's, on a sample of the training set and on dev; the dev score is last."""
    task = run.teacher.data.task
    surgery.set_draw(run.layers, (True,) * len(run.layers))
    for split, examples in (("train", run.train_sample), ("dev", run.teacher.data.dev)):
        started = time.perf_counter()
        scores = evaluate(run.model, examples, task)
        seconds = time.perf_counter() - started
        for metric, value in (("loss", scores.loss), (task.metric, scores.score)):
            yield StepRecord(
                step=step,
                epoch=step / run.timeline.steps_per_epoch,
                stage=run.timeline.stage(step - 1),
                split=split,
                metric=metric,
                value=value,
                sparsity=sparsity,
                seconds=seconds,
            )


def save_run(run: SpdRun, folder: Path) -> None:
    """Write what the next step depends on into `folder`."""
    engines.save_state(run.engine, folder)


def load_run(run: SpdRun, folder: Path) -> None:
    """Continue from what `save_run` wrote."""
    engines.load_state(run.engine, folder)
