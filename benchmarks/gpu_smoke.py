"""What only a GPU can show, in about ten minutes, one table last: `python -m benchmarks.gpu_smoke [--small]`.

Random weights and tokens in the shape of bert-base, RTE's lengths and number of examples. Each check says what it
measured; one that fails says why, the others go on, and the exit code is 1. Without a GPU the checks that need none run
on the CPU, and the table names those that were left out; `--small` takes a miniature, so that this file can be tested
anywhere.
"""

import argparse
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile

from benchmarks.step import (
    SHAPES,
    ceiling,
    compare,
    loops,
    losses_and_flops,
    our_run,
    random_task,
    random_teacher,
    seconds_a_step,
    steps_of,
    unpruned_run,
)
from spd_ray.base.ray_cluster import join_ray, leave_ray
from spd_ray.config.method import MethodConfig
from spd_ray.engine import engine as engines
from spd_ray.engine.engine_state import copy_state, load_state
from spd_ray.model import compiled
from spd_ray.training.taken_steps import TakenStep
from spd_ray.training.teacher import Teacher
from spd_ray.training.teacher_outputs import recorded_part
from spd_ray.training.trainer import SpdRun, batches_from, train_spd, training_step

OVERFLOWING = 32  # a first loss scale of 2^32
TRIALS_IN_A_WORKER = 5
WARM_UP = 8  # steps, with draws of all kinds among them
MOST_GRAPHS = 4  # the student's layers and the teacher's, each with a gradient of its input and without
MIB = 2**20


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    shape: tuple[int, int, int]  # layers, hidden size, heads
    lengths: str  # of which task
    examples: int
    block: int  # steps
    blocks: int
    method: MethodConfig
    backend: str  # of torch.compile


PAPER = MethodConfig(p0=0.6, batch_size=32, dropout=0.1)
FULL = Scale(SHAPES["bert-base"], "rte", 2490, 4, 6, PAPER, "inductor")
SMALL_METHOD = {"batch_size": 8, "total_epochs": 3, "stage1_epochs": 1, "stage2_epochs": 1}
SMALL = Scale((2, 32, 2), "cola", 64, 1, 2, PAPER.model_copy(update=SMALL_METHOD), "aot_eager")


@dataclass(frozen=True)
class Check:
    """One line of the table; `run` returns what was measured and raises AssertionError for what is wrong."""

    name: str
    run: Callable[[], str]
    needs_gpu: bool = False


def take(run: SpdRun, count: int) -> list[TakenStep]:
    """The next `count` steps of a run."""
    steps = zip(range(run.step, run.step + count), batches_from(run, run.step), strict=False)
    return [training_step(run, step, parts, 0.0) for step, parts in steps]


def first_steps(teacher: Teacher, method: MethodConfig, precision: str, zero_stage: int) -> str:
    """Three steps: all tensors lie on the device, all losses are finite."""
    run = unpruned_run(teacher, method, precision, 0, zero_stage=zero_stage)
    try:
        tensors = [*run.model.named_parameters(), *run.model.named_buffers()]
        elsewhere = [name for name, tensor in tensors if tensor.device.type != engines.device().type]
        assert not elsewhere, f"not on the device: {elsewhere}"
        losses = [float(step.losses[0]) for step in take(run, 3)]
        assert all(map(math.isfinite, losses)), losses
        return f"losses {', '.join(f'{loss:.4f}' for loss in losses)}"
    finally:
        engines.release(run.engine)


def resumed(teacher: Teacher, method: MethodConfig, precision: str) -> str:
    """20 steps against 10, a state, and 10 in another run: bit for bit; a state's parts in seconds."""
    through, before, after = (unpruned_run(teacher, method, precision, 0) for _ in range(3))
    take(through, 20)
    take(before, 10)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        state = copy_state(before.engine)
        assert state is not None
        copied = time.perf_counter()
        state.write(Path(folder))
        written = time.perf_counter()
        load_state(after.engine, Path(folder))
        loaded = time.perf_counter()
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    take(after, 10)
    one, other = copy_state(through.engine), copy_state(after.engine)
    assert one is not None
    assert other is not None
    differing = [name for name, tensor in one.tensors.items() if not torch.equal(tensor, other.tensors[name])]
    assert not differing, f"not bit-equal: {differing[:3]}"
    for run in (through, before, after):
        engines.release(run.engine)
    seconds = f"copied in {copied - started:.2f} s, written in {written - copied:.2f}, loaded in {loaded - written:.2f}"
    return f"bit-equal; {size / MIB:.1f} MiB {seconds}"


def overflow(teacher: Teacher, method: MethodConfig) -> str:
    """A loss scale that is too large is halved until the step can be taken."""
    run = unpruned_run(teacher, method, "fp16", 0, initial_scale_power=OVERFLOWING)
    (step,) = take(run, 1)
    scale = engines.loss_scale(run.engine)
    engines.release(run.engine)
    assert step.known["skipped"] > 0, "nothing overflowed"
    assert math.isfinite(float(step.losses[0]))
    return f"{step.known['skipped']} attempts skipped, loss scale 2^{math.log2(scale):.0f}"


def recorded(teacher: Teacher, method: MethodConfig) -> str:
    """Whether the teacher's outputs fit, and what a step takes with them and without."""
    seconds = {}
    for padding in ("longest", "max_length"):
        run = our_run(teacher, method, "fp16", 0, padding=padding)
        part = recorded_part(run.teacher_outputs)
        kind = f"{part.count} of {len(teacher.data.train)} recorded" if part else "live"
        steps = steps_of(run)
        seconds_a_step(steps, 3)
        seconds[f"{kind}, {padding}"] = seconds_a_step(steps, 8)
        engines.release(run.engine)
    return "; ".join(f"{name}: {1e3 * value:.1f} ms a step" for name, value in seconds.items())


def synchronizations(teacher: Teacher, method: MethodConfig, precision: str) -> str:
    """Times that a step waits for the device, by CUDA's own warning: one in fp16, none in bf16."""
    run = our_run(teacher, method, precision, 0)
    take(run, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        take(run, 5)
        torch.cuda.set_sync_debug_mode("default")
    engines.release(run.engine)
    waits = sum("synchroniz" in str(one.message) for one in caught) / 5
    assert waits <= (2 if precision == "fp16" else 0), f"{waits} a step"
    return f"{waits:g} a step"


def kernels(teacher: Teacher, method: MethodConfig, precision: str) -> str:
    """Kernels of a step, and the share of its time in which the device computes none."""
    run = our_run(teacher, method, precision, 0)
    take(run, 3)
    torch.cuda.synchronize()
    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        take(run, 5)
        torch.cuda.synchronize()
    wall = time.perf_counter() - started
    engines.release(run.engine)
    events = [one for one in profiler.events() if one.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(one.device_time for one in events) / 1e6
    return f"{len(events) / 5:.0f} kernels a step, {1 - min(busy / wall, 1.0):.0%} idle (profiled)"


def speed(teacher: Teacher, scale: Scale, precision: str) -> str:
    """A step beside the plain loop in the same precision, and beside the device's ceiling."""
    pair = loops(teacher, precision, precision, scale.method)
    plain, ours = (statistics.mean(times) for times in compare(pair, scale.block, scale.blocks))
    _, flops = losses_and_flops(pair[1], scale.block)
    share = flops / ours / ceiling(precision)
    return f"{1e3 * ours:.1f} ms, plain {1e3 * plain:.1f}: {plain / ours:.2f} times; {share:.0%} of the ceiling"


def tf32(teacher: Teacher, scale: Scale) -> str:
    """An fp32 step whose products are TF32."""
    run = our_run(teacher, scale.method, "fp32", 0, tf32=True)
    steps = steps_of(run)
    seconds_a_step(steps, scale.block)
    seconds = seconds_a_step(steps, scale.block * scale.blocks)
    engines.release(run.engine)
    return f"{1e3 * seconds:.1f} ms a step"


def compiled_layers(teacher: Teacher, scale: Scale) -> str:
    """An fp16 step with compiled layers beside one without: all widths and draws take a few graphs."""
    teacher = random_teacher(scale.shape, teacher.data)  # the plain loop has left hooks in the other's layers
    counters.clear()
    with mock.patch.object(compiled, "BACKEND", scale.backend):
        runs = [our_run(teacher, scale.method, "fp16", 0, compile_layers=on) for on in (False, True)]
    pair = [steps_of(run) for run in runs]
    started = time.perf_counter()
    seconds_a_step(pair[1], WARM_UP)
    compiling = time.perf_counter() - started
    plain, ours = (statistics.mean(times) for times in compare(pair, scale.block, scale.blocks))
    graphs = counters["stats"]["unique_graphs"]
    for run in runs:
        engines.release(run.engine)
    assert graphs <= MOST_GRAPHS, f"{graphs} graphs"
    times = f"{1e3 * ours:.1f} ms, without {1e3 * plain:.1f}: {plain / ours:.2f} times"
    return f"{times}; {graphs} graphs, first {WARM_UP} steps in {compiling:.0f} s"


def memory_after_trials(teacher: Teacher, method: MethodConfig) -> str:
    """What a worker's trials leave on the device: no more after the last than after the first."""
    left = []
    for seed in range(TRIALS_IN_A_WORKER):
        run = our_run(teacher, method, "fp16", seed)
        take(run, 3)
        engines.release(run.engine)
        del run
        engines.collect_memory()
        left.append((torch.cuda.memory_allocated() / MIB, torch.cuda.memory_reserved() / MIB))
    assert left[-1][0] <= left[0][0] + 1, f"allocated after each: {[f'{one:.0f}' for one, _ in left]} MiB"
    return f"{left[-1][0]:.0f} MiB allocated, {left[-1][1]:.0f} reserved after {TRIALS_IN_A_WORKER}"


def whole_trial(teacher: Teacher, method: MethodConfig) -> str:
    """Algorithm 1 from its first step to its last, with its evaluations (of 8 dev examples); nothing is written."""
    run = unpruned_run(teacher, method, "fp16", 0)
    started = time.perf_counter()
    records = list(train_spd(run))
    seconds, steps = time.perf_counter() - started, run.step
    engines.release(run.engine)
    assert steps == run.timeline.t3
    assert math.isfinite(records[-1].value)
    return f"{steps} steps in {seconds:.1f} s, {1e3 * seconds / steps:.1f} ms each with evaluations"


def devices_of_workers() -> str:
    """Ray's workers with no GPU, a quarter of one, and one: each sees what it was given."""
    import ray

    def seen() -> tuple[str, int]:
        return os.environ.get("CUDA_VISIBLE_DEVICES", ""), torch.cuda.device_count()

    join_ray(None, "ERROR")
    try:
        found = {share: ray.get(ray.remote(num_gpus=share)(seen).remote()) for share in (0, 0.25, 1)}
    finally:
        leave_ray()
    counts = {share: count for share, (_, count) in found.items()}
    assert counts == {0: 0, 0.25: 1, 1: 1}, found
    return ", ".join(f"{share:g}: {visible or 'none'}" for share, (visible, _) in found.items())


def all_checks(scale: Scale) -> Iterator[Check]:
    """The checks, in the order in which they are made."""
    teacher = random_teacher(scale.shape, random_task(scale.lengths, np.random.default_rng(0), scale.examples))
    method = scale.method
    for precision in ("fp32", "bf16", "fp16"):
        for stage in range(4):
            yield Check(f"{precision}, ZeRO {stage}", partial(first_steps, teacher, method, precision, stage))
    for precision in ("fp32", "fp16"):
        yield Check(f"resumed, {precision}", partial(resumed, teacher, method, precision))
    yield Check("overflow, fp16", partial(overflow, teacher, method))
    yield Check("teacher's outputs, fp16", partial(recorded, teacher, method))
    for precision in ("fp16", "bf16"):
        yield Check(f"waits, {precision}", partial(synchronizations, teacher, method, precision), needs_gpu=True)
    yield Check("kernels, fp16", partial(kernels, teacher, method, "fp16"), needs_gpu=True)
    for precision in ("fp16", "bf16", "fp32"):
        yield Check(f"step, {precision}", partial(speed, teacher, scale, precision))
    yield Check("step, fp16, compiled layers", partial(compiled_layers, teacher, scale))
    yield Check("step, fp32 with TF32", partial(tf32, teacher, scale), needs_gpu=True)
    yield Check("memory of trials", partial(memory_after_trials, teacher, method), needs_gpu=True)
    yield Check("a whole trial, fp16", partial(whole_trial, teacher, method))
    yield Check("workers' devices", devices_of_workers, needs_gpu=True)


def main(arguments: list[str] | None = None) -> int:
    """Make the checks and print the table. Returns 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_smoke", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a miniature in the place of bert-base")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", FutureWarning)  # of torch, about calls of DeepSpeed's
    on_gpu = torch.cuda.is_available()
    where = torch.cuda.get_device_name() if on_gpu else "no GPU"
    table = Table("check", "", "seconds", "measured", title=f"{where}, torch {torch.__version__}")
    failed = False
    for check in all_checks(SMALL if options.small else FULL):
        started = time.perf_counter()
        if check.needs_gpu and not on_gpu:
            verdict, text = "left out", "needs a GPU"
        else:
            try:
                verdict, text = "ok", check.run()
            except Exception as error:  # the table says it, and the other checks go on
                verdict, text, failed = "FAILED", f"{type(error).__name__}: {error}", True
        table.add_row(check.name, verdict, f"{time.perf_counter() - started:.1f}", text)
    Console(width=150).print(table)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
