"""Training with sparse kernels beside training without: the `step` part of `python -m benchmarks.sparse`.

Ratios of times, from the same weights over the same batches under the same draws, in one process, in turn:
`stage3`: a step of Stage III at the final sparsity; `trial`: all steps of a short trial in the paper's proportions
(half of it Stage I, cubic pruning until its end) but those in which weights are pruned and the kernels' index is built,
for they are 10 of 48 here, and 11 of some thousand in a real trial; `plain_trial`: the same trial over the plain loop
of `benchmarks.step`. On one thread it is the processor's time that is compared: what else runs does not count.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from statistics import fmean

import numpy as np
import torch

from benchmarks.step import plain_steps, random_task, random_teacher, steps_of, unpruned_run
from spd_ray.config.method import MethodConfig
from spd_ray.config.timeline import Timeline
from spd_ray.model import surgery
from spd_ray.training.taken_steps import TakenStep
from spd_ray.training.teacher import Teacher
from spd_ray.training.trainer import SpdRun, batches_from, student_losses, training_step

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
        alone = in_turn(stage3_loops(teacher, sparsity), range(EPOCH), {0})
        method = trial_method(sparsity, epochs)
        timeline = Timeline.of(method, EXAMPLES)
        events = {event.step for event in timeline.pruning_events}
        times = in_turn(trial_loops(teacher, method), range(timeline.t3), {0} | events)
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


def trial_method(sparsity: float, epochs: int) -> MethodConfig:
    """A short trial in the paper's proportions."""
    return MethodConfig(
        p0=0.6, batch_size=32, dropout=0.1, target_sparsity=sparsity, total_epochs=epochs, stage1_epochs=epochs / 2,
        stage2_epochs=epochs / 6, pruning_events=10, eval_every_epochs=epochs, eval_train_examples=8,
    )  # fmt: skip


def trial_loops(teacher: Teacher, method: MethodConfig) -> dict[str, Iterator[object]]:
    """A trial with kernels, one without, and the plain loop, whose time does not depend on the sparsity."""
    loops: dict[str, Iterator[object]] = {"plain": plain_steps(teacher.model, teacher.data.train, method, "fp32", 0)}
    for name, kernels in (("with", "auto"), ("without", "never")):
        loops[name] = trial_steps(unpruned_run(teacher, method, "fp32", 0, kernels))
    return loops


def trial_steps(run: SpdRun) -> Iterator[TakenStep]:
    """The steps and pruning events of a trial, one step a `next`: `train_spd` itself hands them out by evaluations."""
    events = {event.step for event in run.timeline.pruning_events}
    for step, parts in zip(range(run.timeline.t3), batches_from(run, 0), strict=False):
        if step in events:
            run.pruner.event(step, partial(student_losses, run, step))
        yield training_step(run, step, parts, sparsity=0.0)


def in_turn(loops: Mapping[str, Iterator[object]], steps: range, untimed: Set[int]) -> dict[str, float]:
    """Mean milliseconds of the `steps` of each loop that are not `untimed`.

    The plain loop pads every batch to 128 tokens: a quarter of its steps tells its time.
    """
    clock: Callable[[], float] = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for step in steps:
        for name, loop in loops.items():
            if name != "plain" or step % 4 == 0:
                begin = clock()
                next(loop)
                if step not in untimed:
                    seconds[name].append(clock() - begin)
    return {name: 1e3 * fmean(of_loop) for name, of_loop in seconds.items()}


def print_row(name: str, milliseconds: Mapping[str, float], ratios: Ratios) -> None:
    """One line: milliseconds a step, and the ratios."""
    cells = [f"{column} {value:.1f}" for column, value in milliseconds.items()]
    found = [f"{column} {value:.2f}" for column, value in ratios.items()]
    print(f"{name}: ms a step: {', '.join(cells)}; ratios: {', '.join(found)}", flush=True)
