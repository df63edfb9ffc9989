"""SIGTERM ends a sweep as Ctrl-C does: it is how Slurm, `timeout` and a spot notice ask for an end in order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """For the block, pass SIGTERM on as SIGINT; afterwards it does again what it did before."""
    before = signal.getsignal(signal.SIGTERM)
    pass_sigterm_on()
    try:
        yield
    finally:
        if _in_main_thread():
            signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def pass_sigterm_on() -> None:
    """Set the handler; to be called again after `ray.init`, whose own ends the process at once.

    Only the main thread may: in another one of a notebook SIGTERM stays what it was.
    """
    if _in_main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first one interrupts; those that follow find the end on its way."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)
