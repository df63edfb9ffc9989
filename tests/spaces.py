"""Search spaces for tests, and what loads them and runs their studies."""

from pathlib import Path
from typing import Any

import optuna

from spd_ray.config.load import load_spec
from spd_ray.config.sweep import SweepSpec
from spd_ray.study.study import Draws

TASK = "task: {name: mini_entailment}\n"
SPACES = Path(__file__).parents[1] / "search_spaces"

MIXED = """
search:
  p0: {low: 0.1, high: 1.0, step: 0.1}
  stage1_epochs: {low: 10, high: 50}
  stage2_epochs: {low: 5, high: 20, step: 5}
  stage1_lr: {low: 1e-5, high: 1e-3, log: true}
  batch_size: {low: 8, high: 64, log: true}
  pruning_events: {low: 2, high: 12, step: 2}
  pruning_schedule: {choices: [cubic, linear]}
  objective.temperature: {low: 1, high: 4}
"""

CONDITIONAL = """
method: {total_epochs: 60, stage1_epochs: 30, stage2_epochs: 10}
search:
  total_epochs: {low: 20, high: 60}
  stage1_epochs: {low: 5, high: 50, step: 5}
  stage2_epochs: {choices: [4, 8, 30, 15]}
  pruning_end: {low: 0.5, high: 1.5}
"""


def load(folder: Path, text: str, *overrides: str) -> SweepSpec:
    file = folder / "x.yaml"
    file.write_text(text)
    return load_spec(file, overrides)


def run(study: optuna.Study, spec: SweepSpec, count: int) -> list[dict[str, Any]]:
    """Ask and tell `count` trials, all with one score."""
    points = []
    for _ in range(count):
        number, values = Draws(study, spec).ask()
        study.tell(number, 0.5)
        points.append(values)
    return points
