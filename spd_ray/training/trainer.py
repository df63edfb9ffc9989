"""The training loop: Algorithm 1 of Huang et al. 2022 on one engine, CPU or GPU alike.

Everything random is a function of (seed, step): the order of the data, the draw of Eq. (1), dropout. So a trial that
continues from a saved state goes on exactly as if it had never stopped.

Why so: docs/decisions.md #embeddings-of-its-own, #random-numbers, #empty-draws, #skipped-steps.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spd_ray.config.timeline import Timeline
from spd_ray.config.trial import TrialConfig
from spd_ray.data.batches import Batch, DeviceSplit, EncodedSplit, Padding, epoch_batches
from spd_ray.engine import engine as engines
from spd_ray.engine import engine_state
from spd_ray.engine.optimizer import ReweightedNorm
from spd_ray.equations import losses
from spd_ray.model import compiled, objective, surgery
from spd_ray.model.attention import ModelOutputs
from spd_ray.model.surgery import Draw
from spd_ray.records.schema import StepRecord
from spd_ray.training.pruning import Pruner
from spd_ray.training.recording import ALONE, Allowance, choose_teacher_outputs
from spd_ray.training.sparse import choose_kernels
from spd_ray.training.taken_steps import TakenStep, TrainingError, read_steps
from spd_ray.training.teacher import EVAL_BATCH_SIZE, Scores, Teacher, predict, pretrained_classifier, scores_of
from spd_ray.training.teacher_outputs import RecordedTeacher, TeacherOutputs


@dataclass(frozen=True, kw_only=True)
class SpdRun:
    """One trial made ready: the grafted model on its engine, the data and the timeline."""

    config: TrialConfig
    timeline: Timeline
    teacher: Teacher
    train_sample: EncodedSplit  # scored beside the selection split, to see the gap
    model: PreTrainedModel
    layers: list[surgery.GraftedLayer]
    active: list[nn.Module]  # in training mode during a step, with dropout
    engine: Any
    teacher_outputs: TeacherOutputs | None  # f^T on the training set; None: nothing reads it
    pruner: Pruner
    norm: ReweightedNorm
    backend: str | None  # by which the layers of a step are compiled

    @property
    def step(self) -> int:
        """Applied optimizer steps so far."""
        return engines.applied_steps(self.engine)


def prepare(config: TrialConfig, teacher: Teacher, allowed: Allowance = ALONE) -> SpdRun:
    """Initialise student and grafted model (Algorithm 1, Input) and wrap them.

    The teacher's outputs are recorded as far as is `allowed`.
    """
    method, train = config.method, teacher.data.train
    timeline = Timeline.of(method, len(train))
    model = surgery.graft(
        teacher.model,
        method.student,
        method.objective.attention_maps,
        dropout=method.dropout,
        teacher_dropout=method.teacher_dropout,
        source=_source(config, teacher) if method.trained == "all" else None,
        shares_frozen=_shares_frozen(config),
        joins=not config.engine.compile_layers,
    )
    layers = surgery.grafted_layers(model)
    active = surgery.student_modules(model, method.trained)
    if method.teacher_dropout > 0:
        active += surgery.teacher_modules(model)
    trained = surgery.student_parameters(model) if method.trained == "layers" else set(model.parameters())
    parameters = {name: p for name, p in model.named_parameters() if p in trained}
    for parameter in model.parameters() if method.clip_over == "all" else parameters.values():
        parameter.requires_grad_(True)
    initial = {n: p.detach().clone() for n, p in parameters.items()} if method.pruning == "lottery" else {}
    norm = ReweightedNorm.of(timeline, model)
    engine = engines.make_engine(
        model,
        list(parameters.values()),
        config.engine,
        batch_size=method.batch_size,
        clip_norm=method.clip_norm,
        weight_decay=method.weight_decay,
    )
    choose_kernels(model, config.engine)
    sample_size = min(method.eval_train_examples, len(train))
    return SpdRun(
        config=config,
        timeline=timeline,
        teacher=teacher,
        train_sample=train.subset(np.linspace(0, len(train) - 1, sample_size).round().astype(int)),
        model=model,
        layers=layers,
        active=active,
        engine=engine,
        teacher_outputs=choose_teacher_outputs(config, teacher, model, layers, allowed),
        pruner=Pruner(timeline, engine, layers, initial),
        norm=norm,
        backend=compiled.BACKEND if config.engine.compile_layers else None,
    )


def _shares_frozen(config: TrialConfig) -> bool:
    """Whether the grafted model's frozen parameters may be the teacher's: nothing converts, parts or trains them."""
    method, engine = config.method, config.engine
    return (
        method.trained == "layers"
        and method.clip_over == "trained"
        and engine.precision == "fp32"
        and engine.zero_stage < 3
    )


def _source(config: TrialConfig, teacher: Teacher) -> PreTrainedModel:
    """What a student that is trained whole starts from: the teacher, or the encoder that it was fine-tuned from."""
    if config.method.student.init == "teacher":
        return teacher.model
    return pretrained_classifier(config.model, teacher.data.task, config.method.dropout, config.seed)


def train_spd(run: SpdRun, tell: Callable[[TakenStep], None] | None = None) -> Iterator[StepRecord]:
    """Algorithm 1 from the run's current step to t3: one record a training step, several an evaluation.

    They come evaluation by evaluation, the steps before it first, the task's metric on the selection split last; the
    student is then that of the evaluation. Raises TrainingError when the loss is not finite or fp16 overflows at the
    smallest loss scale. `tell` is called after every step.
    """
    timeline = run.timeline
    sparsity = surgery.sparsity(run.model)
    taken: list[TakenStep] = []
    for step, parts in zip(range(run.step, timeline.t3), batches_from(run, run.step), strict=False):
        taken.append(training_step(run, step, parts, sparsity))
        if tell is not None:
            tell(taken[-1])
        if any(event.step == step + 1 for event in timeline.pruning_events):
            if run.norm.strength:  # what the norm has zeroed, whatever the masks say
                with engine_state.whole_parameters(run.engine):
                    taken[-1].known["sparsity"] = surgery.share_of_zeros(run.model)
            run.pruner.event(step + 1, partial(student_losses, run, step + 1))
            sparsity = surgery.sparsity(run.model)
        if step + 1 in timeline.eval_steps:
            yield from read_steps(run.engine, taken)
            taken.clear()
            yield from evaluate_student(run, step + 1, sparsity)


def training_step(run: SpdRun, step: int, parts: Sequence[Batch], sparsity: float) -> TakenStep:
    """Distil the grafted model from the teacher on one batch, under one draw, until the step is applied.

    `parts` are what this rank computes of the batch, one after the other. In fp16 the host waits for whether the
    gradients overflowed, else for nothing.
    """
    started = time.perf_counter()
    timeline, seed = run.timeline, run.config.seed
    p = timeline.replacing_probability(step)
    draw = draw_at(seed, step, p, len(run.layers))
    learning_rate = timeline.learning_rate(step)
    engines.set_rates(run.engine, learning_rate, *run.norm.at(step, timeline))

    attempts = 0
    while run.step == step:
        loss_scale = engines.loss_scale(run.engine)
        if attempts and loss_scale <= 1.0:
            raise TrainingError(f"fp16 overflows even at loss scale {loss_scale:g} at step {step}")
        attempts += 1
        run.pruner.begin_step(step, loss_scale)
        found = []
        for index, part in enumerate(parts, start=engines.rank() * len(parts)):
            torch.manual_seed((seed * 1_000_003 + step) * engines.world_size() * len(parts) + index)
            terms = loss_terms(run, part, step, draw)
            loss = with_gradient(run, part, objective.weighted_sum(timeline.objective(step), terms))
            engines.apply_part(run.engine, loss)
            found.append(torch.stack([loss, *terms.values()]).detach())
    run.pruner.end_step(draw)

    known = dict(
        step=step,
        epoch=step / timeline.steps_per_epoch,
        stage=timeline.stage(step),
        split="batch",
        metric="loss",
        sparsity=sparsity,
        p=p,
        learning_rate=learning_rate,
        draw="".join("1" if r else "0" for r in draw),
        tokens=parts[0].real_tokens,
        loss_scale=loss_scale,
        skipped=attempts - 1,
        seconds=time.perf_counter() - started,
    )
    losses_of_step = found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)
    return TakenStep(losses_of_step, tuple(terms), known)


def batches_from(run: SpdRun, step: int) -> Iterator[list[Batch]]:
    """This rank's parts of the batches of `step`, `step` + 1, ...

    Epochs are shuffled by (seed, epoch), examples of like length together. An epoch's order is copied to the device
    at its begin, the tokens once.
    """
    train, padding = run.teacher.data.train, Padding.of(run.config)
    own = run.config.engine.gradient_accumulation_steps
    first, parts = engines.rank() * own, engines.world_size() * own
    on_device = DeviceSplit.of(train, run.engine.device)
    epoch, index = divmod(step, run.timeline.steps_per_epoch)
    while True:
        batches = epoch_batches(train.lengths, run.config.method.batch_size, run.config.seed, epoch)[index:]
        order = on_device.rows_of(np.concatenate(batches)).split([len(indices) for indices in batches])
        for indices, rows in zip(batches, order, strict=True):
            yield [on_device.part(indices, rows, part, parts, padding) for part in range(first, first + own)]
        epoch, index = epoch + 1, 0


def draw_at(seed: int, step: int, p: float, layers: int) -> Draw:
    """r_1 ... r_K of Eq. (1): independent Bernoulli(p), one draw a step for the whole batch and for all ranks.

    A draw of no student layer is kept: its gradient is zero, and the step is taken with it, as Eq. (1) says.
    """
    return tuple(bool(r) for r in np.random.default_rng([seed, step]).random(layers) < p)


def loss_terms(run: SpdRun, batch: Batch, step: int, draw: Draw) -> dict[str, Tensor]:
    """The terms of the step's objective that have a weight.

    Blocks before the first grafted student layer are the teacher's own: their outputs are known, and their terms are
    exactly zero. Where gradients or dropout of the frozen layers count, everything is computed.
    """
    method, wanted = run.config.method, run.timeline.objective(step)
    compute = run.teacher_outputs is not None and (wanted.distils or isinstance(run.teacher_outputs, RecordedTeacher))
    teacher = run.teacher_outputs.outputs(batch) if run.teacher_outputs is not None and compute else None
    frozen_count = method.clip_over == "all" or method.teacher_dropout > 0
    reuse = teacher if method.grafts and not frozen_count else None
    student = run_grafted(run, batch.inputs, draw, reuse)
    terms = objective.terms(wanted, student, teacher, batch.labels, batch.tokens, batch.shares)
    if "consistency" in wanted.weights():
        consistency = mixed_consistency(run, batch, step, draw, student)
        terms["consistency"] = run.timeline.phase_share(step) * batch.shares.tokens * consistency
    return terms


def student_losses(run: SpdRun, step: int, count: int) -> Iterator[list[Callable[[], Tensor]]]:
    """What a pruning event after `step` steps takes gradients of: this rank's of `count` batches drawn at random.

    Of each batch its parts, whose mean it is: the objective of the student alone, without dropout, outside the engine.
    """
    aside = replace(run, engine=run.model, active=[], backend=None)
    train, seed, size = run.teacher.data.train, run.config.seed, run.config.method.batch_size
    on_device = DeviceSplit.of(train, run.engine.device)
    parts = engines.world_size() * run.config.engine.gradient_accumulation_steps
    padding = Padding.of(run.config)
    objective_at, draw = run.timeline.objective(step), (True,) * len(run.layers)

    def loss(batch: Batch) -> Tensor:
        return objective.weighted_sum(objective_at, loss_terms(aside, batch, step, draw))

    for index in range(engines.rank(), count, engines.world_size()):
        indices = np.random.default_rng([seed, step, 2, index]).permutation(len(train))[:size]
        rows = on_device.rows_of(indices)
        yield [partial(loss, on_device.part(indices, rows, part, parts, padding)) for part in range(parts)]


def run_grafted(
    run: SpdRun, inputs: dict[str, Tensor | None], draw: Draw, teacher: ModelOutputs | None = None
) -> ModelOutputs:
    """f^G of Eq. (1) on one batch, in training mode; the leading blocks' outputs are taken from `teacher`."""
    known = () if teacher is None else tuple(layer.hidden for layer in teacher.layers if layer is not None)
    surgery.set_draw(run.layers, draw, known)
    surgery.set_training(run.active, True)
    outputs = surgery.run_model(run.engine, run.layers, inputs, run.backend)
    surgery.set_training(run.active, False)
    return outputs


def mixed_consistency(run: SpdRun, batch: Batch, step: int, draw: Draw, student: ModelOutputs) -> Tensor:
    """Consistency under mixup of the last layer (Ko et al. 2023): inputs are mixed with the batch in reverse order.

    The larger share, max(s, 1 - s) of s ~ U(0, 1), is the example's own.
    """
    share = float(np.random.default_rng([run.config.seed, step, 1]).random())
    share = max(share, 1.0 - share)
    partner = torch.arange(len(batch.labels) - 1, -1, -1, device=batch.tokens.device)
    embedded = run.model.get_input_embeddings()(batch.inputs["input_ids"])  # (B, L, E)
    inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "input_ids"}
    inputs["inputs_embeds"] = share * embedded + (1.0 - share) * embedded[partner]
    if (mask := inputs["attention_mask"]) is not None:
        inputs["attention_mask"] = mask | mask[partner]
    mixed, plain = run_grafted(run, inputs, draw).layers[-1], student.layers[-1]
    if mixed is None or plain is None:
        return student.logits.new_zeros((), dtype=torch.float32)
    return losses.consistency_loss(mixed.hidden, plain.hidden, partner, share, losses.RealTokens(batch.tokens))


def with_gradient(run: SpdRun, part: Batch, loss: Tensor) -> Tensor:
    """`loss` with a gradient for everything that is trained, be it zero: where no student layer was drawn."""
    if loss.requires_grad:
        return loss
    return loss + 0.0 * run_grafted(run, part.inputs, (True,) * len(run.layers)).logits.float().sum()


def evaluate_student(run: SpdRun, step: int, sparsity: float) -> Iterator[StepRecord]:
    """Score f^S, all layers the student's, on a sample of train and on the selection split, whose score comes last."""
    data, task = run.teacher.data, run.teacher.data.task
    surgery.set_draw(run.layers, (True,) * len(run.layers))
    for split, examples in (("train", run.train_sample), (data.selection, data.chooser)):
        started = time.perf_counter()
        scores = scores_on_ranks(run, examples)
        seconds = time.perf_counter() - started
        for metric, value in (("loss", scores.loss), *scores.other_scores.items(), (task.metric, scores.score)):
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


def scores_on_ranks(run: SpdRun, split: EncodedSplit) -> Scores:
    """The student's scores on `split`, each rank computing every n-th example of n ranks."""
    ranks = engines.world_size()
    mine = np.arange(engines.rank(), len(split), ranks)
    part = predict(run.model, split.subset(mine), EVAL_BATCH_SIZE, run.engine.device)
    logits = np.empty((len(split), part.shape[1]), part.dtype)
    for rank, logits_of_rank in enumerate(engines.gather_over_ranks(part)):
        logits[rank::ranks] = logits_of_rank
    return scores_of(logits, split, run.teacher.data.task)
