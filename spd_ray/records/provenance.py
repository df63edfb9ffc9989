"""Where a sweep's results come from: specification, command, versions, commit, machine."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import yaml

from spd_ray.base.cache import write_whole
from spd_ray.config.sweep import SweepSpec

PACKAGES = ("spd_ray", "torch", "transformers", "deepspeed", "ray", "optuna", "mlflow", "datasets", "pyarrow")


def git_commit() -> str | None:
    """The commit of the code, with `-dirty` if files differ from it; None outside a git checkout."""
    folder = Path(__file__).parent
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty"], cwd=folder, capture_output=True, text=True
    )
    return described.stdout.strip() if described.returncode == 0 else None


def write_sweep_yaml(spec: SweepSpec, folder: Path, command: str) -> None:
    """Write `sweep.yaml`: the resolved specification and where it ran."""
    import torch  # here, for a module that takes seconds to import tells errors late

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    content = {
        "spec": spec.resolved(),
        "space_hash": spec.space_hash(),
        "command": command,
        "git_commit": git_commit(),
        "versions": {package: version(package) for package in PACKAGES},
        "machine": {"cpus": os.cpu_count(), "gpus": gpus, "system": platform.platform()},
    }
    write_whole(folder / "sweep.yaml", yaml.safe_dump(content, sort_keys=False))


def space_hash_of(folder: Path) -> str:
    """The hash of the space that the sweep in `folder` was begun with."""
    return str(yaml.safe_load((folder / "sweep.yaml").read_text())["space_hash"])
