"""What one trial is: everything that decides its result, frozen, validated, every unit in its name.

Why so: docs/decisions.md #method-and-trial, #tf32-and-bf16-are-asked-for.
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from spd_ray.config.method import MethodConfig
from spd_ray.config.section import (
    LocalPath,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
    Seed,
    refuse,
)
from spd_ray.config.task import TaskConfig

Precision = Literal["fp32", "bf16", "fp16"]
ZeroStage = Literal[0, 1, 2, 3]


# Where files lie; what they hold is part of a sweep's and a trial's content.
PLACES = {"task": ("path", "train_file", "dev_file"), "model": ("path",), "teacher": ("path",)}


class ModelConfig(Section):
    """Which pretrained encoder."""

    name: str = Field("bert-base-uncased", description="a hub name, or the embedded `miniature` (-8, -12: layers)")
    path: LocalPath | None = Field(None, description="a local transformers directory; it wins over `name`")
    seed: Seed = Field(0, description="the miniature's pretraining seed; nothing else uses it")


class TeacherConfig(Section):
    """Fine-tuning of the teacher (Section 4.2): the best of `learning_rates` on the dev set is kept.

    Where `path` or `name` is given, that one is the teacher, and only the gate is left to be decided.
    """

    path: LocalPath | None = Field(
        None, description="a fine-tuned transformers directory of yours: the teacher, which is not trained again"
    )
    name: str | None = Field(None, description="the same from the hub; `path` wins over it")
    epochs: PositiveInt = 4
    batch_size: PositiveInt = 32
    learning_rates: tuple[PositiveFloat, ...] = Field((2e-5, 3e-5, 4e-5, 5e-5), min_length=1)
    warmup_fraction: Probability = Field(0.1, description="fraction of the steps with a rising learning rate")
    weight_decay: NonNegativeFloat = 0.01
    dropout: Probability = 0.1
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32", description="of the products while it is fine-tuned; tf32 is fp32 on a CPU"
    )
    seed: Seed = 0
    gate: bool = Field(True, description="refuse a teacher that is no better than the majority class")

    @property
    def is_given(self) -> bool:
        """Whether the teacher is the user's own."""
        return self.path is not None or self.name is not None

    @property
    def source_key(self) -> str:
        """The key of a space that names the model's files which the teacher comes from."""
        return "teacher.path" if self.is_given else "model.path"


class EngineRequest(Section):
    """How DeepSpeed runs the training steps."""

    precision: Literal[Precision, "auto"] = Field("fp32", description="auto: fp16 on GPUs, else fp32")
    zero_stage: Literal[ZeroStage, "auto"] = Field(0, description="auto: 1 on GPUs, else 0")
    tf32: bool = Field(False, description="on a GPU, products of fp32 numbers in TF32, evaluations' too")
    sparse_kernels: Literal["auto", "never"] = Field(
        "auto",
        description="CPU, fp32, ZeRO 0 to 2: auto computes pruned matrices by sparse kernels where these win "
        "(other last bits)",
    )
    compile_layers: bool = Field(
        False,
        description="encoder layers of a training step as compiled graphs, batches padded to multiples of 16 positions",
    )
    gradient_accumulation_steps: PositiveInt = Field(1, description="parts of a batch, one after the other on a rank")
    initial_scale_power: int = Field(16, ge=0, le=32, description="fp16: the loss scale starts at 2 to this power")
    loss_scale_window: PositiveInt = Field(1000, description="fp16: steps without overflow before the scale doubles")


class EngineConfig(EngineRequest):
    """The same once it is known which devices there are."""

    precision: Precision = "fp32"
    zero_stage: ZeroStage = 0


class TrialConfig(Section):
    """One trial: a configuration under one seed. Everything that decides its result, and nothing else."""

    task: TaskConfig
    model: ModelConfig
    teacher: TeacherConfig
    method: MethodConfig
    engine: EngineConfig = EngineConfig()
    seed: Seed = 0

    def identity(self) -> dict[str, Any]:
        """All that decides the result but for the content of data, model and teacher, wherever their files lie."""
        return without_places(self.model_dump(mode="json"))

    @model_validator(mode="after")
    def _check_clipping_is_possible(self) -> "TrialConfig":
        if self.method.clip_over == "all" and (self.engine.precision, self.engine.zero_stage) != ("fp32", 0):
            raise refuse(
                "clip_over: all needs engine.precision fp32 and engine.zero_stage 0",
                "method.clip_over",
                "engine.precision",
                "engine.zero_stage",
            )
        return self

    @model_validator(mode="after")
    def _check_layers_can_be_compiled(self) -> "TrialConfig":
        if not self.engine.compile_layers:
            return self
        if self.engine.zero_stage == 3:
            raise refuse(
                "compile_layers: true needs engine.zero_stage 0 to 2: at 3 a layer gathers its weights while it runs",
                "engine.compile_layers",
                "engine.zero_stage",
            )
        counted = any(one.tokens == "all" for one in self.method.objectives)
        if counted and self.task.padding == "longest":
            raise refuse(
                "compile_layers: true widens batches, and objective.tokens: all counts what is padded; it needs "
                "task.padding max_length",
                "engine.compile_layers",
                "method.objective.tokens",
            )
        return self

    @model_validator(mode="after")
    def _check_gradients_are_whole(self) -> "TrialConfig":
        method = self.method
        for key, asked, is_simple in (
            ("pruning", method.pruning, method.criterion_row.reads == "weights"),
            ("regrowth.kind", method.regrowth.kind, method.regrowth.kind == "none"),
        ):
            if self.engine.zero_stage == 3 and not is_simple:
                raise refuse(
                    f"{key}: {asked} reads whole gradients and needs engine.zero_stage 0 to 2",
                    f"method.{key}",
                    "method.name",
                    "engine.zero_stage",
                )
        return self


def without_places(sections: dict[str, Any]) -> dict[str, Any]:
    """The dumped sections without the places of files."""
    return {
        name: {key: value for key, value in section.items() if key not in PLACES[name]} if name in PLACES else section
        for name, section in sections.items()
    }
