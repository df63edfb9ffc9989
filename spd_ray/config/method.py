"""What a method is composed of: the student, grafting, pruning, the objective, what is trained, the rates.

Why so: docs/decisions.md #method-and-trial, #installed-rows.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)

from spd_ray.base.errors import UserError
from spd_ray.base.user_code import installed_rows
from spd_ray.config.pruning import ALL_CRITERIA, PRUNINGS, REFUSED_CRITERIA, CriterionConfig, RegrowthConfig
from spd_ray.config.section import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, Section, refuse
from spd_ray.equations import schedules
from spd_ray.equations.criterion_table import CRITERIA, Criterion
from spd_ray.equations.loss_terms import LOSS_TERMS, LossTerm
from spd_ray.equations.patterns import Pattern

OBJECTIVE_KEYS = (
    "layers", "temperature", "temperature_on", "attention_maps", "tokens", "average_classes", "regression_target",
)  # beside the terms  # fmt: skip


_own_terms, _refused_terms = installed_rows(
    "spd_ray.loss_terms", LossTerm, (*LOSS_TERMS, *OBJECTIVE_KEYS), LossTerm.wrong
)
TERMS: dict[str, LossTerm] = {**LOSS_TERMS, **_own_terms}  # also those of installed packages
_weights: dict[str, Any] = {
    name: (NonNegativeFloat, Field(term.weight, description=term.description)) for name, term in TERMS.items()
}
TermWeights: Any = create_model("TermWeights", __base__=Section, **_weights)


class ObjectiveConfig(TermWeights):
    """Weights of the loss terms; Eq. (4) is hidden = attention = prediction = 1 and the others 0."""

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
    def _check_terms(self) -> "ObjectiveConfig":
        if not self.weights():
            *others, last = TERMS
            raise refuse(f"at least one of {', '.join(others)} and {last} must be above 0", *TERMS)
        if "attention_relation" in self.weights() and self.attention_maps != "scores":
            raise refuse("attention_relation needs attention_maps: scores", "attention_relation", "attention_maps")
        return self

    def weights(self) -> dict[str, float]:
        """The terms above 0 with their weights."""
        return {name: weight for name in TERMS if (weight := getattr(self, name)) > 0}

    @property
    def distils(self) -> bool:
        """Whether any term needs the teacher."""
        return any(TERMS[name].distils for name in self.weights())

    @model_serializer(mode="wrap")
    def _leave_out_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A package that is installed and not used leaves no trace, so that a sweep can go on without it."""
        return {name: value for name, value in dump(self).items() if value or name not in _own_terms}


def check_packages() -> None:
    """Raises UserError where an installed package adds something that cannot be used."""
    for line in (*_refused_terms, *REFUSED_CRITERIA):
        raise UserError(line)


class PhaseConfig(Section):
    """An objective of its own for the beginning of the training."""

    until: float = Field(gt=0, lt=1, description="the budget (step / t3) at which the phase ends")
    objective: ObjectiveConfig


def _check_pattern(text: str) -> str:
    Pattern.parse(text)
    return text


class StudentConfig(Section):
    """What the student is before its first step."""

    depth: float = Field(1.0, gt=0, le=1, description="share of the teacher's layers; 0.5: each stands for two of them")
    pick: Literal["first", "spaced"] = Field(
        "first", description="the layers it starts from: the first ones, or the first that each stands for"
    )
    init: Literal["teacher", "pretrained"] = Field("teacher", description="the weights that it starts from")


class MethodConfig(Section):
    """What a trial does: the section `method` of a search space. Any of it can be searched.

    The defaults are SPD at the paper's RTE setting; the files of `spd_ray/config/methods` compose the parts otherwise.
    """

    name: str = Field("spd", description="a file of spd_ray/config/methods, or FILE.yaml, one of your own like it")
    student: StudentConfig = StudentConfig()
    trained: Literal["layers", "all"] = Field("layers", description="all: also embeddings, pooler and classifier")
    grafting: schedules.Grafting = "three_stage"
    p0: Probability = Field(0.6, description="replacing probability in Stage I, Eq. (5)")
    total_epochs: PositiveFloat = Field(60.0, description="t3, in epochs")
    stage1_epochs: PositiveFloat = Field(30.0, description="t1, in epochs")
    stage2_epochs: NonNegativeFloat = Field(10.0, description="t2 - t1, in epochs")
    lr_schedule: schedules.LearningRateSchedule = Field(
        "two_decays",
        description="Eq. (6); one_decay: stage1_lr falls to 0 at t3; rounds: at every pruning event; "
        "phases: constant in the phases, then one decay; constant: stage1_lr throughout",
    )
    stage1_lr: PositiveFloat = Field(3e-5, description="lambda_0 of Eq. (6), the initial rate of Stage I")
    stage23_lr: PositiveFloat | None = Field(
        None, description="lambda_1 of Eq. (6), the initial rate of Stages II and III; null: as stage1_lr"
    )
    pruning: Literal[PRUNINGS] = Field(  # type: ignore[valid-type]
        "magnitude",
        description=f"none; by a criterion: {', '.join(ALL_CRITERIA)}; global_magnitude: magnitude with scope global; "
        "lottery: the same, then what is left is rewound; reweighted_l1: magnitude after an L1 norm",
    )
    criterion: CriterionConfig = CriterionConfig()
    regrowth: RegrowthConfig = RegrowthConfig()
    pattern: Annotated[str, AfterValidator(_check_pattern)] = Field(
        "single",
        description="single: any weight may be pruned; n:m (2:4): at the end n of m consecutive weights of a row stay; "
        "RxC (4x4): blocks of R rows and C columns stay or go whole",
    )
    target_sparsity: float = Field(0.9, ge=0, lt=1, description="fraction of zeros in the pruned matrices")
    ladder: tuple[Probability, ...] = Field((), description="lower sparsities, rising: a student is kept at each")
    pruning_end: PositiveFloat = Field(1.0, description="end of pruning as a multiple of t1 (Figure 10); at most t2")
    pruning_events: PositiveInt = 12
    pruning_schedule: schedules.PruningSchedule = "cubic"
    first_event_share: float = Field(
        0.0, ge=0, lt=1, description="cubic: above 0, of target_sparsity at the first event (s_i, Zhu & Gupta 2018)"
    )
    drop_last_event: bool = Field(
        False, description="where the events divide the steps exactly, as the public code does"
    )
    l1: NonNegativeFloat = Field(
        0.0,
        description="strength of the reweighted L1 norm, in deviations of the weights over Stage I",
    )
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
    def _check_stages_fit(self) -> "MethodConfig":
        stage12 = self.stage1_epochs + self.stage2_epochs
        if stage12 > self.total_epochs * (1 + 1e-9):
            raise refuse(
                f"stage1_epochs + stage2_epochs <= total_epochs must hold, but got "
                f"{self.stage1_epochs:g} + {self.stage2_epochs:g} > {self.total_epochs:g}",
                "stage1_epochs",
                "stage2_epochs",
                "total_epochs",
            )
        if self.pruning_end * self.stage1_epochs > stage12 * (1 + 1e-9):
            raise refuse(
                f"pruning must end at or before t2: pruning_end <= {stage12 / self.stage1_epochs:g} "
                f"(stage1_epochs + stage2_epochs over stage1_epochs) must hold, but got {self.pruning_end:g}",
                "pruning_end",
                "stage1_epochs",
                "stage2_epochs",
            )
        return self

    @model_validator(mode="after")
    def _check_parts_fit(self) -> "MethodConfig":
        if self.grafts and self.trained == "all":
            raise refuse(
                "trained: all needs grafting: none, for grafted teacher layers read frozen embeddings",
                "trained",
                "grafting",
            )
        if self.student.init == "pretrained" and self.trained == "layers":
            raise refuse(
                "student.init: pretrained needs trained: all, for its classifier is new", "student.init", "trained"
            )
        untils = [phase.until for phase in self.phases]
        if untils != sorted(set(untils)):
            raise refuse("phases must end one after the other: until must rise", "phases")
        if any(phase.objective.attention_maps != self.objective.attention_maps for phase in self.phases):
            raise refuse("phases and objective must have the same attention_maps", "phases", "objective.attention_maps")
        return self

    @model_validator(mode="after")
    def _check_pruning_fits(self) -> "MethodConfig":
        if self.first_event_share > 0 and self.pruning_schedule != "cubic":
            raise refuse("first_event_share needs pruning_schedule: cubic", "first_event_share", "pruning_schedule")
        others = (self.criterion.scope, self.regrowth.kind, self.pattern)
        if self.criterion_row.thresholded and others != ("global", "none", "single"):
            raise refuse(
                f"pruning: {self.pruning} has one threshold for all matrices: it needs criterion.scope: global, "
                "regrowth.kind: none and pattern: single",
                "criterion.scope",
                "regrowth.kind",
                "pattern",
                "pruning",
            )
        if self.regrowth.kind != "none" and self.pruning not in ALL_CRITERIA:
            raise refuse(
                f"regrowth needs pruning by a criterion: {', '.join(ALL_CRITERIA)}", "regrowth.kind", "pruning"
            )
        if self.is_sparse_at_the_end and self.ladder:
            raise refuse("what is sparse at its last event alone has no ladder", "ladder", "regrowth.kind", "pruning")
        if any(self.ladder[i] >= self.ladder[i + 1] for i in range(len(self.ladder) - 1)):
            raise refuse("ladder must rise", "ladder")
        if self.ladder and not self.ladder[-1] < self.final_sparsity:
            raise refuse(
                f"ladder must stay below the sparsity at the end, {self.final_sparsity:g}", "ladder", "target_sparsity"
            )
        try:
            self.event_rates()
        except ValueError as error:
            raise refuse(str(error), "pruning_events", "ladder") from None
        return self

    @model_validator(mode="after")
    def _check_pattern_fits(self) -> "MethodConfig":
        if self.pattern != "single" and self.regrowth.kind in ("gradient", "exploration"):
            raise refuse(f"regrowth.kind: {self.regrowth.kind} needs pattern: single", "pattern", "regrowth.kind")
        only = self.zeros.sparsity
        if self.pruning == "none" or only is None:
            return self
        if abs(self.target_sparsity - only) > 1e-12:
            raise refuse(
                f"pattern: {self.pattern} ends at a sparsity of {only:g} and at no other: target_sparsity must be "
                f"{only:g}, but got {self.target_sparsity:g}",
                "target_sparsity",
                "pattern",
            )
        if self.drop_last_event:
            raise refuse(f"pattern: {self.pattern} needs drop_last_event: false", "drop_last_event", "pattern")
        return self

    @property
    def zeros(self) -> Pattern:
        """The pattern that the zeros have."""
        return Pattern.parse(self.pattern)

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
    def prunes_globally(self) -> bool:
        """Whether the matrices share one ranking and so end at different sparsities."""
        return self.pruning in ("global_magnitude", "lottery") or self.criterion.scope == "global"

    @property
    def criterion_row(self) -> Criterion:
        """The row of the table by which weights are scored."""
        return ALL_CRITERIA.get(self.pruning, CRITERIA["magnitude"])

    @property
    def gradients_of_an_event(self) -> int:
        """How many batches' gradients a pruning event takes."""
        of_criterion = self.criterion.gradients if self.criterion_row.reads == "events" else 0
        return of_criterion + (self.regrowth.gradients if self.regrowth.kind in ("gradient", "exploration") else 0)

    @property
    def is_sparse_at_the_end(self) -> bool:
        """Whether only the last pruning event gives the sparsity that its rate says."""
        return self.criterion_row.thresholded or self.regrowth.kind == "partitions"

    @property
    def floats(self) -> int:
        """fp32 numbers that are kept of a prunable weight from step to step, beside weight, mask and moments."""
        return self.criterion_row.floats + (self.regrowth.kind == "exploration")

    @property
    def objectives(self) -> tuple[ObjectiveConfig, ...]:
        """Every objective of the training, in order."""
        return (*(phase.objective for phase in self.phases), self.objective)

    def event_rates(self) -> list[float]:
        """theta_1 ... theta_n, with the ladder's levels. Raises ValueError where the events are too few for them."""
        events, target, schedule = self.pruning_events, self.final_sparsity, self.pruning_schedule
        first = self.first_event_share * target
        rates = [schedules.event_rate(event, events, target, schedule, first) for event in range(1, events + 1)]
        return schedules.with_ladder(rates, self.ladder)
