"""What a sweep is: the sections of a search space's YAML and their checks.

A point of the space is possible where `MethodConfig` takes it: stages that do not fit into the training, or parts that
do not go together, are refused there, once. A sampler draws again until a point is possible, a grid leaves out the
others, and a space in which none is found is refused when it is loaded.
"""

import itertools
import json
import math
from collections.abc import Iterator
from random import Random
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from spd_ray.base.cache import content_key
from spd_ray.base.errors import nearest, plain
from spd_ray.config.dimensions import Choices, Dimension, Range, Value
from spd_ray.config.method import MethodConfig, ObjectiveConfig, StudentConfig
from spd_ray.config.methods import fill_in, load_method
from spd_ray.config.presets import Preset
from spd_ray.config.section import NonNegativeFloat, PositiveInt, Section, refuse_at
from spd_ray.config.trial import EngineConfig, ModelConfig, TaskConfig, TeacherConfig, TrialConfig

SECTIONS: dict[str, type[Section]] = {"objective": ObjectiveConfig, "student": StudentConfig}
DIMENSIONS = ["method"]
DIMENSIONS += [name for name in MethodConfig.model_fields if name not in (*SECTIONS, "name", "phases", "ladder")]
DIMENSIONS += [f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields]
GRID_LIMIT = 10_000
TRIED = 300  # points drawn at random before a space is refused
COUNTED = 20  # a space of more points than this times the trials asked for is not counted


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
    task: TaskConfig
    model: ModelConfig = ModelConfig()
    teacher: TeacherConfig = TeacherConfig()
    method: MethodConfig = Field(MethodConfig(), description="what does not vary; its name can be searched, too")
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
            self._check_values(name, dimension)
        if self.study.sampler == "grid":
            self._check_grid()
        else:
            self._check_some_point_is_possible()
        for index, point in enumerate(self.warm_start):
            self._check_warm_start(index, point)
        return self

    # What the sweep asks.

    def dimensions(self) -> dict[str, Range | Choices]:
        """The searched dimensions by name: the order in which they are drawn, whatever order the file has."""
        return {name: self.search[name] for name in sorted(self.search)}

    def is_possible(self, point: dict[str, Value]) -> bool:
        """Whether the stages fit and the parts go together at `point`."""
        try:
            self.trial_config(point, seed=0)
        except ValidationError:
            return False
        return True

    def random_point(self, random: Random) -> dict[str, Value]:
        """A point of the space, possible or not."""
        return {name: one.draw(self.is_integer(name), random) for name, one in self.dimensions().items()}

    def all_points(self) -> list[dict[str, Value]] | None:
        """Every possible point, where the trials that are asked for might use them up; else None."""
        if not all(one.is_finite(self.is_integer(name)) for name, one in self.search.items()):
            return None
        size = math.prod(len(one.values()) for one in self.search.values())
        return list(self._grid()) if size <= COUNTED * self.study.trials else None

    def is_integer(self, name: str) -> bool:
        return type(self._base()[name]) is int

    def trial_config(self, values: dict[str, Value], seed: int) -> TrialConfig:
        """The trial of the point `values` (dimension -> value; the others keep their base value) under `seed`."""
        sections = {name: getattr(self, name) for name in ("task", "model", "teacher", "engine")}
        return TrialConfig(**sections, method=self._method(values), seed=seed)

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
        points = self.all_points()
        return self.study.trials if points is None else min(self.study.trials, len(points))

    def space_hash(self) -> str:
        """Of all that decides results: the same hash, the same study."""
        names = {"task", "model", "teacher", "engine", "search", "warm_start", "study", "early_stopping"}
        parts = self.model_dump(mode="json", include=names)
        del parts["study"]["trials"]
        parts["method"] = {name: self._method({"method": name}).model_dump(mode="json") for name in self.methods()}
        return content_key(parts)[:8]

    def methods(self) -> list[str]:
        """The methods of the sweep: one, or those that are searched."""
        return [str(name) for name in self.search["method"].values()] if "method" in self.search else [self.method.name]

    def resolved(self) -> dict[str, Any]:
        """Every key and its value; where the method is searched, `method` says only what holds for all methods."""
        parts = self.model_dump(mode="json")
        if "method" in self.search:
            parts["method"] = self.method.model_dump(mode="json", exclude_unset=True)
        return parts

    def to_yaml(self) -> str:
        """The resolved specification; `load_spec` reads it back as it was."""
        return yaml.safe_dump(self.resolved(), sort_keys=False)

    # Checks. Each raises the first error it finds, at the key that is to blame.

    def _base(self) -> dict[str, Value]:
        flat = self.method.model_dump()
        flat = {"method": flat.pop("name")} | flat
        for section in SECTIONS:
            flat |= {f"{section}.{name}": value for name, value in flat.pop(section).items()}
        return flat

    def _method(self, values: dict[str, Value]) -> MethodConfig:
        """The composition at the point `values`: what `method` says, over a searched method, over the defaults."""
        data = self.method.model_dump(exclude_unset="method" in values)
        if "method" in values:
            data = fill_in({**data, "name": values["method"]}, load_method(str(values["method"])).method)
        for name, value in values.items():
            section, _, leaf = name.rpartition(".")
            if name != "method":
                (data.setdefault(section, {}) if section else data)[leaf] = value
        return MethodConfig.model_validate_json(json.dumps(data), strict=True)

    def _check_name(self, name: str, *path: str | int) -> None:
        if name not in DIMENSIONS:
            raise refuse_at(f"unknown dimension {name!r}; {nearest(name, DIMENSIONS)}", path)

    def _check_values(self, name: str, dimension: Range | Choices) -> None:
        """Refuse ends, or choices, that the field itself does not take."""
        for key, value in dimension.extremes():
            try:
                self._method({name: value})
            except ValidationError as error:
                first = error.errors()[0]
                if first["loc"] == tuple(name.split(".")):
                    raise refuse_at(plain(first["msg"]), ("search", name, *key)) from None

    def _check_some_point_is_possible(self) -> None:
        random = Random(0)
        for _ in range(TRIED if self.search else 1):
            try:
                self.trial_config(self.random_point(random), seed=0)
                return
            except ValidationError as error:
                reason, paths = plain(error.errors()[0]["msg"]), _paths_of(error)
        if not self.search:
            raise refuse_at(reason, *paths)
        names = [name for path in paths if (name := ".".join(path[1:])) in self.search] or list(self.search)
        raise refuse_at(
            f"no point of the space is possible, of {TRIED:,} drawn at random; the last one: {reason}",
            *(("search", name) for name in names),
        )

    def _check_grid(self) -> None:
        for name, dimension in self.search.items():
            if isinstance(dimension, Range) and dimension.step is None and dimension.low < dimension.high:
                raise refuse_at("a grid needs a step or choices", ("search", name))
        size = math.prod(len(dimension.values()) for dimension in self.search.values())
        if size > GRID_LIMIT:
            raise refuse_at(f"a grid of {size} points; at most {GRID_LIMIT} are allowed", ("search",))
        if not any(True for _ in self._grid()):
            raise refuse_at("no point of the grid is possible: no stages fit, or no parts go together", ("search",))

    def _grid(self) -> Iterator[dict[str, Value]]:
        """The feasible points of the grid; the last dimension changes first."""
        dimensions = self.dimensions()
        for values in itertools.product(*(dimension.values() for dimension in dimensions.values())):
            point = dict(zip(dimensions, values, strict=True))
            if self.is_possible(point):
                yield point

    def _check_warm_start(self, index: int, point: dict[str, Value]) -> None:
        for name in point:
            self._check_name(name, "warm_start", index, name)
            if name not in self.search:
                raise refuse_at("not a dimension of search", ("warm_start", index, name))
        base = self._base()
        for name, dimension in self.search.items():
            value = point.get(name, base[name])
            if not dimension.contains(value):
                origin = "" if name in point else f"{name} is {value} (from method), "
                raise refuse_at(f"{origin}outside search.{name} ({dimension})", ("warm_start", index, name))
        try:
            self._method(point)
        except ValidationError as error:
            raise refuse_at(plain(error.errors()[0]["msg"]), ("warm_start", index)) from None


def _paths_of(error: ValidationError) -> list[tuple[str, ...]]:
    """The key paths that the first error blames, from the top of the YAML."""
    first = error.errors()[0]
    place = tuple(map(str, first["loc"]))
    if error.title == MethodConfig.__name__:
        place = ("method", *place)
    return [(*place, *path) for path in first.get("ctx", {}).get("paths", ((),))]
