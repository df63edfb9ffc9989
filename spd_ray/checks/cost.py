"""What training takes, measured in seconds where this is called: two steps of the untrained classifier, and no teacher.

The student and the teacher are both the new classifier: times do not depend on what weights are. Batches are those of
the sample whose cost is in the middle. Shapes: K layers.

Why so: docs/decisions.md #a-dry-run-measures-no-teacher.
"""

import itertools
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from spd_ray.base.progress import quiet_transformers
from spd_ray.checks.room import room_of
from spd_ray.checks.untrained import Untrained
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.timeline import Timeline
from spd_ray.config.trial import TrialConfig
from spd_ray.data.batches import EncodedSplit, epoch_batches
from spd_ray.engine import engine
from spd_ray.records.provenance import TEACHER_FILES
from spd_ray.records.schema import StepRecord
from spd_ray.training.fine_tuning import fine_tune
from spd_ray.training.teacher import Teacher
from spd_ray.training.trainer import SpdRun, evaluate_student, prepare, train_spd
from spd_ray.trials.footprint import Footprint, footprint

STEPS_RUN = 2  # the first also warms up
EVALUATED = 32  # examples in each of two batches


class Cost(NamedTuple):
    """Seconds, but for the steps themselves, the footprint, the memory and a place."""

    steps: list[StepRecord]
    step: float  # in which every student layer is computed
    share: float  # of that, what a trial's steps take on average: leading teacher layers are known
    evaluation: float
    recording: float  # the teacher's outputs, once
    teacher_step: float
    footprint: Footprint
    peak_memory: int  # bytes of the process, at its largest over the steps
    place: str  # of the recorded outputs, in words

    def trial(self, timeline: Timeline) -> float:
        """Steps and evaluations of one trial, and the gradients that its pruning events take."""
        at_events = len(timeline.pruning_events) * timeline.method.gradients_of_an_event
        return (timeline.t3 * self.share + at_events) * self.step + len(timeline.eval_steps) * self.evaluation


def measure(spec: SweepSpec, config: TrialConfig, untrained: Untrained, teacher_ranks: int = 1) -> Cost:
    """Train and evaluate for two steps, each rank's part of a batch, with the threads that a worker has."""
    ranks, method = spec.resources.workers, config.method
    student = method.student.model_copy(update={"init": "teacher"})  # the same here; the miniature's may not be there
    own = method.model_copy(
        update={
            "p0": 1.0,
            "student": student,
            "batch_size": math.ceil(method.batch_size / ranks),
            "eval_every_epochs": 1.0,  # steps are told at evaluations
        }
    )
    data = replace(
        untrained.sample,
        train=middle_batches(untrained.sample.train, own.batch_size),
        dev=middle_batches(untrained.sample.dev, EVALUATED),
        holdout=None if untrained.sample.holdout is None else middle_batches(untrained.sample.holdout, EVALUATED),
        fingerprint="dry run",
    )
    content = {TEACHER_FILES: "untrained"}
    teacher = Teacher(untrained.model, untrained.tokenizer, data, 0.0, 0.0, 0.0, 0.0, {}, Path("untrained"), content)
    with threads(spec.resources.cpus_per_worker):
        run = prepare(config.model_copy(update={"method": own}), teacher)
        steps = list(itertools.islice((record for record in train_spd(run) if record.split == "batch"), STEPS_RUN))
        forward = _seconds_of_a_token(run)
        takes = footprint(run, ranks)
        peak_memory = engine.peak_memory_bytes()
        engine.release(run.engine)
    timeline = Timeline.of(method, untrained.train_examples)
    room = room_of(config, untrained, timeline.t3, ranks, gpu=spec.resources.worker_gpus > 0)
    sample, scored = untrained.sample, min(method.eval_train_examples, untrained.train_examples)
    of_train, of_chooser = (float(split.lengths.mean()) for split in (sample.train, sample.chooser))
    return Cost(
        steps=steps,
        step=steps[-1].seconds * mean_over_middle(sample.train, own.batch_size),
        share=computed_share(timeline, len(run.layers)),
        evaluation=forward * (untrained.chooser_examples * of_chooser + scored * of_train) / ranks,
        recording=forward * untrained.train_examples * of_train if room.recorded else 0.0,
        teacher_step=teacher_step(spec, untrained, teacher_ranks),
        footprint=takes._replace(outputs=room.recorded),
        peak_memory=peak_memory,
        place=room.place,
    )


def middle_batches(split: EncodedSplit, batch_size: int) -> EncodedSplit:
    """The examples of two batches of an epoch, those whose cost is in the middle."""
    batches = _batches_by_cost(split, batch_size)
    middle = len(batches) // 2
    return split.subset(np.concatenate(batches[max(0, middle - 1) : middle + 1]))


def mean_over_middle(split: EncodedSplit, batch_size: int) -> float:
    """The mean cost of an epoch's batches over that of the two in the middle: a few long texts count."""
    costs = [_padded_tokens(split, batch) for batch in _batches_by_cost(split, batch_size)]
    middle = len(costs) // 2
    return float(np.mean(costs) / np.mean(costs[max(0, middle - 1) : middle + 1]))


def _batches_by_cost(split: EncodedSplit, batch_size: int) -> list[np.ndarray]:
    batches = epoch_batches(split.lengths, batch_size, seed=0, epoch=0)
    return sorted(batches, key=lambda batch: _padded_tokens(split, batch))


def _padded_tokens(split: EncodedSplit, batch: np.ndarray) -> int:
    return len(batch) * int(split.lengths[batch].max())


def _seconds_of_a_token(run: SpdRun) -> float:
    """Of evaluation, padding among them."""
    scored = {record.split: record.seconds for record in evaluate_student(run, 1, 0.0)}
    splits = (run.train_sample, run.teacher.data.chooser)
    return sum(scored.values()) / sum(_padded_tokens(split, np.arange(len(split))) for split in splits)


def computed_share(timeline: Timeline, layers: int) -> float:
    """The mean share of the K student layers that a trial's steps compute: those from the first grafted one on.

    Where none is drawn, all are computed once. With p = 1/2 and K = 2: 2/2 with probability 1/2, 1/2 with 1/4, and
    2/2 with 1/4, together 7/8.
    """
    method = timeline.method
    if not method.grafts or method.clip_over == "all" or method.teacher_dropout > 0:
        return 1.0
    p = np.array([timeline.replacing_probability(step) for step in range(timeline.t3)])
    first = np.arange(layers)[:, None]
    shares = (layers - first) / layers * p * (1 - p) ** first
    return float((shares.sum(axis=0) + (1 - p) ** layers).mean())


def teacher_step(spec: SweepSpec, untrained: Untrained, ranks: int = 1) -> float:
    """Seconds of one step of fine-tuning, a rank's part of it: the second of two; 0 where the teacher is the user's."""
    if spec.teacher.is_given:
        return 0.0
    config = spec.teacher.model_copy(update={"epochs": 1, "batch_size": math.ceil(spec.teacher.batch_size / ranks)})
    data = replace(untrained.sample, train=middle_batches(untrained.sample.train, config.batch_size))
    ends: list[float] = []

    def advance(steps: int = 1, note: str = "") -> None:
        ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory(prefix="spd-") as folder:  # the model's own may be on the driver's machine alone
        with quiet_transformers():
            untrained.model.save_pretrained(folder)
        began = time.perf_counter()
        fine_tune(Path(folder), data, config, config.learning_rates[0], advance)
    seconds = ends[1] - ends[0] if len(ends) > 1 else ends[0] - began
    return seconds * mean_over_middle(untrained.sample.train, config.batch_size)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads of torch in the block, as a trial's worker has, but no more than there are cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(count, os.cpu_count() or count))
    try:
        yield
    finally:
        torch.set_num_threads(before)
