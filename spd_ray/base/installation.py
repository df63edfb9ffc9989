"""What of this distribution is installed: its version, and the extra that brings a package which is missing.

Why so: docs/decisions.md #nothing-installed.
"""

import argparse
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from spd_ray.base.errors import UserError

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"  # of a source tree, which need not be installed
IMPORTED_AS = {"pyyaml": "yaml", "scikit-learn": "sklearn"}  # packages whose module has another name


def version() -> str:
    """The version of spd_ray, such as `0.1.0`."""
    try:
        return metadata.version("spd_ray")
    except metadata.PackageNotFoundError:
        return str(_project()["version"])


def requirements(extra: str) -> list[str]:
    """What the extra lists, such as `ray[tune]>=2.60`."""
    try:
        lines = metadata.requires("spd_ray") or []
    except metadata.PackageNotFoundError:
        return list(_project()["optional-dependencies"][extra])
    return [line.partition(";")[0].strip() for line in lines if re.search(f"extra == ['\"]{extra}['\"]", line)]


def package_name(requirement: str) -> str:
    """The package that a requirement names.

    >>> package_name("ray[tune]>=2.60")
    'ray'
    """
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0]


def install_command(extra: str) -> str:
    """What installs the extra."""
    return f"pip install 'spd_ray[{extra}]'"


def own_command(module: str, *words: str) -> str:
    """What runs a module of this installation from any shell: quoted, and by this interpreter's path.

    It is `python` for short where that word means this interpreter.
    """
    found = shutil.which("python")
    python = "python" if found and Path(found).absolute() == Path(sys.executable).absolute() else sys.executable
    return shlex.join([python, "-m", module, *words])


def add_version(parser: argparse.ArgumentParser) -> None:
    """Give a command `--version`."""
    parser.add_argument("--version", action="version", version=f"spd_ray {version()}", help="print it and exit")


@contextmanager
def name_missing_package(extra: str, needed_by: str) -> Iterator[None]:
    """A package of the extra that is not installed becomes one line: which it is, and what installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        packages = [package_name(line) for line in requirements(extra)]
        missing = [name for name in packages if IMPORTED_AS.get(name, name) == error.name]
        if not missing:
            raise
        raise UserError(f"{needed_by} needs the package {missing[0]}: {install_command(extra)}") from None


def _project() -> dict[str, Any]:
    return tomllib.loads(PYPROJECT.read_text())["project"]
