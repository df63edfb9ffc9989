"""Which GPUs this process sees: a driver sees none, for they are its workers'.

The variable counts when CUDA is first asked for a device: in a process that has done so before, nothing is hidden.

Why so: docs/decisions.md #gpus-of-a-process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "CUDA_VISIBLE_DEVICES"
_outside: list[str | None] = []  # what the variable was before each `gpus_hidden` that is entered


@contextmanager
def gpus_hidden() -> Iterator[None]:
    """This process, and what it starts, sees no GPU for the duration of the block."""
    _outside.append(os.environ.get(VARIABLE))
    try:
        with _set_to(""):
            yield
    finally:
        _outside.pop()


@contextmanager
def gpus_as_outside() -> Iterator[None]:
    """Within `gpus_hidden`, what is started sees the GPUs all the same."""
    with _set_to(_outside[-1] if _outside else os.environ.get(VARIABLE)):
        yield


@contextmanager
def _set_to(value: str | None) -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    _write(value)
    try:
        yield
    finally:
        _write(before)


def _write(value: str | None) -> None:
    if value is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = value
