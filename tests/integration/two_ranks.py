"""Run by test_ranks.py in two processes at once: the losses of short trials, and of a resumed one, as JSON."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from spd_ray import engine
from spd_ray.config import EngineConfig, MethodConfig, ModelConfig, TaskConfig, TeacherConfig, TrialConfig
from spd_ray.surgery import extract_student, masked_linears
from spd_ray.teacher import load_teacher
from spd_ray.trainer import SpdRun, load_run, prepare, save_run, train_spd


def run_of(settings: dict[str, Any], precision: str, zero_stage: int) -> SpdRun:
    parts = [cls.model_validate(settings[name]) for name, cls in (
        ("task", TaskConfig), ("model", ModelConfig), ("teacher", TeacherConfig),
    )]  # fmt: skip
    config = TrialConfig(
        task=parts[0], model=parts[1], teacher=parts[2], method=MethodConfig.model_validate(settings["method"]),
        engine=EngineConfig.model_validate({"precision": precision, "zero_stage": zero_stage}), seed=3,
    )  # fmt: skip
    return prepare(config, load_teacher(*parts))


def curve(run: SpdRun, until: int | None = None) -> list[list[Any]]:
    """Step, split, value, draw and tokens of each record, up to the evaluation after `until` steps."""
    rows = []
    for record in train_spd(run):
        rows.append([record.step, record.split, record.value, record.draw, record.tokens])
        if until is not None and record.split == "dev" and record.metric != "loss" and record.step >= until:
            break
    return rows


def measure(settings: dict[str, Any], combinations: list[tuple[str, int]], folder: Path) -> dict[str, Any]:
    """For each precision and ZeRO stage: the curve, the curve with a stop in the middle, and what the student is."""
    found: dict[str, Any] = {}
    for precision, stage in combinations:
        name = f"{precision}-{stage}"
        run = run_of(settings, precision, stage)
        whole = curve(run)
        state = extract_student(run.model)
        masks = [int(linear.mask.sum()) for _, linear in masked_linears(run.model)]
        first = run_of(settings, precision, stage)
        part = curve(first, until=8)
        with engine.on_rank_0(lambda name=name: _folder(folder / name)) as shared:
            save_run(first, shared)
        second = run_of(settings, precision, stage)
        load_run(second, folder / name)
        found[name] = {
            "whole": whole,
            "resumed": part + curve(second),
            "masks": masks,
            "norm": float(sum(value.double().square().sum() for value in state.values())),
        }
    return found


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    path.mkdir(parents=True)
    yield path


if __name__ == "__main__":
    torch.set_num_threads(1)
    order = json.loads(Path(sys.argv[1]).read_text())
    engine.join_group(int(sys.argv[2]), 2, "127.0.0.1", order["port"], "127.0.0.1")
    result = measure(order["settings"], order["combinations"], Path(order["folder"]))
    (Path(order["folder"]) / f"rank-{sys.argv[2]}.json").write_text(json.dumps(result))
