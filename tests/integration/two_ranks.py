"""Run by test_workers.py in two processes at once: the losses of short trials, and of a resumed one, as JSON."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from spd_ray.config.method import MethodConfig
from spd_ray.config.trial import EngineConfig, ModelConfig, TaskConfig, TeacherConfig, TrialConfig
from spd_ray.engine import engine
from spd_ray.engine.engine_state import copy_state, load_state, whole_parameters
from spd_ray.model.surgery import extract_student, masked_linears
from spd_ray.training.taken_steps import TakenStep
from spd_ray.training.teacher import load_teacher
from spd_ray.training.trainer import SpdRun, prepare, train_spd
from tests.taken_steps import train_steps

PARTS: dict[str, tuple[int, int, dict[str, Any]]] = {  # ZeRO stage, steps to one after an event (5, 10, 16), method
    "platon": (0, 6, {"pruning": "platon", "criterion": {"scope": "global"}}),
    "fisher": (1, 6, {"pruning": "fisher", "criterion": {"gradients": 3, "block_size": 4, "damping": 1e-4}}),
    "exploration": (2, 11, {"pruning_schedule": "constant", "regrowth": {"kind": "exploration", "gradients": 3}}),
}
BY_KERNELS = (("fp32", 0), ("fp32", 2))  # sparse kernels compute what is pruned


def run_of(settings: dict[str, Any], precision: str, zero_stage: int) -> SpdRun:
    parts = [cls.model_validate(settings[name]) for name, cls in (
        ("task", TaskConfig), ("model", ModelConfig), ("teacher", TeacherConfig),
    )]  # fmt: skip
    config = TrialConfig(
        task=parts[0], model=parts[1], teacher=parts[2], method=MethodConfig.model_validate(settings["method"]),
        engine=EngineConfig.model_validate({"precision": precision, "zero_stage": zero_stage}), seed=3,
    )  # fmt: skip
    run = prepare(config, load_teacher(*parts))
    by_kernels = (precision, zero_stage) in BY_KERNELS
    for _, linear in masked_linears(run.model):
        linear.sparse_from = 0.1 if by_kernels else None  # what was measured is another machine's tomorrow
    return run


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
        with whole_parameters(run.engine):
            student = extract_student(run.model)
        masks = [int(linear.mask.sum()) for _, linear in masked_linears(run.model)]
        first = run_of(settings, precision, stage)
        part = curve(first, until=8)
        state = folder / f"{name}-of-{engine.world_size()}"
        state.mkdir(parents=True, exist_ok=True)
        copied = copy_state(first.engine, keep=engine.rank() == 0)
        if copied is not None:
            copied.write(state)
        engine.gather_over_ranks(None)
        found[name] = {
            "whole": whole,
            "resumed": part + resumed(settings, precision, stage, state),
            "masks": masks,
            "norm": float(sum(value.double().square().sum() for value in student.values())),
        }
    return found


def events(settings: dict[str, Any]) -> dict[str, Any]:
    """For each of `PARTS`, shortly after a pruning event: what is kept, sums of statistics, the norm of the weights."""
    found = {}
    for name, (stage, steps, parts) in PARTS.items():
        run = run_of({**settings, "method": {**settings["method"], **parts}}, "fp32", stage)
        seen: list[float] = []

        def look(taken: TakenStep, run: SpdRun = run, seen: list[float] = seen) -> None:
            seen[:] = [float(s.sum()) for _, one in masked_linears(run.model) for s in one.statistics.values()]

        train_steps(run, steps, look)
        kept = torch.cat([linear.mask.flatten() for _, linear in masked_linears(run.model)])
        norm = float(
            sum((one.weight.detach() * one.mask).double().square().sum() for _, one in masked_linears(run.model))
        )
        found[name] = {"statistics": seen, "kept": kept.nonzero().flatten().tolist(), "norm": norm}
    return found


def resumed(settings: dict[str, Any], precision: str, stage: int, state: Path) -> list[list[Any]]:
    """The curve from `state` on."""
    run = run_of(settings, precision, stage)
    load_state(run.engine, state)
    return curve(run)


if __name__ == "__main__":
    torch.set_num_threads(1)
    order = json.loads(Path(sys.argv[1]).read_text())
    engine.join_group(int(sys.argv[2]), 2, "127.0.0.1", order["port"], "127.0.0.1")
    folder = Path(order["folder"])
    result = measure(order["settings"], order["combinations"], folder)
    for precision, stage in order["combinations"]:
        of_one = folder / f"{precision}-{stage}-of-1"
        result[f"{precision}-{stage}"]["grown"] = resumed(order["settings"], precision, stage, of_one)
    result["events"] = events(order["settings"])
    (folder / f"rank-{sys.argv[2]}.json").write_text(json.dumps(result))
