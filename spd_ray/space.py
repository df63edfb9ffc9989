"""Reading a search space, and the Optuna study that searches it.

`ask` is a function of the study's history alone: trial `n` is the n-th first point (warm starts, grid), or
it is drawn by a sampler seeded with (study seed, n). So a resumed sweep draws what an undisturbed one would
have drawn, and since a trial enters the storage whole, in one write, no kill can leave half of one.
"""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import optuna
import sqlalchemy.exc
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from pydantic import BaseModel, ValidationError

from spd_ray.dimensions import Choices, Value, tidy
from spd_ray.errors import UserError, nearest, plain
from spd_ray.methods import METHODS, filled, load_method
from spd_ray.presets import Preset, lay_mini, load_preset
from spd_ray.spec import SECTIONS, SweepSpec
from spd_ray.yaml_source import KeyPath, Source, key_name, override, read_yaml

STARTUP_TRIALS = 4  # TPE draws at random until so many are told; Optuna's 10 would be all of a small sweep
REDRAWS = 20
TUNED_BY_ALL = ("stage1_lr", "batch_size", "weight_decay", "dropout", "total_epochs")  # dimensions of any method
VALUES = "values"  # the user attribute that holds a trial's point: dimension -> value

_STORAGE_ERRORS = (
    OSError,
    ValueError,  # a journal that holds something else
    KeyError,
    ImportError,  # of a database's driver
    sqlalchemy.exc.SQLAlchemyError,
    optuna.exceptions.OptunaError,
)

logging.getLogger("optuna").setLevel(logging.WARNING)
# A clipped range leaves TPE's joint space and is drawn on its own: as meant, so no warning at each draw.
logging.getLogger("optuna.samplers._tpe.sampler").setLevel(logging.ERROR)


def load_spec(
    path: str | Path, overrides: Sequence[str] = (), method: str | None = None, profile: Literal["mini"] | None = None
) -> SweepSpec:
    """Read and check the search space in the file `path`, with `overrides` of the form `key=value` applied.

    What the file does not say comes from its method, then from its preset. `method` replaces the file's: its own
    dimensions are searched, and those of the file that mean something to it. The profile goes over the file, the
    overrides over the profile. Raises UserError, one line: file, line number (or `--set key=value`), key, value, what
    would be right.
    """
    source = read_yaml(path)
    source.data.setdefault("name", re.sub(r"[^A-Za-z0-9_-]", "-", Path(path).stem))
    if profile == "mini" and isinstance(source.data.get("task"), dict):
        _fill_in(source.data)
        source.data.update(lay_mini(source.data), preset=None)
    override(source, overrides, _split_key)
    if method is not None:
        _take_method(source.data, method)
    _fill_in(source.data)
    try:
        return SweepSpec.model_validate_json(json.dumps(source.data), strict=True)
    except ValidationError as error:
        errors = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a misspelt key also misses
        raise UserError(_explain(source, errors[0])) from None


def _take_method(data: dict[str, Any], name: str) -> None:
    own = load_method(name)
    meaningful = {*own.search, *own.tunes, *TUNED_BY_ALL}
    kept = {key: dimension for key, dimension in data.get("search", {}).items() if key in meaningful}
    data.update(method=name, search={**own.search, **kept}, warm_start=[])


def _fill_in(data: dict[str, Any]) -> None:
    """Put what the method and the preset say where `data` says nothing; what is malformed is left to the checks."""
    task, search = data.get("task"), data.setdefault("search", {})
    if not isinstance(task, dict) or not isinstance(data.get("trial", {}), dict) or not isinstance(search, dict):
        return
    if data.get("method") in METHODS and "method" not in search:
        data.update(filled(data, {"trial": load_method(data["method"]).trial}))
    if data.get("preset") in get_args(Preset):
        data.update(filled(data, load_preset(data["preset"], str(task.get("name")))))


def create_study(spec: SweepSpec, storage: Path | str) -> optuna.Study:
    """Create or reopen the study of `spec` in a journal file, or in a database if `storage` is a URL.

    The study is called after the sweep and the hash of its space: a changed space is another study.
    Raises UserError if the storage cannot be opened.
    """
    try:
        opened: optuna.storages.BaseStorage | str = str(storage)
        if "://" not in str(storage):
            opened = _open_journal(Path(storage))
        return optuna.create_study(
            storage=opened,
            sampler=optuna.samplers.RandomSampler(),
            study_name=f"{spec.name}-{spec.space_hash()}",
            direction="maximize",
            load_if_exists=True,
        )
    except _STORAGE_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{storage}: cannot be opened as an Optuna storage: {reason[:200]}") from None


def ask(study: optuna.Study, spec: SweepSpec) -> tuple[int, dict[str, Value]]:
    """Start the next trial: its number in `study` and its point (dimension -> value).

    The trial is RUNNING in the storage; its params are what was drawn, its user attribute "values" is the
    point after clipping. A point that was run before is drawn again, up to twenty times, then accepted.
    """
    history = study.get_trials(deepcopy=False)
    number = len(history)
    points = spec.first_points()
    if number < len(points):
        drawn = _draw(spec, [], number, 0, points[number])
    else:
        known = [trial.user_attrs.get(VALUES) for trial in history]
        for attempt in range(REDRAWS):
            drawn = _draw(spec, history, number, attempt, None)
            if drawn.user_attrs[VALUES] not in known:
                break
    study.add_trial(drawn)
    return number, drawn.user_attrs[VALUES]


def trial_values(trial: optuna.trial.FrozenTrial) -> dict[str, Value]:
    """The point of a trial that `ask` started, to go on with it after a restart."""
    return trial.user_attrs[VALUES]


def _draw(
    spec: SweepSpec,
    history: list[optuna.trial.FrozenTrial],
    number: int,
    attempt: int,
    point: dict[str, Value] | None,
) -> optuna.trial.FrozenTrial:
    """The running trial `number`: at `point`, or as the sampler draws it from `history` (in a scratch study)."""
    scratch = optuna.create_study(direction="maximize", sampler=_sampler(spec, number, attempt))
    scratch.add_trials(history)
    if point is not None:
        scratch.enqueue_trial(point)
    values = _suggest(scratch.ask(), spec)
    drawn = scratch.get_trials(deepcopy=False)[-1]
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params=drawn.params,
        distributions=drawn.distributions,
        user_attrs={VALUES: values},
    )


def _suggest(trial: optuna.Trial, spec: SweepSpec) -> dict[str, Value]:
    """Draw every dimension in order, clipped by those before it (see `spd_ray.spec`)."""
    values: dict[str, Value] = {}
    for name, dimension in spec.dimensions().items():
        end = spec.upper_end(name, values)
        if isinstance(dimension, Choices):
            choice = trial.suggest_categorical(name, list(dimension.choices))
            assert choice is not None
            values[name] = choice if end == float("inf") else min(choice, dimension.last(end))
        elif spec.is_integer(name):
            ends = int(dimension.low), int(dimension.high)
            values[name] = trial.suggest_int(name, *ends, log=dimension.log, step=int(dimension.step or 1))
        else:
            low, clipped, step = tidy(float(dimension.low)), dimension.last(end), dimension.step
            drawn = trial.suggest_float(name, low, clipped, log=dimension.log, step=step)
            values[name] = drawn if step is None else tidy(drawn)
    return values


def _sampler(spec: SweepSpec, number: int, attempt: int) -> optuna.samplers.BaseSampler:
    seed = int(np.random.SeedSequence([spec.study.seed, number, attempt]).generate_state(1)[0])
    if spec.study.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed, multivariate=True, constant_liar=True)


def _open_journal(path: Path) -> JournalStorage:
    """Open a journal; a last line that a power cut left half-written is cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        text = path.read_bytes()
        if text and not text.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(text.rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(path)))


def _split_key(key: str) -> KeyPath:
    """`trial.p0` -> ("trial", "p0"); a dimension's own dot stays: ("search", "objective.task", "low")."""
    path = tuple(key.split("."))
    if path[0] == "search" and len(path) > 2 and path[1] in SECTIONS:
        path = ("search", f"{path[1]}.{path[2]}", *path[3:])
    model: Any = SweepSpec
    for part in path:
        model = _field(model, part)
    if _is_section(model):
        raise UserError(f"--set {key}=...: {key} is a section; set one of its keys: {', '.join(model.model_fields)}")
    return path


def _explain(source: Source, error: Any) -> str:
    """One line for a pydantic error in `source`."""
    path: KeyPath = tuple(error["loc"])
    message = plain(error["msg"])
    if error["type"] == "refused":
        path, message = tuple(error["ctx"]["path"]), error["msg"]
    elif path[:1] == ("search",) and len(path) > 2:
        path = (*path[:2], *path[3:])  # pydantic puts the kind of dimension there
    if error["type"] == "missing":
        return f"{source.place(path[:-1])}: {key_name(path)} is missing"
    if error["type"] == "extra_forbidden":
        return f"{source.place(path)}: unknown key {key_name(path)}; {_nearest_key(path)}"
    if path[-1:] in (("bool",), ("int",)):  # the first branch of a union
        message = "must be a number" + (", text, true or false" if path[-1] == "bool" else "")
    if error["type"] == "value_error":
        path = _blamed(source, path, message)
    while path and not source.has(path):
        path = path[:-1]
    return f"{source.place(path)}: {_key_and_value(source, path)}{message}"


def _blamed(source: Source, path: KeyPath, message: str) -> KeyPath:
    """The key under `path` that `message` names, one that an override has set before one of the file."""
    named = [(*path, word.strip(":,")) for word in message.split()]
    written = [one for one in named if source.has(one)]
    overridden = [one for one in written if source.place(one).startswith("--set")]
    return next(iter(overridden + written), path)


def _nearest_key(path: KeyPath) -> str:
    """What may have been meant by the unknown key at the end of `path`."""
    sections: list[Any] = [SweepSpec]
    for part in path[:-1]:
        sections.append(_section(_field(sections[-1], part)))
    fields = {name: field.annotation for name, field in SweepSpec.model_fields.items()}
    inner = [name for name, annotation in fields.items() if path[-1] in getattr(annotation, "model_fields", ())]
    if len(path) == 1 and inner:
        return f"did you mean {inner[0]}.{path[0]}?"
    if path[0] == "search":
        return nearest(str(path[-1]), ["low", "high", "log", "step", "choices"])
    return nearest(str(path[-1]), sections[-1].model_fields)


def _section(annotation: Any) -> Any:
    """The section of an annotation, also of one that may be null; None where there is none."""
    return next((one for one in (annotation, *get_args(annotation)) if _is_section(one)), None)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _field(annotation: Any, key: str | int) -> Any:
    """The annotation of `key` in a section; None where there is none."""
    section = _section(annotation)
    field = section.model_fields.get(str(key)) if section else None
    return field.annotation if field else None


def _key_and_value(source: Source, path: KeyPath) -> str:
    if not path or source.place(path).startswith(f"--set {key_name(path)}="):
        return ""
    value: Any = source.data
    for part in path:
        value = value[part]
    if isinstance(value, dict | list) and len(str(value)) > 60:
        return f"{key_name(path)}: "
    return f"{key_name(path)} = {json.dumps(value)}: "
