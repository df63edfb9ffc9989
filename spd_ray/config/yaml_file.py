"""YAML that remembers where each value stands, so that an error can name file and line.

`yaml.safe_load` semantics, but stricter and with three repairs: duplicate keys, keys that are not text, NaN
and infinities are refused; `3e-5` is a number (PyYAML's YAML 1.1 wants `3.0e-5`); dates stay text, and so does `2:4`
(124 in YAML 1.1, which counts in sixties).
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from spd_ray.base.errors import UserError

KeyPath = tuple[str | int, ...]
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge")}
_RATIO = re.compile("^[0-9]+:[0-9]+$")
_TEXT, _INT, _FLOAT, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "merge"))


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(_TEXT, _RATIO)] * first.isdigit()
        + [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


@dataclass(frozen=True)
class YamlFile:
    """A parsed file: `data`, and for each key path the place to name in an error: "x.yaml, line 3"."""

    file: str
    data: dict[str, Any]
    places: dict[KeyPath, str]

    def place(self, path: KeyPath) -> str:
        """The place of `path`, or of the nearest enclosing key that was written down."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.file)

    def has(self, path: KeyPath) -> bool:
        return path in self.places

    def below(self, *path: str) -> "YamlFile":
        """The mapping at `path` as a file of its own."""
        data: Any = self.data
        for part in path:
            data = data[part]
        depth = len(path)
        places = {one[depth:]: place for one, place in self.places.items() if one[:depth] == path}
        return YamlFile(self.place(path), data, places)


def key_name(path: KeyPath) -> str:
    """`("warm_start", 0, "p0")` -> `warm_start[0].p0`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def read_yaml(path: str | Path, key: str = "task") -> YamlFile:
    """Read the mapping in the file `path`, which has the key `key` if it is what it should be.

    Raises UserError, one line, for whatever is wrong with it.
    """
    file = str(path)
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{file}: a folder, where a YAML file is needed") from None
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    return _mapping(text, lambda line: f"{file}, line {line}", file, key)


def read_mapping(data: Mapping[str, Any]) -> YamlFile:
    """`data` as if it had been read from a file; errors name `space` in the place of file and line."""
    return _mapping(yaml_text(data).encode(), lambda line: "space", "space", "task")


def yaml_text(value: Any) -> str:
    """A Python value as the one line of YAML that `--set` takes; tuples and numbers of NumPy may be in it.

    >>> yaml_text({"choices": (0.4, 1e-5, None)})
    '{"choices": [0.4, 1e-05, null]}'
    """
    try:
        return json.dumps(value, default=_plain_value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{_shown(value)}: {error}; numbers, text, true or false, lists and mappings are needed"
        ) from None


def _plain_value(value: Any) -> Any:
    """What JSON has no word for: a number of NumPy, or a path."""
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no value of YAML")


def _mapping(text: bytes, place: Callable[[int], str], file: str, key: str) -> YamlFile:
    places: dict[KeyPath, str] = {}
    data = _parse(text, places, place, file)
    if data is None:
        raise UserError(f"{file}: the file is empty, where a mapping with the key {key} is needed")
    if not isinstance(data, dict):
        raise UserError(f"{places[()]}: {_shown(data)}, where a mapping with the key {key} is needed")
    return YamlFile(file, data, places)


def override(source: YamlFile, settings: Sequence[str], split: Any) -> None:
    """Apply each `key=value` of `settings` to `source`; the value is YAML, `split` makes a key path of the key.

    Errors found later name `--set key=value` in place of file and line.
    """
    for setting in settings:
        where = f"--set {setting}"
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UserError(f"{where}: not of the form key=value")
        path: KeyPath = split(key)
        places: dict[KeyPath, str] = {}
        value = _parse(text.encode(), places, lambda line, where=where: where, where)
        target = source.data
        for depth, part in enumerate(path[:-1], start=1):
            if not isinstance(target.get(str(part)), dict):
                target[str(part)] = {}
                source.places[path[:depth]] = where
            target = target[str(part)]
        target[str(path[-1])] = value
        for old in [old for old in source.places if old[: len(path)] == path]:
            del source.places[old]
        source.places.update({path + tail: where for tail in places} | {path: where})


def _parse(text: bytes, places: dict[KeyPath, str], place: Any, whole: str) -> Any:
    """The value of one YAML document; fills `places` with `place(line)` of every key path."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        for path, problem, child in _walk(loader, node, ()):
            line = place(child.start_mark.line + 1)
            if problem:
                raise UserError(f"{line}: {key_name(path)}: {problem}" if path else f"{line}: {problem}")
            places[path] = line
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = str(error.problem)
        if "'\\t'" in problem:
            problem = "a tab where YAML wants spaces"
        raise UserError(f"{place(mark.line + 1) if mark else whole}: not YAML: {problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{whole}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{whole}: nested too deeply, or an alias contains itself") from None


def _walk(loader: _Loader, node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, str, yaml.Node]]:
    """Every key path under `node` with what is wrong there ("" if nothing) and the node that holds the line."""
    yield path, _problem(loader, node), node
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _walk(loader, child, (*path, index))
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, child in node.value:
            if key.tag == _MERGE:
                continue
            if key.tag != _TEXT:
                yield path, f"the key {getattr(key, 'value', '')!s} is not text; put it in quotes", key
            if key.value in seen:
                yield (*path, key.value), f"given twice, first in line {seen[key.value]}", key
            seen[key.value] = key.start_mark.line + 1
            yield from _walk(loader, child, (*path, key.value))
            yield (*path, key.value), "", key


def _problem(loader: _Loader, node: yaml.Node) -> str:
    if node.tag not in _TAGS:
        return f"the YAML tag {node.tag} has no use here"
    if node.tag in (_INT, _FLOAT):
        try:
            finite = math.isfinite(loader.construct_object(node, deep=True))
        except (OverflowError, ValueError):
            finite = False
        if not finite:
            return f"{node.value} is not a finite number"
    return ""


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
