"""Reading a search space: its file, method, preset and overrides, and what is wrong with them.

Why so: docs/decisions.md #where-relative-paths-start, #a-method-of-ones-own.
"""

import json
import re
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from spd_ray.base.errors import UserError, nearest, plain
from spd_ray.config.method import check_packages
from spd_ray.config.methods import METHODS, MethodCard, fill_in, load_method
from spd_ray.config.presets import EPOCHS, Preset, lay_mini, load_preset
from spd_ray.config.sweep import DIMENSIONS, SECTIONS, SweepSpec
from spd_ray.config.yaml_file import KeyPath, YamlFile, key_name, override, read_mapping, read_yaml

PATHS = (("task", "path"), ("task", "train_file"), ("task", "dev_file"), ("model", "path"), ("teacher", "path"))
TUNED_BY_ALL = ("stage1_lr", "batch_size", "weight_decay", "dropout", "total_epochs")  # dimensions of any method
BUDGETS = (*EPOCHS, "target_sparsity")  # keys that a method leaves to the space


def load_spec(
    space: str | PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    method: str | None = None,
    profile: Literal["mini"] | None = None,
) -> SweepSpec:
    """Read and check the search space: its file, or the mapping that it would hold, under `overrides` "key=value".

    What the file does not say comes from its method, then from its preset. `method` replaces the file's: its own
    dimensions are searched, and those of the file that mean something to it. Where the name of a method stands, a file
    of the user's own may stand: FILE.yaml. The profile goes over the file, the overrides over the profile; but
    `task.name` names the task that the profile lays over. A relative path of the file starts at the file's folder, one
    of a mapping or an override where the program runs. Raises UserError, one line: file, line number (or
    `--set key=value`), key, value, what would be right.
    """
    check_packages()
    source = read_mapping(space) if isinstance(space, Mapping) else read_yaml(fspath(space))
    _refuse_old_words(source)
    if not isinstance(space, Mapping):
        source.data.setdefault("name", re.sub(r"[^A-Za-z0-9_-]", "-", Path(space).stem))
        _start_paths_at(Path(space).parent, source.data)
    _read_own_methods(source)
    if profile == "mini":  # which lays over a task what stands for it
        override(source, [one for one in overrides if one.startswith("task.name=")], _split_key)
        overrides = [one for one in overrides if not one.startswith("task.name=")]
    if profile == "mini" and _can_be_composed(source.data):
        _fill_in(source)
        source.data.update(lay_mini(source.data), preset=None)
    override(source, overrides, _split_key)
    _read_own_methods(source)
    if method is not None and _can_be_composed(source.data):
        _take_method(source, method)
    _fill_in(source)
    try:
        return SweepSpec.model_validate_json(json.dumps(source.data), strict=True)
    except ValidationError as error:
        errors = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a misspelt key also misses
        raise UserError(_explain(source, errors[0])) from None


def _refuse_old_words(source: YamlFile) -> None:
    """Refuse what a key was called before, with its new name."""
    if "trial" in source.data:
        raise UserError(f"{source.place(('trial',))}: trial is called method now: write method: in its place")
    method = source.data.get("method")
    if isinstance(method, str):
        raise UserError(
            f"{source.place(('method',))}: method = {json.dumps(method)}: method is a section now: write "
            f"method: {{name: {method}}}"
        )


def _start_paths_at(folder: Path, data: dict[str, Any]) -> None:
    """Let the relative paths in `data` start at `folder`."""
    for section, key in PATHS:
        written = data.get(section)
        if isinstance(written, dict) and isinstance(written.get(key), str):
            data[section] = {**written, key: str(folder / Path(written[key]).expanduser())}
    for section, key in _method_names(data):
        if is_method_file(section[key]):
            section[key] = str(folder / Path(section[key]).expanduser())


def _method_names(data: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Where `data` names its methods: each a section, or a list, and the key."""
    method, search = (part if isinstance(part, dict) else {} for part in (data.get("method"), data.get("search")))
    searched = search.get("method")
    choices = searched.get("choices") if isinstance(searched, dict) else None
    named = [(method, "name")] if "name" in method else []
    return named + ([(choices, index) for index in range(len(choices))] if isinstance(choices, list) else [])


def is_method_file(name: Any) -> bool:
    """Whether a method is named by a file."""
    return isinstance(name, str) and name.endswith((".yaml", ".yml"))


def find_method(name: str) -> tuple[str, MethodCard]:
    """The method of that name, or in that file, with its name. Raises UserError if there is none, or none that runs."""
    if not is_method_file(name):
        return name, load_method(name)
    name, file = _read_method(name)
    return name, MethodCard.model_validate(file.data)


def _read_own_methods(source: YamlFile) -> None:
    """Let `own_methods` hold what the files say that `source` names, and their names stand where the files stood.

    Raises UserError for a method that is wrong, and for two of one name.
    """
    for section, key in _method_names(source.data):
        if is_method_file(section[key]):
            section[key] = _add_own_method(source, section[key])
    written = source.data.get("own_methods", {})
    for name in written if isinstance(written, dict) else ():
        if isinstance(written[name], dict):
            _check_card(source.below("own_methods", name), name)


def _add_own_method(source: YamlFile, path: str) -> str:
    """Put the method in the file `path` among the `own_methods`; returns its name."""
    name, file = _read_method(path)
    own = source.data.setdefault("own_methods", {})
    if not isinstance(own, dict):
        return name  # which the checks refuse
    if name in own and _card(source.data, name) != MethodCard.model_validate(file.data):
        raise UserError(
            f"{path}: differs from what the space, or the sweep that was begun, has as {name}; leave it out to go on "
            "with that, or give the file another name"
        )
    own[name] = file.data
    source.places.update({("own_methods", name, *tail): place for tail, place in file.places.items()})
    return name


def _read_method(path: str) -> tuple[str, YamlFile]:
    """The method in the file `path`: its name, which is the file's, and what it says, checked."""
    name = Path(path).stem
    if name in METHODS:
        raise UserError(f"{path}: {name} is a method of this package; give the file another name")
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise UserError(f"{path}: the file's name is the method's: it must be letters, digits, - and _")
    file = read_yaml(Path(path).expanduser(), "method")
    _check_card(file, name)
    return name, file


def _check_card(file: YamlFile, name: str) -> None:
    """Refuse a method's file that lacks a field, or whose parts and dimensions do not go together.

    It is checked as a space of its own would be, under default budgets; what is about budgets is left to its space.
    """
    fields = ", ".join(MethodCard.model_fields)
    try:
        card = MethodCard.model_validate_json(json.dumps(file.data), strict=True)
    except ValidationError as error:
        first = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")[0]
        path: KeyPath = tuple(first["loc"])
        if first["type"] == "missing":
            raise UserError(f"{file.file}: {key_name(path)} is missing; a method's file has {fields}") from None
        if first["type"] == "extra_forbidden":
            meant = nearest(str(path[0]), MethodCard.model_fields)
            raise UserError(f"{file.place(path)}: unknown key {path[0]}; {meant}") from None
        raise UserError(f"{file.place(path)}: {_key_and_value(file, path)}{plain(first['msg'])}") from None
    if "name" in card.method:
        raise UserError(f"{file.place(('method', 'name'))}: method.name: the file's name is the method's; leave it out")
    for index, tuned in enumerate(card.tunes):
        if tuned not in DIMENSIONS:
            known = nearest(tuned, DIMENSIONS)
            raise UserError(f"{file.place(('tunes', index))}: tunes[{index}]: unknown dimension {tuned!r}; {known}")
    space = {"name": "x", "task": {"name": "sst2"}, "method": {**card.method, "name": name}, "search": card.search}
    try:
        SweepSpec.model_validate_json(json.dumps({**space, "own_methods": {name: file.data}}), strict=True)
    except ValidationError as error:
        errors = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        blamed = [path[-1] for path in errors[0].get("ctx", {}).get("paths", ())]
        if not set(BUDGETS) & {str(part) for part in blamed}:
            raise UserError(_explain(file, errors[0])) from None


def _can_be_composed(data: dict[str, Any]) -> bool:
    """Whether method, preset and profile can be laid under and over `data`; what is malformed is left to the checks."""
    sections = [data.get("task"), *(data.get(name, {}) for name in ("method", "search", "own_methods"))]
    return all(isinstance(section, dict) for section in [*sections, *_listed(data.get("warm_start", []))])


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _take_method(source: YamlFile, name: str) -> None:
    """Let the method `name`, or the one in that file, take the place of the space's.

    Raises UserError if there is none.
    """
    data = source.data
    name = _add_own_method(source, name) if is_method_file(name) else name
    own = _card(data, name)
    meaningful = {*own.search, *own.tunes, *TUNED_BY_ALL}
    kept = {key: dimension for key, dimension in data.get("search", {}).items() if key in meaningful}
    data["method"] = {**data.get("method", {}), "name": name}
    data.update(search={**own.search, **kept}, warm_start=[])
    _take_places(source, name, "search")


def _card(data: dict[str, Any], name: str) -> MethodCard:
    """The method `name` of a space, its own or the package's. Raises UserError if there is none."""
    own = data.get("own_methods", {})
    return MethodCard.model_validate(own[name]) if name in own else load_method(name)


def _take_places(source: YamlFile, name: str, section: str) -> None:
    """What the space has of its own method `name` stands in the method's file, where the space itself says nothing."""
    for path, place in list(source.places.items()):
        if path[:3] == ("own_methods", name, section):
            source.places.setdefault(path[2:], place)


def _fill_in(source: YamlFile) -> None:
    """Put what the method and the preset say where the space says nothing.

    Raises UserError where the preset knows nothing of the task.
    """
    data = source.data
    if not _can_be_composed(data):
        return
    method, search = data.get("method", {}), data.setdefault("search", {})
    name, own = method.get("name"), data.get("own_methods", {})
    if isinstance(name, str) and (name in METHODS or name in own) and "method" not in search:
        data["method"] = fill_in(method, _card(data, name).method)
        _take_places(source, name, "method")
    if data.get("preset") in get_args(Preset):
        data.update(fill_in(data, load_preset(data["preset"], data["task"])))


def _split_key(key: str) -> KeyPath:
    """`method.p0` -> ("method", "p0"); a dimension's own dot stays: ("search", "objective.task", "low").

    Raises UserError for a section, which cannot be set as a whole, and for the section's former name.
    """
    path = tuple(key.split("."))
    if path[0] == "trial":
        new = ".".join(("method", *path[1:]))
        raise UserError(f"--set {key}=...: trial is called method now: write --set {new}=...")
    if path[0] == "search" and len(path) > 2 and path[1] in SECTIONS:
        path = ("search", f"{path[1]}.{path[2]}", *path[3:])
    model: Any = SweepSpec
    for part in path:
        model = _field(model, part)
    if _is_section(model):
        raise UserError(f"--set {key}=...: {key} is a section; set one of its keys: {', '.join(model.model_fields)}")
    return path


def _explain(source: YamlFile, error: Any) -> str:
    """One line for a pydantic error in `source`."""
    path: KeyPath = tuple(error["loc"])
    message = plain(error["msg"])
    if path[:1] == ("search",) and len(path) > 2:
        path = (*path[:2], *path[3:])  # pydantic puts the kind of dimension there
    if error["type"] == "missing":
        return f"{source.place(path[:-1])}: {key_name(path)} is missing"
    if error["type"] == "extra_forbidden":
        return f"{source.place(path)}: unknown key {key_name(path)}; {_nearest_key(path)}"
    if path[-1:] in (("bool",), ("int",)):  # the first branch of a union
        message = "must be a number" + (", text, true or false" if path[-1] == "bool" else "")
    if error["type"] == "refused":
        path = _blamed(source, [(*path, *tail) for tail in error["ctx"]["paths"]])
    while path and not source.has(path):
        path = path[:-1]
    return f"{source.place(path)}: {_key_and_value(source, path)}{message}"


def _blamed(source: YamlFile, paths: list[KeyPath]) -> KeyPath:
    """Of the keys that a rule is about: one that an override has set, else one of the file, else the first."""
    written = [path for path in paths if source.has(path)]
    overridden = [path for path in written if source.place(path).startswith("--set")]
    return [*overridden, *written, *paths][0]


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


def _key_and_value(source: YamlFile, path: KeyPath) -> str:
    if not path or source.place(path).startswith(f"--set {key_name(path)}="):
        return ""
    value: Any = source.data
    for part in path:
        value = value[part]
    if isinstance(value, dict | list) and len(str(value)) > 60:
        return f"{key_name(path)}: "
    return f"{key_name(path)} = {json.dumps(value)}: "
