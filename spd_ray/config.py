"""What one trial is: frozen, validated, every unit in its name. Everything becomes steps once, in `Timeline`."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from spd_ray import schedules

LOSS_TERMS = (
    "hidden",
    "attention",
    "prediction",
    "task",
    "embedding",
    "first_token",
    "cosine",
    "attention_relation",
    "value_relation",
    "consistency",
)
Precision = Literal["fp32", "bf16", "fp16"]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _absolute(path: str) -> str:
    """Workers run in other folders than the driver."""
    return str(Path(path).expanduser().absolute())


LocalPath = Annotated[str, AfterValidator(_absolute)]


class Section(BaseModel):
    """A section of the YAML: unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskConfig(Section):
    """Which data. `name` is a key of `spd_ray.tasks.TASKS`."""

    name: str
    path: LocalPath | None = Field(
        None, description="a folder of GLUE TSV files or a saved `datasets` directory; null: hub"
    )
    max_length: int = Field(128, ge=8, description="tokens; longer inputs are truncated")
    train_examples: PositiveInt | None = Field(None, description="a seeded subset of the training set; null: all")
    padding: Literal["longest", "max_length"] = Field("longest", description="training batches are padded to this")
    selection: Literal["dev", "holdout"] = Field(
        "dev",
        description="what everything is chosen on: dev (the paper's way), or a share of train; dev is then used once",
    )
    holdout_fraction: float = Field(0.1, gt=0, lt=1, description="of the training set, with `selection: holdout`")


class ModelConfig(Section):
    """Which pretrained encoder."""

    name: str = Field("bert-base-uncased", description="a hub name, or the embedded `miniature` (-8, -12: layers)")
    path: LocalPath | None = Field(None, description="a local transformers directory; it wins over `name`")
    seed: Seed = Field(0, description="the miniature's pretraining seed; nothing else uses it")


class TeacherConfig(Section):
    """Fine-tuning of the teacher (Section 4.2): the best of `learning_rates` on the dev set is kept."""

    epochs: PositiveInt = 4
    batch_size: PositiveInt = 32
    learning_rates: tuple[PositiveFloat, ...] = Field((2e-5, 3e-5, 4e-5, 5e-5), min_length=1)
    warmup_fraction: Probability = Field(0.1, description="fraction of the steps with a rising learning rate")
    weight_decay: NonNegativeFloat = 0.01
    dropout: Probability = 0.1
    seed: Seed = 0
    gate: bool = Field(True, description="refuse a teacher that is no better than the majority class")


class ObjectiveConfig(Section):
    """Weights of the loss terms; Eq. (4) is hidden = attention = prediction = 1 and the others 0."""

    hidden: NonNegativeFloat = Field(1.0, description="MSE of hidden states")
    attention: NonNegativeFloat = Field(1.0, description="MSE of attention maps")
    prediction: NonNegativeFloat = Field(1.0, description="soft cross-entropy of the logits")
    task: NonNegativeFloat = Field(0.0, description="cross-entropy, or MSE, with the labels")
    embedding: NonNegativeFloat = Field(0.0, description="MSE of what the first layer reads (TinyBERT)")
    first_token: NonNegativeFloat = Field(0.0, description="MSE of normalised first-token states (PKD)")
    cosine: NonNegativeFloat = Field(0.0, description="1 - cosine of hidden states (DistilBERT)")
    attention_relation: NonNegativeFloat = Field(0.0, description="KL of attention distributions (MiniLM)")
    value_relation: NonNegativeFloat = Field(0.0, description="KL of value relations (MiniLM)")
    consistency: NonNegativeFloat = Field(0.0, description="under mixup; rises with step / t3 (CR-ILD)")
    layers: Literal["all", "last", "but_last"] = Field("all", description="the student layers that terms compare")
    temperature: PositiveFloat = 1.0
    temperature_on: Literal["student", "both"] = Field(
        "student", description="student: as Eq. (4) prints it; both: also the teacher's logits, times T^2 (Hinton)"
    )
    attention_maps: Literal["probabilities", "scores", "dropped"] = Field(
        "probabilities", description="after the softmax, before it, or after the softmax and dropout"
    )
    tokens: Literal["real", "all"] = Field("real", description="all: padding positions enter the means")
    average_classes: bool = Field(False, description="the soft cross-entropy is divided by the number of classes")
    regression_target: Literal["teacher", "labels"] = Field("teacher", description="of the prediction term")

    @model_validator(mode="after")
    def _some_term(self) -> "ObjectiveConfig":
        if not self.weights():
            raise ValueError(f"at least one of {', '.join(LOSS_TERMS[:-1])} and {LOSS_TERMS[-1]} must be above 0")
        if self.attention_relation and self.attention_maps != "scores":
            raise ValueError("attention_relation needs attention_maps: scores")
        return self

    def weights(self) -> dict[str, float]:
        """The terms above 0 with their weights."""
        return {name: weight for name in LOSS_TERMS if (weight := getattr(self, name)) > 0}

    @property
    def distils(self) -> bool:
        """Whether any term needs the teacher."""
        return bool(set(self.weights()) - {"task", "consistency"})


class PhaseConfig(Section):
    """An objective of its own for the beginning of the training."""

    until: float = Field(gt=0, lt=1, description="the budget (step / t3) at which the phase ends")
    objective: ObjectiveConfig


class StudentConfig(Section):
    """What the student is before its first step."""

    depth: float = Field(1.0, gt=0, le=1, description="share of the teacher's layers; 0.5: each stands for two of them")
    pick: Literal["first", "spaced"] = Field(
        "first", description="the layers it starts from: the first ones, or the first that each stands for"
    )
    init: Literal["teacher", "pretrained"] = Field("teacher", description="the weights that it starts from")


class MethodConfig(Section):
    """What a trial does: the section `trial` of a search space. Any of it can be searched.

    The defaults are SPD at the paper's RTE setting; the files of `spd_ray/methods` compose the same parts otherwise.
    """

    student: StudentConfig = StudentConfig()
    trained: Literal["layers", "all"] = Field("layers", description="all: also embeddings, pooler and classifier")
    grafting: schedules.Grafting = "three_stage"
    p0: Probability = Field(0.6, description="replacing probability in Stage I, Eq. (5)")
    total_epochs: PositiveFloat = Field(60.0, description="t3, in epochs")
    stage1_epochs: PositiveFloat = Field(30.0, description="t1, in epochs")
    stage2_epochs: NonNegativeFloat = Field(10.0, description="t2 - t1, in epochs")
    lr_schedule: schedules.LearningRateSchedule = Field(
        "two_decays", description="Eq. (6); one_decay: stage1_lr falls to 0 at t3; rounds: at every pruning event"
    )
    stage1_lr: PositiveFloat = Field(3e-5, description="lambda_0 of Eq. (6), the initial rate of Stage I")
    stage23_lr: PositiveFloat | None = Field(
        None, description="lambda_1 of Eq. (6), the initial rate of Stages II and III; null: as stage1_lr"
    )
    pruning: Literal["none", "magnitude", "global_magnitude", "lottery", "reweighted_l1"] = "magnitude"
    target_sparsity: float = Field(0.9, ge=0, lt=1, description="fraction of zeros in the pruned matrices")
    ladder: tuple[Probability, ...] = Field((), description="lower sparsities, rising: a student is kept at each")
    pruning_end: PositiveFloat = Field(1.0, description="end of pruning as a multiple of t1 (Figure 10); at most t2")
    pruning_events: PositiveInt = 12
    pruning_schedule: schedules.PruningSchedule = "cubic"
    drop_last_event: bool = Field(
        False, description="where the events divide the steps exactly, as the public code does"
    )
    l1: NonNegativeFloat = Field(0.0, description="strength of the reweighted L1 norm, with `pruning: reweighted_l1`")
    objective: ObjectiveConfig = ObjectiveConfig()
    phases: tuple[PhaseConfig, ...] = Field((), description="objectives before that one")
    batch_size: PositiveInt = 32
    weight_decay: NonNegativeFloat = 0.0
    clip_norm: PositiveFloat = Field(1.0, description="largest global gradient norm")
    clip_over: Literal["trained", "all"] = Field(
        "trained", description="all: frozen parts' gradients count in the norm"
    )
    dropout: Probability = Field(0.1, description="in what is trained")
    teacher_dropout: Probability = Field(0.0, description="in grafted teacher layers")
    eval_every_epochs: PositiveFloat = 1.0
    eval_train_examples: PositiveInt = Field(1000, description="training examples scored beside dev, at most")

    @model_validator(mode="after")
    def _stages_fit(self) -> "MethodConfig":
        stage12 = self.stage1_epochs + self.stage2_epochs
        if stage12 > self.total_epochs * (1 + 1e-9):
            raise ValueError(
                f"stage1_epochs + stage2_epochs <= total_epochs must hold, but got "
                f"{self.stage1_epochs:g} + {self.stage2_epochs:g} > {self.total_epochs:g}"
            )
        if self.pruning_end * self.stage1_epochs > stage12 * (1 + 1e-9):
            raise ValueError(
                f"pruning must end at or before t2: pruning_end <= {stage12 / self.stage1_epochs:g} "
                f"(stage1_epochs + stage2_epochs over stage1_epochs) must hold, but got {self.pruning_end:g}"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> "MethodConfig":
        if self.grafts and self.trained == "all":
            raise ValueError("trained: all needs grafting: none, for grafted teacher layers read frozen embeddings")
        if self.student.init == "pretrained" and self.trained == "layers":
            raise ValueError("student.init: pretrained needs trained: all, for its classifier is new")
        if any(self.ladder[i] >= self.ladder[i + 1] for i in range(len(self.ladder) - 1)):
            raise ValueError("ladder must rise")
        if self.ladder and not self.ladder[-1] < self.final_sparsity:
            raise ValueError(f"ladder must stay below the sparsity at the end, {self.final_sparsity:g}")
        untils = [phase.until for phase in self.phases]
        if untils != sorted(set(untils)):
            raise ValueError("phases must end one after the other: until must rise")
        if any(phase.objective.attention_maps != self.objective.attention_maps for phase in self.phases):
            raise ValueError("phases and objective must have the same attention_maps")
        self.event_rates()
        return self

    @property
    def grafts(self) -> bool:
        """Whether teacher layers are grafted at any step."""
        return self.grafting != "none" and self.p0 < 1

    @property
    def final_sparsity(self) -> float:
        """The sparsity after the last pruning event."""
        return 0.0 if self.pruning == "none" else self.target_sparsity

    @property
    def later_lr(self) -> float:
        """lambda_1 of Eq. (6)."""
        return self.stage1_lr if self.stage23_lr is None else self.stage23_lr

    @property
    def objectives(self) -> tuple[ObjectiveConfig, ...]:
        """Every objective of the training, in order."""
        return (*(phase.objective for phase in self.phases), self.objective)

    def event_rates(self) -> list[float]:
        """theta_1 ... theta_n, with the ladder's rungs. Raises ValueError where the events are too few for them."""
        events, target = self.pruning_events, self.final_sparsity
        rates = [schedules.event_rate(event, events, target, self.pruning_schedule) for event in range(1, events + 1)]
        return schedules.with_ladder(rates, self.ladder)


class EngineConfig(Section):
    """How DeepSpeed runs the training steps."""

    precision: Precision = "fp32"
    zero_stage: Literal[0, 1, 2] = 0
    gradient_accumulation_steps: PositiveInt = Field(1, description="parts of a batch, one after the other on a rank")
    initial_scale_power: int = Field(16, ge=0, le=32, description="fp16: the loss scale starts at 2 to this power")
    loss_scale_window: PositiveInt = Field(1000, description="fp16: steps without overflow before the scale doubles")


class TrialConfig(Section):
    """One trial: a configuration under one seed. Everything that decides its result, and nothing else."""

    task: TaskConfig
    model: ModelConfig
    teacher: TeacherConfig
    method_name: str = "spd"
    method: MethodConfig
    engine: EngineConfig = EngineConfig()
    seed: Seed = 0

    @model_validator(mode="after")
    def _clipping_is_possible(self) -> "TrialConfig":
        if self.method.clip_over == "all" and (self.engine.precision, self.engine.zero_stage) != ("fp32", 0):
            raise ValueError("clip_over: all needs engine.precision fp32 and engine.zero_stage 0")
        return self


class PruningEvent(NamedTuple):
    """After `step` applied steps the prunable matrices are pruned to `rate`."""

    step: int
    rate: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A trial's schedule in steps (applied optimizer steps). The one place where epochs become steps."""

    steps_per_epoch: int
    t1: int
    t2: int
    t3: int
    pruning_end_step: int
    pruning_events: tuple[PruningEvent, ...]
    eval_steps: tuple[int, ...]
    method: MethodConfig

    @classmethod
    def of(cls, method: MethodConfig, train_examples: int) -> "Timeline":
        """Lay `method` over a training set of `train_examples` examples.

        Evaluations are due every `eval_every_epochs`, at the end of each stage, after the last pruning
        event, at the end of each rung of the ladder and at t3.
        """
        steps_per_epoch = math.ceil(train_examples / method.batch_size)
        t1 = max(1, round(method.stage1_epochs * steps_per_epoch))
        t2 = max(t1, round((method.stage1_epochs + method.stage2_epochs) * steps_per_epoch))
        t3 = max(t2, round(method.total_epochs * steps_per_epoch))
        pruning_end_step = min(t2, max(1, round(method.pruning_end * t1)))
        events = _pruning_events(method, pruning_end_step)
        rung_ends = {after.step - 1 for event, after in itertools.pairwise(events) if event.rate in method.ladder}
        eval_interval = max(1, round(method.eval_every_epochs * steps_per_epoch))
        eval_steps = {*range(eval_interval, t3, eval_interval), t1, t2, t3, pruning_end_step, *rung_ends}
        return cls(
            steps_per_epoch=steps_per_epoch,
            t1=t1,
            t2=t2,
            t3=t3,
            pruning_end_step=pruning_end_step,
            pruning_events=events,
            eval_steps=tuple(sorted(eval_steps)),
            method=method,
        )

    def stage(self, step: int) -> int:
        """1, 2 or 3; the step t3, at which training is over, still belongs to the last stage."""
        return schedules.stage(min(step, self.t3 - 1), self.t1, self.t2)

    def replacing_probability(self, step: int) -> float:
        """Eq. (5), or the method's own."""
        return schedules.replacing_probability(step, self.method.p0, self.t1, self.t2, self.method.grafting)

    def learning_rate(self, step: int) -> float:
        """Eq. (6), or the method's own."""
        method = self.method
        if method.lr_schedule == "two_decays":
            return schedules.learning_rate(step, method.stage1_lr, method.later_lr, self.t1, self.t3)
        ends = [0, *(event.step for event in self.pruning_events if method.lr_schedule == "rounds"), self.t3]
        first, end = next(((a, b) for a, b in itertools.pairwise(ends) if a <= step < b), (0, self.t3))
        return schedules.decay(step, method.stage1_lr, first, end)

    def pruning_rate(self, step: int) -> float:
        """theta_j that holds before `step` is taken."""
        return next((event.rate for event in reversed(self.pruning_events) if event.step <= step), 0.0)

    def rung(self, step: int) -> float | None:
        """The rung of the ladder on which the student stands after `step` applied steps; None: on none."""
        rate = self.pruning_rate(step)
        return rate if rate in self.method.ladder else None

    @property
    def final_sparsity(self) -> float:
        """The sparsity from the last pruning event on: a student with less is not feasible."""
        return self.pruning_events[-1].rate if self.pruning_events else 0.0

    def objective(self, step: int) -> ObjectiveConfig:
        """The objective of `step`: that of its phase."""
        phase = next((phase for phase in self.method.phases if self.budget(step) < phase.until), None)
        return self.method.objective if phase is None else phase.objective

    def budget(self, step: int) -> float:
        """step / t3 in [0, 1]."""
        return step / self.t3


def _pruning_events(method: MethodConfig, end: int) -> tuple[PruningEvent, ...]:
    """The events with their rates; of several that are due after the same step, the last."""
    if method.final_sparsity == 0:
        return ()
    steps = schedules.pruning_steps(end, method.pruning_events)
    rates = dict(zip(steps, method.event_rates(), strict=True))
    if method.drop_last_event and end % method.pruning_events == 0 and len(rates) > 1:
        del rates[end]
    return tuple(PruningEvent(step, rate) for step, rate in rates.items() if rate > 0)
