"""Steps whose losses are still on the device: read together at an evaluation, so that a step waits for nothing."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spd_ray.engine import engine as engines
from spd_ray.equations.loss_terms import column
from spd_ray.records.schema import StepRecord


class TrainingError(RuntimeError):
    """Training cannot go on; the message is the reason that the trial's record gives."""


@dataclass(frozen=True)
class TakenStep:
    """A training step that was applied, or is being applied by the device."""

    losses: Tensor  # this rank's part of the loss, then of each of its `terms`
    terms: tuple[str, ...]
    known: dict[str, Any]  # the fields of its record that the host knows


def read_steps(engine: Any, taken: Sequence[TakenStep]) -> list[StepRecord]:
    """The records of `taken`, by one copy from the device; the time that it waits is shared by the steps.

    Raises TrainingError where a loss is not finite, or where gradients were not while the losses are.
    """
    started = time.perf_counter()
    everything = torch.cat([*(one.losses for one in taken), engine.finite.float()[None]])
    *values, finite = engines.mean_over_ranks(everything).tolist()
    waited = (time.perf_counter() - started) / len(taken)
    records = []
    for one in taken:
        (total, *parts), values = values[: len(one.losses)], values[len(one.losses) :]
        record = StepRecord(value=total, **dict(zip(map(column, one.terms), parts, strict=True)), **one.known)
        if not math.isfinite(total):
            raise TrainingError(f"the loss is {total} at step {record.step} (learning rate {record.learning_rate:g})")
        records.append(replace(record, seconds=record.seconds + waited))
    if finite < 1.0:
        first, last = records[0].step, records[-1].step
        raise TrainingError(f"gradients are not finite between step {first} and step {last}")
    return records
