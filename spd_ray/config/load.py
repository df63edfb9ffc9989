"""Reading a search space: its file, method, preset and overrides, and what is wrong with them.

Why so: docs/decisions.md #where-relative-paths-start.
"""

import json
import re
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from spd_ray.base.errors import UserError, nearest, plain
from spd_ray.config.methods import METHODS, fill_in, load_method
from spd_ray.config.presets import Preset, lay_mini, load_preset
from spd_ray.config.sweep import SECTIONS, SweepSpec
from spd_ray.config.yaml_file import KeyPath, YamlFile, key_name, override, read_mapping, read_yaml

PATHS = (("task", "path"), ("task", "train_file"), ("task", "dev_file"), ("model", "path"), ("teacher", "path"))
TUNED_BY_ALL = ("stage1_lr", "batch_size", "weight_decay", "dropout", "total_epochs")  # dimensions of any method


def load_spec(
    space: str | PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    method: str | None = None,
    profile: Literal["mini"] | None = None,
) -> SweepSpec:
    """Read and check the search space: its file, or the mapping that it would hold, under `overrides` "key=value".

    What the file does not say comes from its method, then from its preset. `method` replaces the file's: its own
    dimensions are searched, and those of the file that mean something to it. The profile goes over the file, the
    overrides over the profile. A relative path of the file starts at the file's folder, one of a mapping or an override
    where the program runs. Raises UserError, one line: file, line number (or `--set key=value`), key, value, what
    would be right.
    """
    source = read_mapping(space) if isinstance(space, Mapping) else read_yaml(fspath(space))
    _refuse_old_words(source)
    if not isinstance(space, Mapping):
        source.data.setdefault("name", re.sub(r"[^A-Za-z0-9_-]", "-", Path(space).stem))
        _start_paths_at(Path(space).parent, source.data)
    if profile == "mini" and _can_be_composed(source.data):
        _fill_in(source.data)
        source.data.update(lay_mini(source.data), preset=None)
    override(source, overrides, _split_key)
    if method is not None and _can_be_composed(source.data):
        _take_method(source.data, method)
    _fill_in(source.data)
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


def _can_be_composed(data: dict[str, Any]) -> bool:
    """Whether method, preset and profile can be laid under and over `data`; what is malformed is left to the checks."""
    sections = [data.get("task"), data.get("method", {}), data.get("search", {}), *_listed(data.get("warm_start", []))]
    return all(isinstance(section, dict) for section in sections)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _take_method(data: dict[str, Any], name: str) -> None:
    """Let the method `name` take the place of the file's. Raises UserError if there is none."""
    own = load_method(name)
    meaningful = {*own.search, *own.tunes, *TUNED_BY_ALL}
    kept = {key: dimension for key, dimension in data.get("search", {}).items() if key in meaningful}
    data["method"] = {**data.get("method", {}), "name": name}
    data.update(search={**own.search, **kept}, warm_start=[])


def _fill_in(data: dict[str, Any]) -> None:
    """Put what the method and the preset say where `data` says nothing.

    Raises UserError where the preset knows nothing of the task.
    """
    if not _can_be_composed(data):
        return
    method, search = data.get("method", {}), data.setdefault("search", {})
    if method.get("name") in METHODS and "method" not in search:
        data["method"] = fill_in(method, load_method(method["name"]).method)
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
