"""What a sweep is: the sections of a search space's YAML and their checks.

A point of the space is possible where `TrialConfig` takes it: stages that do not fit into the training, or parts that
do not go together, are refused there, once. A sampler draws again until a point is possible, a grid leaves out the
others; a value that no possible point has, and a space in which hardly any is found, are refused when it is loaded.

Why so: docs/decisions.md #impossible-points.
"""

import itertools
import json
import math
from collections.abc import Iterator
from random import Random
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from spd_ray.base.cache import content_key
from spd_ray.base.errors import counted, nearest, plain
from spd_ray.config.dimensions import Choices, Dimension, Range, Value
from spd_ray.config.execution import (
    CheckpointsConfig,
    EarlyStoppingConfig,
    ResourcesConfig,
    StudyConfig,
    TrackingConfig,
)
from spd_ray.config.method import MethodConfig, ObjectiveConfig, StudentConfig
from spd_ray.config.methods import METHODS, MethodCard, fill_in, load_method
from spd_ray.config.presets import Preset
from spd_ray.config.pruning import CriterionConfig, RegrowthConfig
from spd_ray.config.section import PositiveFloat, Section, refuse_at
from spd_ray.config.trial import (
    EngineConfig,
    EngineRequest,
    ModelConfig,
    TaskConfig,
    TeacherConfig,
    TrialConfig,
    without_places,
)
from spd_ray.config.yaml_file import KeyPath

SECTIONS: dict[str, type[Section]] = {
    "criterion": CriterionConfig,
    "objective": ObjectiveConfig,
    "regrowth": RegrowthConfig,
    "student": StudentConfig,
}
DIMENSIONS = ["method"]
DIMENSIONS += [name for name in MethodConfig.model_fields if name not in (*SECTIONS, "name", "phases", "ladder")]
DIMENSIONS += [f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields]
GRID_LIMIT = 10_000  # points that are looked at one after the other
TRIED = 300  # points drawn at random before a space, or a value of it, is refused
ENOUGH = 3  # of them that must be possible, for a sampler to find one


class SweepSpec(Section):
    """A search space and how it is searched. The dimensions of `search` are fields of `MethodConfig`."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    preset: Preset | None = Field(None, description="settings that hold where nothing else is said")
    rates_times: PositiveFloat = Field(
        1.0, description="how many times the paper's learning rates those here are, for its claims; a profile sets it"
    )
    task: TaskConfig
    model: ModelConfig = ModelConfig()
    teacher: TeacherConfig = TeacherConfig()
    method: MethodConfig = Field(MethodConfig(), description="what does not vary; its name can be searched, too")
    own_methods: dict[str, MethodCard] = Field(
        default_factory=dict, description="methods of your own by name: here stands what the files say that are named"
    )
    engine: EngineRequest = EngineRequest()
    search: dict[str, Dimension] = Field(default_factory=dict)
    warm_start: tuple[dict[str, Value], ...] = ()
    study: StudyConfig = StudyConfig()
    resources: ResourcesConfig = ResourcesConfig()
    retries: int = Field(2, ge=0, description="of a trial that failed, in a row: progress sets the count back")
    early_stopping: EarlyStoppingConfig | None = None
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _check_space(self) -> "SweepSpec":
        self._check_methods()
        for name, dimension in self.search.items():
            self._check_name(name, "search", name)
            self._check_values(name, dimension)
        if self.study.sampler == "grid":
            self._check_grid()
        for name, dimension in self.search.items():
            self._check_values_are_used(name, dimension)
        self._check_points()
        for index, point in enumerate(self.warm_start):
            self._check_warm_start(index, point)
        return self

    # What the sweep asks.

    def dimensions(self) -> dict[str, Range | Choices]:
        """The searched dimensions by name: the order in which they are drawn, whatever order the file has.

        A range of whole numbers has step 1 where it says no other.
        """
        found: dict[str, Range | Choices] = {}
        for name in sorted(self.search):
            dimension = self.search[name]
            if isinstance(dimension, Range) and self.is_integer(name) and not dimension.log:
                dimension = dimension.model_copy(update={"step": dimension.step or 1})
            found[name] = dimension
        return found

    def is_possible(self, point: dict[str, Value]) -> bool:
        """Whether the stages fit and the parts go together at `point`."""
        return self._refusal(point) is None

    def random_point(self, random: Random) -> dict[str, Value]:
        """A point of the space, possible or not."""
        return {name: self._draw(name, dimension, random) for name, dimension in self.dimensions().items()}

    def grid(self) -> Iterator[dict[str, Value]]:
        """The possible points of a space that can be counted, one by one; the last dimension changes first."""
        return (point for point in self._all_points() if self.is_possible(point))

    def is_countable(self) -> bool:
        """Whether the space has so few points that all can be looked at."""
        counts = [dimension.count() for dimension in self.dimensions().values()]
        return math.prod(GRID_LIMIT + 1 if count is None else count for count in counts) <= GRID_LIMIT

    def is_integer(self, name: str) -> bool:
        """Whether the dimension `name` is a field of whole numbers."""
        return type(self._base()[name]) is int

    def trial_config(self, values: dict[str, Value], seed: int) -> TrialConfig:
        """The trial of the point `values` (dimension -> value; the others keep their base value) under `seed`.

        Raises pydantic's ValidationError where the point is not possible, or the engine's `auto` is not resolved.
        """
        return self._trial_config(values, seed, EngineConfig.model_validate(self.engine.model_dump()))

    def _trial_config(self, values: dict[str, Value], seed: int, engine: EngineConfig) -> TrialConfig:
        sections = {name: getattr(self, name) for name in ("task", "model", "teacher")}
        return TrialConfig(**sections, engine=engine, method=self.method_at(values), seed=seed)

    def first_points(self) -> list[dict[str, Value]]:
        """What is run before anything is drawn: the warm starts, and with the grid sampler the whole grid."""
        base = self._base()
        first: list[dict[str, Value]] = []
        for point in self.warm_start:
            whole = {name: point.get(name, base[name]) for name in self.dimensions()}
            first += [whole] if whole not in first else []
        if self.study.sampler == "grid" or not self.search:
            first += [point for point in self.grid() if point not in first]
        return first

    def total_configurations(self) -> int:
        """How many configurations the sweep runs, each under every seed: those asked for, if there are so many."""
        if self.study.sampler == "grid" or not self.search:
            return min(self.study.trials, len(self.first_points()))
        if not self.is_countable():
            return self.study.trials
        return sum(1 for _ in itertools.islice(self.grid(), self.study.trials))

    def describe_size(self) -> str:
        """How many configurations and seeds, and why fewer than were asked for."""
        count = self.total_configurations()
        text = f"{counted(count, 'configuration')} under {counted(len(self.study.seeds), 'seed')}"
        if count == self.study.trials or "trials" not in self.study.model_fields_set:
            return text
        return f"{text} (trials: {self.study.trials} asked, the space has {counted(count, 'point')})"

    def space_hash(self) -> str:
        """Of all that decides results: the same hash, the same study."""
        return content_key(self.identity())[:8]

    def identity(self) -> dict[str, Any]:
        """All that decides results but for the content of files, by section; `method` by the names of the methods."""
        names = {"task", "model", "teacher", "engine", "search", "warm_start", "study", "early_stopping"}
        parts = without_places(self.model_dump(mode="json", include=names))
        del parts["study"]["trials"]
        parts["method"] = {name: self.method_at({"method": name}).model_dump(mode="json") for name in self.methods()}
        return parts

    def methods(self) -> list[str]:
        """The methods of the sweep: one, or those that are searched."""
        searched = self.search.get("method")
        return [str(name) for name in searched.choices] if isinstance(searched, Choices) else [self.method.name]

    def card(self, name: str) -> MethodCard:
        """What the file of the method `name` says, one of the user's own or of this package."""
        return self.own_methods.get(name) or load_method(name)

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
        flat = dict(self.method)
        flat = {"method": flat.pop("name")} | flat
        for section in SECTIONS:
            flat |= {f"{section}.{name}": value for name, value in flat.pop(section)}
        return flat

    def method_at(self, values: dict[str, Value]) -> MethodConfig:
        """The composition at the point `values`: what `method` says, over a searched method, over the defaults.

        Raises pydantic's ValidationError where its parts do not go together.
        """
        data = self.method.model_dump(exclude_unset="method" in values)
        if "method" in values:
            data["name"] = values["method"]
        if "method" in values and self._is_method(data["name"]):
            data = fill_in(data, self.card(data["name"]).method)
        for name, value in values.items():
            section, _, leaf = name.rpartition(".")
            if name != "method":
                (data.setdefault(section, {}) if section else data)[leaf] = value
        return MethodConfig.model_validate_json(json.dumps(data), strict=True)

    def _all_points(self) -> Iterator[dict[str, Value]]:
        dimensions = self.dimensions()
        values = [[one.value(index) for index in range(one.count() or 0)] for one in dimensions.values()]
        return (dict(zip(dimensions, point, strict=True)) for point in itertools.product(*values))

    def _draw(self, name: str, dimension: Range | Choices, random: Random) -> Value:
        value = dimension.draw(random)
        return round(value) if isinstance(value, float) and self.is_integer(name) else value

    def _refusal(self, point: dict[str, Value]) -> tuple[str, list[KeyPath]] | None:
        """Why `point` is not possible, and the keys that this is about: searched ones as dimensions of `search`."""
        try:
            self._trial_config(point, 0, self._least_engine())
        except ValidationError as error:
            first = error.errors()[0]
            place = ("method", *first["loc"]) if error.title == MethodConfig.__name__ else first["loc"]
            paths = [(*place, *path) for path in first.get("ctx", {}).get("paths", ((),))]
            return plain(first["msg"]), [self._searched(path) for path in paths]
        return None

    def _least_engine(self) -> EngineConfig:
        """The engine with what any method takes in the place of `auto`, which is resolved after the space is loaded."""
        asked = self.engine.model_dump()
        return EngineConfig.model_validate({key: value for key, value in asked.items() if value != "auto"})

    def _searched(self, path: KeyPath) -> KeyPath:
        name = "method" if path == ("method", "name") else ".".join(map(str, path[1:]))
        return ("search", name) if path[:1] == ("method",) and name in self.search else path

    def _is_method(self, name: Value) -> bool:
        return name in METHODS or name in self.own_methods

    def _check_methods(self) -> None:
        """Refuse a name that no method has, and one that two have."""
        for name in self.own_methods:
            if name in METHODS:
                raise refuse_at(f"{name} is a method of this package; give yours another name", ("own_methods", name))
        searched = self.search.get("method")
        named: list[tuple[KeyPath, Value]] = [(("method", "name"), self.method.name)]
        if isinstance(searched, Choices):
            named = [(("search", "method", *key), value) for key, value in searched.extremes()]
        for path, value in named:
            if not self._is_method(value):
                known = nearest(str(value), [*METHODS, *self.own_methods])
                raise refuse_at(f"no such method; {known} A file of your own ends in .yaml", path)

    def _check_name(self, name: str, *path: str | int) -> None:
        if name not in DIMENSIONS:
            raise refuse_at(f"unknown dimension {name!r}; {nearest(name, DIMENSIONS)}", path)

    def _check_values(self, name: str, dimension: Range | Choices) -> None:
        """Refuse ends, or choices, that the field itself does not take."""
        field = ("name",) if name == "method" else tuple(name.split("."))
        for key, value in dimension.extremes():
            try:
                self.method_at({name: value})
            except ValidationError as error:
                first = error.errors()[0]
                if first["loc"] == field:
                    raise refuse_at(plain(first["msg"]), ("search", name, *key)) from None

    def _check_values_are_used(self, name: str, dimension: Range | Choices) -> None:
        """Refuse ends, or choices, that no possible point has, whatever the others are: their ends, or drawn."""
        for key, value in dimension.extremes():
            refusals = (self._refusal(point | {name: value}) for point in self._points_to_try())
            first = next(refusals)
            if first is not None and all(refusal is not None for refusal in refusals):
                reason, paths = first
                if any(path[0] == "search" for path in paths):
                    raise refuse_at(f"can never be used: {reason}", ("search", name, *key))
                raise refuse_at(reason, *paths)

    def _points_to_try(self) -> Iterator[dict[str, Value]]:
        """Points with every other end, or choice, as far as they go, then points at random with ends among them."""
        dimensions, random = self.dimensions(), Random(0)
        ends = {name: [value for _, value in dimension.extremes()] for name, dimension in dimensions.items()}
        for values in itertools.islice(itertools.product(*ends.values()), TRIED):
            yield dict(zip(ends, values, strict=True))
        for _ in range(TRIED):
            yield {
                name: random.choice(ends[name]) if random.random() < 0.5 else self._draw(name, dimension, random)
                for name, dimension in dimensions.items()
            }

    def _check_points(self) -> None:
        """Refuse the only point, if it is not possible, and a space in which hardly any is."""
        if not self.search:
            refusal = self._refusal({})
            if refusal is not None:
                raise refuse_at(refusal[0], *refusal[1])
        elif not self.is_countable():
            random = Random(0)
            refusals = [refusal for _ in range(TRIED) if (refusal := self._refusal(self.random_point(random)))]
            found = TRIED - len(refusals)
            if found < ENOUGH:
                reason, paths = refusals[0]
                message = f"of {TRIED} points drawn at random {found} are possible; of the others the first: {reason}"
                raise refuse_at(message, *paths)

    def _check_grid(self) -> None:
        counts = {name: dimension.count() for name, dimension in self.dimensions().items()}
        for name in self.search:
            if counts[name] is None:
                raise refuse_at("a grid needs a step or choices", ("search", name))
        size = math.prod(count or 0 for count in counts.values())
        if size > GRID_LIMIT:
            raise refuse_at(f"a grid of {size} points; at most {GRID_LIMIT} are allowed", ("search",))

    def _check_warm_start(self, index: int, point: dict[str, Value]) -> None:
        for name in point:
            self._check_name(name, "warm_start", index, name)
            if name not in self.search:
                raise refuse_at("not a dimension of search", ("warm_start", index, name))
        base = self._base()
        for name, dimension in self.search.items():
            value = point.get(name, base[name])
            if not dimension.contains(value):
                origin = "" if name in point else f"{name} is {'null' if value is None else value} (from method), "
                raise refuse_at(f"{origin}outside search.{name} ({dimension})", ("warm_start", index, name))
        refusal = self._refusal({name: point.get(name, base[name]) for name in self.search})
        if refusal is not None:
            raise refuse_at(refusal[0], ("warm_start", index))
