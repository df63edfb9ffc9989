"""Settings by name: `paper`, what Huang et al. 2022 print for each task; `reference`, what their public code does."""

from pathlib import Path
from typing import Any, Literal

import yaml

from spd_ray.errors import UserError
from spd_ray.methods import filled

FOLDER = Path(__file__).parent
Preset = Literal["paper", "reference"]


def load_preset(name: Preset, task: str) -> dict[str, Any]:
    """The sections that preset `name` sets for `task`. Raises UserError for a task that the paper does not have."""
    paper = _read("paper")
    if task not in paper["tasks"]:
        raise UserError(f"preset: {name}: the paper has no task {task!r}; it has {', '.join(paper['tasks'])}")
    settings = filled(paper["tasks"][task], paper["settings"])
    return filled(_read(name)["settings"], settings) if name == "reference" else settings


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
