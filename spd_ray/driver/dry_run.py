"""`--dry-run`: what a sweep would do and cost, and two real steps of its first trial."""

import itertools
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from spd_ray.config.methods import load_method
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.timeline import Timeline
from spd_ray.records import layout
from spd_ray.study.study import Draws, create_study
from spd_ray.training import engine
from spd_ray.training.teacher import load_teacher
from spd_ray.training.trainer import prepare, train_spd
from spd_ray.trials.footprint import Footprint, footprint

STEPS_RUN = 2


def dry_run(spec: SweepSpec, console: Console) -> None:
    """Print the resolved space, the first trial's schedules and the cost; train two steps, keep nothing."""
    console.print(spec.to_yaml().rstrip(), highlight=False)
    for name in spec.methods():
        explain_method(name, console)
    teacher = load_teacher(spec.task, spec.model, spec.teacher)
    with tempfile.TemporaryDirectory() as folder:
        drawn = Draws(create_study(spec, layout.study_journal(Path(folder))), spec).ask()
    assert drawn is not None  # a space without a possible point is not loaded
    _, values = drawn
    config = spec.trial_config(values, spec.study.seeds[0])
    run = prepare(config, teacher)
    timeline = run.timeline
    console.rule(f"first trial: {', '.join(f'{name} {value}' for name, value in values.items())}")
    console.print(schedule_table(timeline))
    steps = list(itertools.islice((r for r in train_spd(run) if r.split == "batch"), STEPS_RUN))
    for record in steps:
        console.print(f"step {record.step}: loss {record.value:.4f}, draw {record.draw}, {record.tokens} tokens")
    console.print(describe_footprint(footprint(run, spec.resources.workers), spec), soft_wrap=True)
    engine.release(run.engine)

    trials = spec.total_configurations() * len(spec.study.seeds)
    seconds = steps[-1].seconds * timeline.t3
    console.print(
        f"{trials} trials ({spec.total_configurations()} configurations x {len(spec.study.seeds)} seeds) of about "
        f"{timeline.t3} steps: {trials * timeline.t3:,} steps; at {steps[-1].seconds * 1000:.0f} ms a step about "
        f"{seconds / 60:.1f} min a trial and {trials * seconds / 3600:.2f} device hours in all, evaluations not counted"
    )


def describe_footprint(one: Footprint, spec: SweepSpec) -> str:
    """Memory of a rank and space on disk, and the largest memory of this process over the two steps."""
    levels = 1 + len(spec.method.ladder)
    running = 2 * one.state + levels * one.student  # a state is written before the older one goes
    return (
        f"memory of a rank: {_size(one.engine)} for weights, gradients and optimizer, {_size(one.outputs)} for the "
        f"teacher's outputs; with two steps this process took {_size(engine.peak_memory_bytes())} at its largest\n"
        f"disk: {_size(running)} for each trial at once (two states, its best student), "
        f"{_size(spec.checkpoints.keep * levels * one.student)} for the {spec.checkpoints.keep} students that are kept"
    )


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def explain_method(name: str, console: Console) -> None:
    """Print which parts the method composes, where each comes from, and what it leaves out."""
    method = load_method(name)
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
