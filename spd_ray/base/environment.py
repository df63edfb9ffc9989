"""Variables of this process's environment, set for a time; and by one of them, which GPUs it sees.

A driver sees no GPU, for they are its workers'. CUDA reads its variable when it is first asked for a device: in a
process that has done so before, nothing is hidden.

Why so: docs/decisions.md #gpus-of-a-process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_outside: list[str | None] = []  # what the variable was before each `gpus_hidden` that is entered


@contextmanager
def variable_as(name: str, value: str | None) -> Iterator[None]:
    """The variable has this value, or with None is not set, for the duration of the block."""
    before = os.environ.get(name)
    _write(name, value)
    try:
        yield
    finally:
        _write(name, before)


@contextmanager
def gpus_hidden() -> Iterator[None]:
    """This process, and what it starts, sees no GPU for the duration of the block."""
    _outside.append(os.environ.get(VISIBLE_GPUS))
    try:
        with variable_as(VISIBLE_GPUS, ""):
            yield
    finally:
        _outside.pop()


@contextmanager
def gpus_as_outside() -> Iterator[None]:
    """Within `gpus_hidden`, what is started sees the GPUs all the same."""
    with variable_as(VISIBLE_GPUS, _outside[-1] if _outside else os.environ.get(VISIBLE_GPUS)):
        yield


def _write(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
