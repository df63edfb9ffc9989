"""Signs of life: where a trial is between two evaluations, told to the driver by Ray's key-value store; steps counted.

A sign is lost with Ray, and nothing depends on it. What a trial says last goes there too, where its process is about to
end without an answer.

Why so: docs/decisions.md #signs-of-life, #a-rank-that-fails.
"""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from ray.experimental import internal_kv

from spd_ray.training.taken_steps import TakenStep

NAMESPACE = b"spd_ray"
SECONDS_BETWEEN_COUNTS = 1.0
SECONDS_BETWEEN_SIGNS = 5.0  # reading a loss waits for the device
MOST_WORDS = 4_000  # characters of an error, from its end


class _CountTeller:
    """Tells a count under its name, now and then."""

    def __init__(self, name: str) -> None:
        self.name, self._last = name, 0.0

    def _tell(self, count: Any) -> None:
        if time.monotonic() - self._last >= SECONDS_BETWEEN_COUNTS:
            self._last = time.monotonic()
            _put(self.name, count)


class StepCounter(_CountTeller):
    """Counts steps of what is no trial, and tells how many now and then."""

    steps = 0

    def __call__(self, steps: int = 1, note: str = "") -> None:
        self.steps += steps
        self._tell(self.steps)


def read_counts(names: Iterable[str]) -> dict[str, int]:
    """The last count of each of those counters that has told one."""
    return _read(names)


class Recording(NamedTuple):
    """Before the first step: the teacher's outputs are recorded for so many examples."""

    examples: int
    of: int


class Sign(NamedTuple):
    """After `step` of `steps` applied steps."""

    step: int
    steps: int
    stage: int
    loss: float  # of rank 0's part of the last batch
    rate: float | None  # steps a second since the sign before; None: there was none

    @property
    def seconds_left(self) -> float | None:
        """Of the trial, at this rate."""
        return (self.steps - self.step) / self.rate if self.rate else None


class RecordingTeller(_CountTeller):
    """Called while a trial, whose id is the name, records its teacher's outputs: tells now and then how far it is."""

    def __call__(self, examples: int, of: int) -> None:
        self._tell(Recording(examples, of))


class SignTeller:
    """Called after every step of a trial, it tells the first one, and then one now and then."""

    def __init__(self, trial_id: str, steps: int) -> None:
        self.trial_id, self.steps = trial_id, steps
        self._last: tuple[int, float] | None = None  # step and time of the last sign

    def __call__(self, taken: TakenStep) -> None:
        now = time.monotonic()
        if self._last is not None and now - self._last[1] < SECONDS_BETWEEN_SIGNS:
            return
        step = taken.known["step"] + 1
        rate = (step - self._last[0]) / (now - self._last[1]) if self._last else None
        self._last = step, now
        sign = Sign(step, self.steps, taken.known["stage"], float(taken.losses[0]), rate)
        _put(self.trial_id, sign)


def read_signs(trial_ids: Iterable[str]) -> dict[str, Sign | Recording]:
    """The last sign of each of those trials that has given one."""
    kinds = {len(kind._fields): kind for kind in (Sign, Recording)}
    return {trial_id: kinds[len(told)](*told) for trial_id, told in _read(trial_ids).items()}


def tell_last_words(trial_id: str, words: str) -> None:
    """Say why a trial's process is about to end; an empty text takes it back."""
    _put(_last_words(trial_id), words[-MOST_WORDS:])


def read_last_words(trial_id: str) -> str:
    """What the trial's process said before it ended, if anything."""
    name = _last_words(trial_id)
    return str(_read([name]).get(name, ""))


def _last_words(trial_id: str) -> str:
    return f"{trial_id} last words"


def _put(name: str, told: Any) -> None:
    if internal_kv._internal_kv_initialized():
        with suppress(Exception):  # whatever Ray raises while its head is busy or away
            internal_kv._internal_kv_put(name, json.dumps(told), overwrite=True, namespace=NAMESPACE)


def _read(names: Iterable[str]) -> dict[str, Any]:
    found = {}
    if internal_kv._internal_kv_initialized():
        with suppress(Exception):  # as above
            for name in names:
                told = internal_kv._internal_kv_get(name, namespace=NAMESPACE)
                if told is not None:
                    found[name] = json.loads(told)
    return found
