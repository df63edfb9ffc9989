"""What SPD is compared with, by name: each file of this folder composes the parts of `MethodConfig`.

A file sets parts, never budgets or rates: those are the search space's. `source`, `parts` and `leaves_out` say where
each part comes from and what is missing; `search` are dimensions of the method's own, and `tunes` names those whose
ranges only a search space can know.

Why so: docs/decisions.md #methods-set-parts.
"""

from functools import cache
from typing import Any

import yaml
from pydantic import ValidationError

from spd_ray.base.errors import UserError, nearest, plain
from spd_ray.config import METHODS, METHODS_FOLDER
from spd_ray.config.section import Section


class MethodCard(Section):
    """One file of this folder."""

    source: str
    parts: dict[str, str]
    leaves_out: str
    method: dict[str, Any]
    search: dict[str, Any]
    tunes: tuple[str, ...]


@cache
def load_method(name: str) -> MethodCard:
    """The method `name`. Raises UserError if there is none, or if its file is not as the others are."""
    if name not in METHODS:
        raise UserError(f"method.name: {name!r} is unknown; {nearest(name, METHODS)}")
    file = METHODS_FOLDER / f"{name}.yaml"
    try:
        return MethodCard.model_validate(yaml.safe_load(file.read_text()))
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not YAML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key, known = ".".join(map(str, first["loc"])) or "the file", ", ".join(MethodCard.model_fields)
        what = {"missing": "is missing", "extra_forbidden": "is unknown"}.get(first["type"], plain(first["msg"]))
        raise UserError(f"{file}: {key} {what}; a method's file has {known}") from None


def fill_in(given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """`given` with what it does not say taken from `defaults`, section by section.

    >>> fill_in({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}, "d": 4})
    {'a': {'b': 1, 'c': 3}, 'd': 4}
    """
    result = {**defaults, **given}
    for name in given.keys() & defaults.keys():
        if isinstance(given[name], dict) and isinstance(defaults[name], dict):
            result[name] = fill_in(given[name], defaults[name])
    return result
