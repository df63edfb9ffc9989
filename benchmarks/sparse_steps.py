"""Training with sparse kernels beside training without: the `step` part of `python -m benchmarks.sparse`.

Ratios of times, from the same weights over the same batches under the same draws, in one process, in turn:
`stage3`: a step of Stage III at the final sparsity; `trial`: all steps of a short trial in the paper's proportions
(half of it Stage I, cubic pruning until its end); `plain_trial`: the same trial over the plain loop of
`benchmarks.step`. On one thread it is the processor's time that is compared: what else runs does not count.
"""

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from benchmarks.step import plain_steps, random_task, random_teacher, steps_of, unpruned_run
from spd_ray.config.method import MethodConfig
from spd_ray.model import surgery
from spd_ray.training.teacher import Teacher
from spd_ray.training.trainer import train_spd

SHAPES = {"small": (4, 256, 4), "minilm": (6, 384, 12)}  # layers, hidden size, heads
EXAMPLES = 512
EPOCH = EXAMPLES // 32  # steps
Ratios = dict[str, float]


def step_ratios(shape: str, lengths_of: str, sparsities: tuple[float, ...], epochs: int) -> dict[str, Ratios]:
    """{sparsity: {"stage3": r, "trial": r, "plain_trial": r}}, trials being `epochs` of 16 steps long."""
    data = random_task(lengths_of, np.random.default_rng(0), EXAMPLES)
    teacher = random_teacher(SHAPES[shape], data)
    found = {}
    for sparsity in sparsities:
        alone = in_turn(stage3_loops(teacher, sparsity), EPOCH)
        times = in_turn(trial_loops(teacher, sparsity, epochs), epochs * EPOCH)
        found[str(sparsity)] = {
            "stage3": alone["without"] / alone["with"],
            "trial": times["without"] / times["with"],
            "plain_trial": times["plain"] / times["with"],
        }
        milliseconds = {f"stage3 {name}": value for name, value in alone.items()} | times
        print_row(f"{shape} {lengths_of} {sparsity:.0%}", milliseconds, found[str(sparsity)])
    return found


def stage3_loops(teacher: Teacher, sparsity: float) -> dict[str, Iterator[object]]:
    """Every layer the student's, pruned to `sparsity`."""
    loops: dict[str, Iterator[object]] = {}
    for name, kernels in (("with", "auto"), ("without", "never")):
        run = unpruned_run(teacher, MethodConfig(p0=1.0, batch_size=32, dropout=0.1), "fp32", 0, kernels)
        surgery.prune(run.model, sparsity)
        loops[name] = steps_of(run)
    return loops


def trial_loops(teacher: Teacher, sparsity: float, epochs: int) -> dict[str, Iterator[object]]:
    """A trial with kernels, one without, and the plain loop, whose time does not depend on the sparsity."""
    method = MethodConfig(
        p0=0.6, batch_size=32, dropout=0.1, target_sparsity=sparsity, total_epochs=epochs, stage1_epochs=epochs / 2,
        stage2_epochs=epochs / 6, pruning_events=10, eval_every_epochs=epochs, eval_train_examples=8,
    )  # fmt: skip
    loops: dict[str, Iterator[object]] = {"plain": plain_steps(teacher.model, teacher.data.train, method, "fp32", 0)}
    for name, kernels in (("with", "auto"), ("without", "never")):
        run = unpruned_run(teacher, method, "fp32", 0, kernels)
        loops[name] = (record for record in train_spd(run) if record.split == "batch")
    return loops


def in_turn(loops: Mapping[str, Iterator[object]], count: int) -> dict[str, float]:
    """Mean milliseconds of the next `count` steps of each loop; the first of each is not counted."""
    clock: Callable[[], float] = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    total = dict.fromkeys(loops, 0.0)
    for index in range(count):
        for name, loop in loops.items():
            begin = clock()
            next(loop)
            total[name] += (clock() - begin) * (index > 0)
    return {name: 1e3 * seconds / (count - 1) for name, seconds in total.items()}


def print_row(name: str, milliseconds: Mapping[str, float], ratios: Ratios) -> None:
    """One line: milliseconds a step, and the ratios."""
    cells = [f"{column} {value:.1f}" for column, value in milliseconds.items()]
    found = [f"{column} {value:.2f}" for column, value in ratios.items()]
    print(f"{name}: ms a step: {', '.join(cells)}; ratios: {', '.join(found)}", flush=True)
