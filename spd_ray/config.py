"""What one trial is: frozen, validated, every unit in its name. Everything becomes steps once, in `Timeline`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from spd_ray import schedules

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


class ModelConfig(Section):
    """Which pretrained encoder."""

    name: str = Field("bert-base-uncased", description="a hub name, or `miniature`, the embedded default")
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
    """Weights of the loss terms; Eq. (4) is hidden = attention = prediction = 1, task = 0."""

    hidden: NonNegativeFloat = 1.0
    attention: NonNegativeFloat = 1.0
    prediction: NonNegativeFloat = 1.0
    task: NonNegativeFloat = 0.0
    temperature: PositiveFloat = 1.0
    attention_maps: Literal["probabilities", "scores"] = Field(
        "probabilities", description="what the attention term compares: after the softmax, or before it"
    )

    @model_validator(mode="after")
    def _some_term(self) -> "ObjectiveConfig":
        if not (self.hidden or self.attention or self.prediction or self.task):
            raise ValueError("at least one of hidden, attention, prediction and task must be above 0")
        return self

    @property
    def distils(self) -> bool:
        """Whether any term needs the teacher."""
        return bool(self.hidden or self.attention or self.prediction)


class MethodConfig(Section):
    """SPD's own parameters: the section `trial` of a search space. Any of them can be searched."""

    p0: Probability = Field(0.6, description="replacing probability in Stage I, Eq. (5)")
    total_epochs: PositiveFloat = Field(60.0, description="t3, in epochs")
    stage1_epochs: PositiveFloat = Field(30.0, description="t1, in epochs")
    stage2_epochs: NonNegativeFloat = Field(10.0, description="t2 - t1, in epochs")
    stage1_lr: PositiveFloat = Field(3e-5, description="lambda_0 of Eq. (6), the initial rate of Stage I")
    stage23_lr: PositiveFloat = Field(3e-5, description="lambda_1 of Eq. (6), the initial rate of Stages II and III")
    target_sparsity: float = Field(0.9, ge=0, lt=1, description="fraction of zeros in each pruned matrix")
    pruning_end: PositiveFloat = Field(1.0, description="end of pruning as a multiple of t1 (Figure 10); at most t2")
    pruning_events: PositiveInt = 12
    pruning_schedule: schedules.PruningSchedule = "cubic"
    batch_size: PositiveInt = 32
    weight_decay: NonNegativeFloat = 0.0
    clip_norm: PositiveFloat = Field(1.0, description="largest global gradient norm of the student layers")
    dropout: Probability = Field(0.1, description="in the student layers; grafted teacher layers have none")
    objective: ObjectiveConfig = ObjectiveConfig()
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


class EngineConfig(Section):
    """How DeepSpeed runs the training steps."""

    precision: Precision = "fp32"
    zero_stage: Literal[0, 1, 2] = 0
    initial_scale_power: int = Field(16, ge=0, le=32, description="fp16: the loss scale starts at 2 to this power")
    loss_scale_window: PositiveInt = Field(1000, description="fp16: steps without overflow before the scale doubles")


class TrialConfig(Section):
    """One trial: a configuration under one seed. Everything that decides its result, and nothing else."""

    task: TaskConfig
    model: ModelConfig
    teacher: TeacherConfig
    method: MethodConfig
    engine: EngineConfig = EngineConfig()
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A trial's schedule in steps (applied optimizer steps). The one place where epochs become steps."""

    steps_per_epoch: int
    t1: int
    t2: int
    t3: int
    pruning_end_step: int
    pruning_steps: tuple[int, ...]
    eval_steps: tuple[int, ...]
    method: MethodConfig

    @classmethod
    def of(cls, method: MethodConfig, train_examples: int) -> "Timeline":
        """Lay `method` over a training set of `train_examples` examples.

        Evaluations are due every `eval_every_epochs`, at the end of each stage, after the last pruning
        event and at t3.
        """
        steps_per_epoch = math.ceil(train_examples / method.batch_size)
        t1 = max(1, round(method.stage1_epochs * steps_per_epoch))
        t2 = max(t1, round((method.stage1_epochs + method.stage2_epochs) * steps_per_epoch))
        t3 = max(t2, round(method.total_epochs * steps_per_epoch))
        pruning_end_step = min(t2, max(1, round(method.pruning_end * t1)))
        eval_interval = max(1, round(method.eval_every_epochs * steps_per_epoch))
        eval_steps = {*range(eval_interval, t3, eval_interval), t1, t2, t3, pruning_end_step}
        return cls(
            steps_per_epoch=steps_per_epoch,
            t1=t1,
            t2=t2,
            t3=t3,
            pruning_end_step=pruning_end_step,
            pruning_steps=schedules.pruning_steps(pruning_end_step, method.pruning_events),
            eval_steps=tuple(sorted(eval_steps)),
            method=method,
        )

    def stage(self, step: int) -> int:
        """1, 2 or 3; the step t3, at which training is over, still belongs to the last stage."""
        return schedules.stage(min(step, self.t3 - 1), self.t1, self.t2)

    def replacing_probability(self, step: int) -> float:
        """Eq. (5)."""
        return schedules.replacing_probability(step, self.method.p0, self.t1, self.t2)

    def learning_rate(self, step: int) -> float:
        """Eq. (6)."""
        return schedules.learning_rate(step, self.method.stage1_lr, self.method.stage23_lr, self.t1, self.t3)

    def pruning_rate(self, step: int) -> float:
        """theta_j that holds before `step` is taken."""
        method = self.method
        return schedules.pruning_rate(
            step, method.target_sparsity, self.pruning_end_step, method.pruning_events, method.pruning_schedule
        )

    def budget(self, step: int) -> float:
        """step / t3 in [0, 1]."""
        return step / self.t3
