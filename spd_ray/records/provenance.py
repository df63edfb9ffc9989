"""Where a sweep's results come from: specification, command, versions, commit, machine."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from spd_ray.base import installation
from spd_ray.base.files import write_whole
from spd_ray.config.dimensions import Choices
from spd_ray.config.method import TERMS
from spd_ray.config.pruning import ALL_CRITERIA
from spd_ray.config.sweep import SweepSpec
from spd_ray.records import layout
from spd_ray.records.schema import SCHEMA_VERSION

TEACHER_FILES = "teacher_files"  # of `content`: the hash of the teacher's own files
PACKAGES = ("torch", "transformers", "deepspeed", "ray", "optuna", "mlflow", "datasets", "pyarrow")


def git_commit() -> str | None:
    """The commit of the code, with `-dirty` if files differ from it; None outside a git checkout, or without git."""
    folder = Path(__file__).parent
    words = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        described = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    except OSError:  # no git on this machine
        return None
    return described.stdout.strip() if described.returncode == 0 else None


def packages_used(spec: SweepSpec) -> list[str]:
    """The installed packages whose loss terms the sweep may weigh, or by whose criteria it may prune."""
    methods = [spec.method_at({"method": name}) for name in spec.methods()]
    names = {name for method in methods for one in method.objectives for name in one.weights()}
    names |= {name.removeprefix("objective.") for name in spec.search}
    searched = spec.search.get("pruning")
    prunings = {method.pruning for method in methods}
    prunings |= {str(name) for name in (searched.choices if isinstance(searched, Choices) else ())}
    packages = {TERMS[name].package for name in names & TERMS.keys()}
    packages |= {ALL_CRITERIA[name].package for name in prunings & ALL_CRITERIA.keys()}
    return sorted(package for package in packages if package)


def write_sweep_yaml(spec: SweepSpec, folder: Path, command: str, gpus: Sequence[str], read: Mapping[str, str]) -> None:
    """Write `sweep.yaml`: the resolved specification and where it ran, on `gpus` of the cluster by their names.

    `read` are the hashes of what was read: the teacher's content.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "spec": spec.resolved(),
        "space_hash": spec.space_hash(),
        "content": dict(read),
        "command": command,
        "git_commit": git_commit(),
        "versions": {
            "spd_ray": installation.version(),
            **{package: metadata.version(package) for package in (*PACKAGES, *packages_used(spec))},
        },
        "machine": {"cpus": os.cpu_count(), "gpus": list(gpus), "system": platform.platform()},
    }
    write_whole(layout.sweep_yaml(folder), yaml.safe_dump(content, sort_keys=False))


def read_sweep_yaml(folder: Path) -> dict[str, Any]:
    """What `write_sweep_yaml` wrote when the sweep in `folder` was begun or continued last."""
    return dict(yaml.safe_load(layout.sweep_yaml(folder).read_text()))
