"""What a sweep is: the sections of a search space's YAML, their checks, and the conditional ranges.

Dimensions are drawn in the order total_epochs, stage1_epochs, stage2_epochs, pruning_end, then the others
by name, and the upper ends of the first four are clipped by what was drawn before (`SweepSpec.upper_end`):

    stage1_epochs <= total_epochs - (least stage2_epochs)
    stage2_epochs <= total_epochs - stage1_epochs
    pruning_end   <= (stage1_epochs + stage2_epochs) / stage1_epochs

A range is narrowed to the clipped end (with a step: to the last value before it); a choice beyond it
becomes the largest choice that fits. Lower ends never move: a space in which they do not always fit is
refused when it is loaded. A grid is not clipped; it drops the points that do not fit.
"""

import itertools
import json
import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from spd_ray.base.cache import content_key
from spd_ray.base.errors import nearest, plain
from spd_ray.config.dimensions import SLACK, Choices, Dimension, Range, Value
from spd_ray.config.method import LOSS_TERMS, MethodConfig, ObjectiveConfig, StudentConfig
from spd_ray.config.methods import METHODS, filled, load_method
from spd_ray.config.presets import Preset
from spd_ray.config.section import NonNegativeFloat, PositiveInt, Section
from spd_ray.config.trial import EngineConfig, ModelConfig, TaskConfig, TeacherConfig, TrialConfig

CONDITIONAL = ("total_epochs", "stage1_epochs", "stage2_epochs", "pruning_end")
SECTIONS: dict[str, type[Section]] = {"objective": ObjectiveConfig, "student": StudentConfig}
DIMENSIONS = ["method"]
DIMENSIONS += [name for name in MethodConfig.model_fields if name not in (*SECTIONS, "phases", "ladder")]
DIMENSIONS += [f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields]
LOSS_WEIGHTS = tuple(f"objective.{name}" for name in LOSS_TERMS)
GRID_LIMIT = 10_000


def refusal(message: str, *path: str | int) -> PydanticCustomError:
    """A validation error at `path`, counted from the top of the YAML."""
    return PydanticCustomError("refused", "{message}", {"message": message, "path": path})


class StudyConfig(Section):
    """How the space is searched."""

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    trials: PositiveInt = Field(8, description="configurations; each is run under every seed")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1, description="Optuna is told the mean")
    seed: int = Field(0, ge=0, description="the sampler's")

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("seeds must differ")
        return seeds


class ResourcesConfig(Section):
    """What one trial gets."""

    workers: PositiveInt = Field(1, description="ranks of one trial, on one node or several")
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: NonNegativeFloat = Field(0.0, description="a fraction lets trials share one GPU")
    concurrent: PositiveInt | None = Field(None, description="trials at once, at most; null: as many as fit")

    @field_validator("gpus_per_worker")
    @classmethod
    def _whole(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("above 1, GPUs must be a whole number")
        return gpus


class EarlyStoppingConfig(Section):
    """Successive halving at equal budgets (step / t3)."""

    rungs: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field((0.5, 0.75), min_length=1)
    reduction_factor: Annotated[float, Field(gt=1)] = 2.0

    @field_validator("rungs")
    @classmethod
    def _rising(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if any(first >= second for first, second in itertools.pairwise(rungs)):
            raise ValueError("rungs must rise")
        return rungs


class CheckpointsConfig(Section):
    """What is kept."""

    keep: PositiveInt = Field(3, description="the best sparse students of the sweep")
    state_every_evaluations: PositiveInt = Field(1, description="how often a trial saves what it resumes from")


class TrackingConfig(Section):
    """MLflow; all null: sqlite and a folder beside the sweep, an experiment and a model named after it."""

    uri: str | None = None
    experiment: str | None = None
    registered_model: str | None = None

    @field_validator("uri")
    @classmethod
    def _without_secret(cls, uri: str | None) -> str | None:
        """What a specification says is written to disk and to MLflow."""
        if uri and urlsplit(uri).password:
            raise ValueError("leave the password out; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
        return uri


class SweepSpec(Section):
    """A search space and how it is searched. The dimensions of `search` are fields of `MethodConfig`."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    preset: Preset | None = Field(None, description="settings that hold where nothing else is said")
    method: Literal[METHODS] = Field("spd", description="a file of spd_ray/methods; it can be searched too")  # type: ignore[valid-type]
    task: TaskConfig
    model: ModelConfig = ModelConfig()
    teacher: TeacherConfig = TeacherConfig()
    trial: MethodConfig = MethodConfig()
    engine: EngineConfig = EngineConfig()
    search: dict[str, Dimension] = Field(default_factory=dict)
    warm_start: tuple[dict[str, Value], ...] = ()
    study: StudyConfig = StudyConfig()
    resources: ResourcesConfig = ResourcesConfig()
    retries: int = Field(2, ge=0, description="of a trial that failed, in a row: one that gets on is not counted out")
    early_stopping: EarlyStoppingConfig | None = None
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "SweepSpec":
        for name, dimension in self.search.items():
            self._check_name(name, "search", name)
            self._check_ends(name, dimension)
        if self.study.sampler == "grid":
            self._check_grid()
        else:
            self._check_lower_ends()
            self._check_parts()
        for index, point in enumerate(self.warm_start):
            self._check_warm_start(index, point)
        return self

    # What the sweep asks.

    def dimensions(self) -> dict[str, Range | Choices]:
        """The searched dimensions in the order in which they are drawn."""
        first = [name for name in CONDITIONAL if name in self.search]
        return {name: self.search[name] for name in first + sorted(set(self.search) - set(first))}

    def upper_end(self, name: str, values: dict[str, Value]) -> float:
        """The clipped upper end of dimension `name`, given the `values` drawn before it; inf: not clipped."""
        if name not in CONDITIONAL[1:]:
            return math.inf
        total, stage1, stage2 = (float(values.get(key, getattr(self.trial, key))) for key in CONDITIONAL[:3])
        if name == "stage1_epochs":
            return total - self._ends("stage2_epochs")[0]
        if name == "stage2_epochs":
            return total - stage1
        return (stage1 + stage2) / stage1

    def is_integer(self, name: str) -> bool:
        return type(self._base()[name]) is int

    def trial_config(self, values: dict[str, Value], seed: int) -> TrialConfig:
        """The trial of the point `values` (dimension -> value; the others keep their base value) under `seed`."""
        sections = {name: getattr(self, name) for name in ("task", "model", "teacher", "engine")}
        name = str(values.get("method", self.method))
        return TrialConfig(**sections, method_name=name, method=self._method(values), seed=seed)

    def first_points(self) -> list[dict[str, Value]]:
        """What is run before anything is drawn: the warm starts, and with the grid sampler the whole grid."""
        base = self._base()
        warm = [{name: point.get(name, base[name]) for name in self.dimensions()} for point in self.warm_start]
        if self.study.sampler == "grid" or not self.search:
            return warm + [point for point in self._grid() if point not in warm]
        return warm

    def total_configurations(self) -> int:
        """How many configurations the sweep runs, each under every seed."""
        if self.study.sampler == "grid" or not self.search:
            return min(self.study.trials, len(self.first_points()))
        return self.study.trials

    def space_hash(self) -> str:
        """Of all that decides results: the same hash, the same study."""
        names = {"task", "model", "teacher", "engine", "search", "warm_start", "study", "early_stopping"}
        parts = self.model_dump(mode="json", include=names)
        del parts["study"]["trials"]
        parts["trial"] = {name: self._method({"method": name}).model_dump(mode="json") for name in self.methods()}
        return content_key(parts)[:8]

    def methods(self) -> list[str]:
        """The methods of the sweep: one, or those that are searched."""
        return [str(name) for name in self.search["method"].values()] if "method" in self.search else [self.method]

    def resolved(self) -> dict[str, Any]:
        """Every key and its value; where the method is searched, `trial` says only what holds for all methods."""
        parts = self.model_dump(mode="json")
        if "method" in self.search:
            parts["trial"] = self.trial.model_dump(mode="json", exclude_unset=True)
        return parts

    def to_yaml(self) -> str:
        """The resolved specification; `load_spec` reads it back as it was."""
        return yaml.safe_dump(self.resolved(), sort_keys=False)

    # Checks. Each raises the first error it finds, at the key that is to blame.

    def _base(self) -> dict[str, Value]:
        flat = {"method": self.method} | self.trial.model_dump()
        for section in SECTIONS:
            flat |= {f"{section}.{name}": value for name, value in flat.pop(section).items()}
        return flat

    def _method(self, values: dict[str, Value]) -> MethodConfig:
        """The composition at the point `values`: what `trial` says, over a searched method, over the defaults."""
        data = self.trial.model_dump(exclude_unset="method" in values)
        if "method" in values:
            data = filled(data, load_method(str(values["method"])).trial)
        for name, value in values.items():
            section, _, leaf = name.rpartition(".")
            if name != "method":
                (data.setdefault(section, {}) if section else data)[leaf] = value
        return MethodConfig.model_validate_json(json.dumps(data), strict=True)

    def _ends(self, name: str) -> tuple[float, float]:
        """The least and the largest value that the field `name` can have in this sweep."""
        dimension = self.search.get(name)
        if dimension is None:
            return getattr(self.trial, name), getattr(self.trial, name)
        values = [dimension.low, dimension.high] if isinstance(dimension, Range) else dimension.choices
        return min(map(float, values)), max(map(float, values))

    def _check_name(self, name: str, *path: str | int) -> None:
        if name not in DIMENSIONS:
            raise refusal(f"unknown dimension {name!r}; {nearest(name, DIMENSIONS)}", *path)

    def _check_ends(self, name: str, dimension: Range | Choices) -> None:
        """Validate the ends of `dimension`, or its choices, with the other fields as favourable as they can be."""
        for key, value in dimension.extremes():
            path = ("search", name, *key)
            if name in CONDITIONAL and isinstance(value, bool | str):
                raise refusal("must be a number", *path)
            try:
                self._method({name: value})
            except ValidationError as error:
                first = error.errors()[0]
                if first["loc"] == tuple(name.split(".")):
                    raise refusal(plain(first["msg"]), *path) from None
            if name in CONDITIONAL:
                self._check_reachable(name, value, path)

    def _check_reachable(self, name: str, value: Value, path: tuple[str | int, ...]) -> None:
        ends = {key: self._ends(key) for key in CONDITIONAL} | {name: (float(value), float(value))}
        total, stage1, prune = ends["total_epochs"][1], ends["stage1_epochs"][0], ends["pruning_end"][0]
        low, high = ends["stage2_epochs"]
        stage2 = min(max(low, (prune - 1) * stage1), high, max(low, total - stage1))
        point: dict[str, Value] = dict(zip(CONDITIONAL, (total, stage1, stage2, prune), strict=True))
        try:
            self._method(point)
        except ValidationError as error:
            raise refusal(f"can never be used: {plain(error.errors()[0]['msg'])}", *path) from None

    def _check_lower_ends(self) -> None:
        """Refuse what clipping the upper ends cannot mend."""
        prune, (stage2, _) = self._ends("pruning_end")[0], self._ends("stage2_epochs")
        longest = min(self._ends("stage1_epochs")[1], self._ends("total_epochs")[1] - stage2)
        if prune * longest > (longest + stage2) * (1 + SLACK):
            raise refusal(
                f"some combination leaves no pruning_end: with stage1_epochs {longest:g} and stage2_epochs "
                f"{stage2:g} it is {(longest + stage2) / longest:g} at most, but the least is {prune:g}",
                *self._blamed(("pruning_end", "stage1_epochs", "stage2_epochs")),
            )
        zeros: dict[str, Value] = {name: 0.0 for name in LOSS_WEIGHTS if name in self.search}
        zeros = {name: zero for name, zero in zeros.items() if self.search[name].contains(zero)}
        try:
            self._method(zeros)
        except ValidationError as error:
            raise refusal(plain(error.errors()[0]["msg"]), *self._blamed(zeros)) from None

    def _check_parts(self) -> None:
        """Refuse parts that do not go together in some combination: only a grid can leave combinations out."""
        words = {n: d for n, d in self.search.items() if isinstance(d, Choices) and isinstance(d.choices[0], str)}
        for values in itertools.product(*(dimension.choices for dimension in words.values())):
            try:
                self._method(dict(zip(words, values, strict=True)))
            except ValidationError as error:
                shown = ", ".join(f"{name} {value}" for name, value in zip(words, values, strict=True))
                message = f"{shown}: {plain(error.errors()[0]['msg'])}; use the grid sampler, which leaves it out"
                raise refusal(message, *self._blamed(words)) from None

    def _blamed(self, names: Iterable[str]) -> tuple[str, str]:
        return next(("search", name) for name in names if name in self.search)

    def _check_grid(self) -> None:
        for name, dimension in self.search.items():
            if isinstance(dimension, Range) and dimension.step is None and dimension.low < dimension.high:
                raise refusal("a grid needs a step or choices", "search", name)
        size = math.prod(len(dimension.values()) for dimension in self.search.values())
        if size > GRID_LIMIT:
            raise refusal(f"a grid of {size} points; at most {GRID_LIMIT} are allowed", "search")
        if not any(True for _ in self._grid()):
            raise refusal("no point of the grid has possible stage lengths", "search")

    def _grid(self) -> Iterator[dict[str, Value]]:
        """The feasible points of the grid; the last dimension changes first."""
        dimensions = self.dimensions()
        for values in itertools.product(*(dimension.values() for dimension in dimensions.values())):
            point = dict(zip(dimensions, values, strict=True))
            try:
                self._method(point)
            except ValidationError:
                continue
            yield point

    def _check_warm_start(self, index: int, point: dict[str, Value]) -> None:
        for name in point:
            self._check_name(name, "warm_start", index, name)
            if name not in self.search:
                raise refusal("not a dimension of search", "warm_start", index, name)
        base = self._base()
        for name, dimension in self.search.items():
            value = point.get(name, base[name])
            if not dimension.contains(value):
                origin = "" if name in point else f"{name} is {value} (from trial), "
                raise refusal(f"{origin}outside search.{name} ({dimension})", "warm_start", index, name)
        try:
            self._method(point)
        except ValidationError as error:
            raise refusal(plain(error.errors()[0]["msg"]), "warm_start", index) from None
