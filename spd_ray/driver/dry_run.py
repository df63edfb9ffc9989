"""`--dry-run`: what a sweep would do and cost, from two real steps of its first trial without its teacher.

Why so: docs/decisions.md #a-dry-run-measures-no-teacher.
"""

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spd_ray.base.errors import counted
from spd_ray.base.ray_cluster import capacity, leave_ray
from spd_ray.checks.cost import Cost, measure
from spd_ray.checks.room import describe_rank, first_room, in_words
from spd_ray.checks.untrained import Untrained
from spd_ray.config import auto
from spd_ray.config.methods import MethodCard
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.timeline import Timeline
from spd_ray.config.trial import TrialConfig
from spd_ray.driver.display import format_duration
from spd_ray.driver.first_checks import check_first
from spd_ray.driver.run import concurrent_trials, devices_line
from spd_ray.records import layout
from spd_ray.study.study import Draws, create_study
from spd_ray.trials.on_worker import Worker, run_on_worker


def dry_run(spec: SweepSpec, storage: str, address: str | None, console: Console) -> None:
    """Print the resolved space, the first trial's schedules and the cost; train two steps and no teacher, keep nothing.

    A worker takes the steps where a sweep's driver computes nothing, else this process. Raises UserError for what a
    sweep's preflight refuses.
    """
    began = time.monotonic()
    console.print(spec.to_yaml().rstrip(), highlight=False, markup=False)
    for name in spec.methods():
        explain_method(name, spec.card(name), console)
    untrained = check_first(spec, storage, address, console).untrained
    with ExitStack() as joined:
        joined.callback(leave_ray)
        have = capacity(address)
        on_gpus = auto.resolve(spec, {**have, "GPU": max(1.0, have["GPU"])})
        spec = auto.resolve(spec, have)
        worker = Worker.of(spec, address)
        if worker is None:
            joined.close()  # what is measured here has the machine to itself
        console.print(devices_line(spec, have), soft_wrap=True)
        console.print(describe_task(untrained), soft_wrap=True)
        values, config = first_trial(spec)
        timeline = Timeline.of(config.method, untrained.train_examples)
        console.rule(f"first trial: {', '.join(f'{name} {value}' for name, value in values.items())}")
        console.print(schedule_table(timeline))
        if worker is None:
            cost = measure(spec, config, untrained)
        else:
            resources = f"{counted(worker.cpus, 'CPU')} and {worker.gpus:g} GPUs"
            console.print(f"two steps on a worker of {resources}, when one is free")
            cost = run_on_worker(worker, measure, spec, config, untrained, worker.ranks)
    for record in cost.steps:
        console.print(f"step {record.step}: loss {record.value:.4f}, draw {record.draw}, {record.tokens} tokens")
    console.print(describe_footprint(cost, spec), soft_wrap=True)
    if on_gpus.resources.worker_gpus:
        takes = describe_rank(first_room(on_gpus, untrained))
        console.print(f"calculated for {auto.describe(on_gpus)}: {takes}", soft_wrap=True)
    for line in describe_cost(spec, timeline, untrained, cost, concurrent_trials(spec, have)):
        console.print(line, soft_wrap=True)
    console.print(f"dry run: {time.monotonic() - began:.0f} s; nothing was kept")


def first_trial(spec: SweepSpec) -> tuple[dict[str, Any], TrialConfig]:
    """The point that the study draws first, and its trial under the first seed."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = Draws(create_study(spec, layout.study_journal(Path(folder))), spec).ask()
    assert drawn is not None  # a space without a possible point is not loaded
    _, values = drawn
    return values, spec.trial_config(values, spec.study.seeds[0])


def describe_task(untrained: Untrained) -> str:
    """How many examples there are to train and to choose on, and how long."""
    sample = untrained.sample
    lengths, longest = sample.train.lengths, int(untrained.extremes.lengths.max())
    return (
        f"task {sample.task.name}: {untrained.train_examples:,} training and {untrained.chooser_examples:,} "
        f"{sample.selection} examples of {float(lengths.mean()):.0f} tokens on average, {longest} at most"
    )


def describe_cost(spec: SweepSpec, timeline: Timeline, untrained: Untrained, cost: Cost, at_once: int) -> Iterator[str]:
    """Seconds as they were measured, and the hours that follow from them."""
    if not untrained.is_pretrained:
        yield f"{spec.model.name} is not pretrained on this machine yet: minutes, once"
    teacher, rates = spec.teacher, len(spec.teacher.learning_rates)
    steps = teacher.epochs * math.ceil(untrained.train_examples / teacher.batch_size)
    seconds = rates * steps * cost.teacher_step
    yield (
        f"teacher: {teacher.path or teacher.name}, yours, is not trained"
        if teacher.is_given
        else f"teacher: {rates} learning rate{'s' * (rates > 1)} x {steps:,} steps, "
        f"{cost.teacher_step * 1000:.0f} ms each: {format_duration(seconds)}, once"
    )
    if cost.recording:
        takes = format_duration(cost.recording)
        yield f"the teacher's outputs are recorded once, into {cost.place}: {takes} and writing"
    trial, count = cost.trial(timeline), spec.total_configurations()
    trials = count * len(spec.study.seeds)
    yield (
        f"a trial like this one: {timeline.t3:,} steps, {cost.step * 1000:.0f} ms each where all layers are computed "
        f"and {cost.share:.0%} of that on average, and {len(timeline.eval_steps)} evaluations of "
        f"{format_duration(cost.evaluation)}: {format_duration(trial)}"
    )
    yield (
        f"{counted(trials, 'trial')} ({counted(count, 'configuration')} x {counted(len(spec.study.seeds), 'seed')}), "
        f"{at_once} at once: "
        f"{format_duration(math.ceil(trials / at_once) * trial)}, "
        f"{trials * spec.resources.workers * trial / 3600:.2f} device hours; early stopping takes less, trials that "
        f"share a machine's memory take longer"
    )


def describe_footprint(cost: Cost, spec: SweepSpec) -> str:
    """Memory of a rank and space on disk, and the largest memory of the process that took the two steps."""
    one, levels, kept = cost.footprint, 1 + len(spec.method.ladder), spec.checkpoints.keep
    running = 2 * one.state + levels * one.student  # a state is written before the older one goes
    return (
        f"memory of a rank: {in_words(one.engine)} for weights, gradients and optimizer, {in_words(one.state)} for a "
        f"copy of its state; with two steps the process took {in_words(cost.peak_memory)} at its largest\n"
        f"the teacher's outputs: {in_words(one.outputs)} in {cost.place}\n"
        f"disk: {in_words(running)} for each trial at once (two states, its best student), "
        f"{in_words(kept * levels * one.student)} for the {kept} students that are kept"
    )


def explain_method(name: str, method: MethodCard, console: Console) -> None:
    """Print which parts the method composes, where each comes from, and what it leaves out."""
    console.rule(f"method {name}")
    console.print(method.source, highlight=False)
    table = Table("part", "what, and where from", box=None, show_header=False, pad_edge=False)
    for part, text in method.parts.items():
        table.add_row(part, text)
    table.add_row("left out", method.leaves_out)
    dimensions = ", ".join([*method.search, *method.tunes]) or "none of its own"
    table.add_row("dimensions", dimensions)
    console.print(table, highlight=False)


def schedule_table(timeline: Timeline) -> Table:
    """The three schedules at the steps where something changes."""
    marks = {0: "Stage I begins", timeline.t1: "Stage II begins", timeline.t2: "Stage III begins"}
    marks[timeline.t3 - 1] = "last step"
    if timeline.pruning_events:
        also = marks.get(timeline.pruning_end_step)
        marks[timeline.pruning_end_step] = f"pruning ends, {also}" if also else "pruning ends"
    table = Table("step", "epoch", "p", "pruning rate", "learning rate", "")
    for step in sorted({*marks, *(event.step for event in timeline.pruning_events)}):
        table.add_row(
            str(step),
            f"{step / timeline.steps_per_epoch:.2f}",
            f"{timeline.replacing_probability(step):.3f}",
            f"{timeline.pruning_rate(step):.4f}",
            f"{timeline.learning_rate(step):.3g}",
            marks.get(step, "pruning event"),
        )
    return table
