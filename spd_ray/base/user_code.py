"""The user's own code: functions `module:function` of a search space, and rows that installed packages add to a table.

Why so: docs/decisions.md #code-only-where-it-is-allowed, #installed-rows.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from spd_ray.base.errors import UserError

ALLOWED = "SPD_RAY_ALLOW_CODE"  # of this process and of the workers that it starts


def allow_code() -> None:
    """Let this process, and the workers that it starts, run functions that a search space names."""
    os.environ[ALLOWED] = "1"


def code_is_allowed() -> bool:
    """Whether `allow_code` was called, here or in the process that started this one."""
    return bool(os.environ.get(ALLOWED))


def load_function(name: str, key: str) -> Callable[..., Any]:
    """The function `name`, "module:function"; the module is installed, or in the folder where the command runs.

    Raises UserError, naming `key`, where code is not allowed, or where there is no such function.
    """
    if not code_is_allowed():
        raise UserError(f"{key}: {name} is code of your own; add --allow-code to run it")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # whatever the user's module raises
        raise UserError(f"{key}: {name} cannot be loaded ({type(error).__name__}: {error})") from error
    if not callable(function):
        raise UserError(f"{key}: {name} is not a function")
    return function


def installed_rows(
    group: str, kind: type[Any], taken: Iterable[str], wrong: Callable[[Any], str]
) -> tuple[dict[str, Any], list[str]]:
    """The rows of `kind` that installed packages add to a table, by their entry points in `group`: name = module:ROW.

    They come by name, in order, with their `package` filled in. `taken` are the table's own names, `wrong` says what is
    wrong with a row ("" if nothing). A row that cannot be used is left out: the second value has a line for each.
    """
    rows: dict[str, Any] = {}
    refused = []
    for point in sorted(metadata.entry_points(group=group), key=lambda one: (one.name, str(one.dist))):
        package = point.dist.name if point.dist else point.module
        try:
            row = point.load()
        except Exception as error:  # whatever the package raises
            why = f"cannot be loaded ({type(error).__name__}: {error})"
        else:
            why = f"is no {kind.__name__}" if not isinstance(row, kind) else wrong(row)
        if not re.fullmatch("[a-z][a-z0-9_]*", point.name):
            why = "must have a name of small letters, digits and _"
        elif point.name in {*taken, *rows}:
            why = "has a name that is taken; give it another"
        if why:
            refused.append(f"package {package}: the entry point {group}: {point.name} = {point.value} {why}")
        else:
            rows[point.name] = row._replace(package=package)
    return rows, refused


def packages_that_add() -> list[str]:
    """The installed packages that add rows to any table of this one."""
    points = metadata.entry_points()
    groups = [group for group in points.groups if group.startswith("spd_ray.")]
    return sorted({one.dist.name for group in groups for one in points.select(group=group) if one.dist})


def source_of(function: Callable[..., Any]) -> Path | None:
    """The file in which a function is written; None where it has none."""
    try:
        return Path(inspect.getfile(function))
    except TypeError:
        return None
