"""Bytes a trained parameter by precision, ZeRO stage and ranks: `python -m benchmarks.memory`. Linux.

Each case is a trial's engine over a BERT of bert-base's width, of random weights, in processes of its own (one a rank,
gloo): the largest resident memory over two steps on a tiny batch, less that before the engine. What two depths differ
by, divided by what their trained parameters differ by, leaves out what does not grow with the model. glibc's allocator
is told to give freed memory back: left to itself it keeps up to 7 bytes a parameter more. Beside it the calculation of
`spd_ray/trials/footprint.py`, in bytes a trained parameter over N ranks.
"""

import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.step import random_task, random_teacher
from spd_ray.base.network import free_port
from spd_ray.config.method import MethodConfig
from spd_ray.config.trial import EngineConfig, ModelConfig, TaskConfig, TeacherConfig, TrialConfig
from spd_ray.engine import engine as engines
from spd_ray.model.surgery import encoder_layers
from spd_ray.training.trainer import batches_from, prepare, training_step
from spd_ray.trials.footprint import bytes_a_parameter

PRECISIONS = ("fp32", "bf16", "fp16")
RANKS = 2
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "500000", "MALLOC_ARENA_MAX": "1"}
DEPTHS = (1, 4)  # layers of bert-base's width, of 7 million trained parameters each


def peak_bytes() -> int:
    """The largest resident size since it was started anew."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure(layers: int, precision: str, stage: int, rank: int, ranks: int, port: int) -> tuple[int, int]:
    """Bytes that the engine takes in this process, which is one rank; trained parameters."""
    torch.set_num_threads(1)
    engines.join_group(rank, ranks, engines.LOOPBACK, port, engines.LOOPBACK)
    teacher = random_teacher((layers, 768, 12), random_task("cola", np.random.default_rng(0)))
    config = TrialConfig(
        task=TaskConfig(name="rte"), model=ModelConfig(), teacher=TeacherConfig(),
        method=MethodConfig(p0=1.0, batch_size=2, objective={"hidden": 0, "attention": 0, "prediction": 0, "task": 1}),
        engine=EngineConfig.model_validate({"precision": precision, "zero_stage": stage}),
    )  # fmt: skip
    trained = sum(p.numel() for p in encoder_layers(teacher.model).parameters())
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the largest resident size starts anew
    before = peak_bytes()
    run = prepare(config, teacher)
    for step, parts in itertools.islice(enumerate(batches_from(run, 0)), 2):
        training_step(run, step, parts, 0.0)
    return peak_bytes() - before, trained


def measured(layers: int, precision: str, stage: int, ranks: int) -> tuple[float, int]:
    """`measure` in `ranks` fresh processes; the mean over them."""
    case = (layers, precision, stage, ranks, free_port())
    words = [sys.executable, "-m", "benchmarks.memory", "--case", *map(str, case)]
    others = [
        subprocess.Popen(
            [*words, str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | GIVES_BACK,
        )
        for rank in range(ranks)
    ]
    found = [[int(number) for number in other.communicate()[0].splitlines()[-1].split()] for other in others]
    return sum(taken for taken, _ in found) / ranks, found[0][1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precisions", choices=PRECISIONS, nargs="+", default=PRECISIONS)
    parser.add_argument("--case", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        layers, precision, stage, ranks, port, rank = options.case
        print(*measure(int(layers), precision, int(stage), int(rank), int(ranks), int(port)))
        return
    table = Table(
        "precision", "ZeRO", "measured", "calculated", title="largest bytes a trained parameter, a rank of two"
    )
    for precision, stage in itertools.product(options.precisions, (0, 1, 2, 3)):
        (less, fewer), (more, many) = (measured(layers, precision, stage, RANKS) for layers in DEPTHS)
        engine = EngineConfig.model_validate({"precision": precision, "zero_stage": stage})
        least, most = (parameters * bytes_a_parameter(parameters, engine, RANKS) for parameters in (fewer, many))
        figures = ((found / (many - fewer)) for found in (more - less, most - least))
        table.add_row(precision, str(stage), *(f"{figure:.1f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
