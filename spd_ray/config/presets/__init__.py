"""Settings by name: `paper`, what Huang et al. 2022 print for each task; `reference`, what their public code does.

A preset fills in what a search space does not say; the profile `mini` goes over what it says.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from spd_ray.base.errors import UserError
from spd_ray.config.methods import fill_in

EPOCHS = ("total_epochs", "stage1_epochs", "stage2_epochs", "eval_every_epochs")
RATES = ("stage1_lr", "stage23_lr")
FOLDER = Path(__file__).parent
Preset = Literal["paper", "reference"]


def load_preset(name: Preset, task: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that preset `name` sets for the section `task`: for one of the user's own what holds for all tasks.

    Raises UserError for another task that the paper does not have.
    """
    paper, task_name = _read("paper"), str(task.get("name"))
    if task_name not in paper["tasks"] and "text_columns" not in task:
        raise UserError(f"preset: {name}: the paper has no task {task_name!r}; it has {', '.join(paper['tasks'])}")
    settings = fill_in(paper["tasks"].get(task_name, {}), paper["settings"])
    return fill_in(_read(name)["settings"], settings) if name == "reference" else settings


def lay_mini(space: dict[str, Any]) -> dict[str, Any]:
    """The `space` (as YAML has it, presets filled in) with the miniature's task, model and budget in its place.

    Raises UserError for a task for which nothing of the miniature stands.
    """
    mini = _read("mini")
    task = str(space["task"].get("name"))
    if task not in mini["stands_for"]:
        raise UserError(
            f"--profile mini: nothing stands for the task {task!r}; it knows {', '.join(mini['stands_for'])}"
        )
    name = mini["stands_for"][task]
    own = dict(mini["tasks"][name])
    epochs_times = own.pop("epochs_times")

    def scale(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {part: inner if part == "log" else scale(key, inner) for part, inner in value.items()}
        if isinstance(value, list):
            return [scale(key, one) for one in value]
        times = epochs_times if key in EPOCHS else mini["rates_times"] if key in RATES else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(f"{value * times:.6g}") if times is not None and is_number else value

    def scale_section(section: dict[str, Any]) -> dict[str, Any]:
        return {key: scale(key, value) for key, value in section.items()}

    result = {**space, "rates_times": mini["rates_times"], "task": {"name": name}, "model": {}, "teacher": {}}
    result["method"] = scale_section(space.get("method", {}))
    result["search"] = scale_section(space.get("search", {}))
    result["warm_start"] = [scale_section(point) for point in space.get("warm_start", [])]
    result.pop("preset", None)
    student = space.get("method", {}).get("student")
    starts_pretrained = isinstance(student, dict) and student.get("init") == "pretrained"
    over = mini["fine_tuned"] if starts_pretrained else {}
    laid = fill_in(fill_in(fill_in(over, own), mini["common"]), result)
    if space.get("method", {}).get("stage23_lr", 0) is None:  # one rate in all stages: it is stage1_lr here, too
        laid["method"]["stage23_lr"] = None
    return laid


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
