"""The user's own functions, `module:function` in a search space: run only where the command line has allowed it.

Why so: docs/decisions.md #code-only-where-it-is-allowed.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
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


def source_of(function: Callable[..., Any]) -> Path | None:
    """The file in which a function is written; None where it has none."""
    try:
        return Path(inspect.getfile(function))
    except TypeError:
        return None
