"""Progress that people can follow: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0
T = TypeVar("T")


class Advance(Protocol):
    """Call it after `steps` more steps; `note` is shown beside the bar."""

    def __call__(self, steps: int = 1, note: str = "") -> None: ...


@contextmanager
def progress_bar(description: str, total: int, always: bool = True) -> Iterator[Advance]:
    """Show `description` and how many of `total` steps are done, on stderr.

    A line tells the end `always`, or only where all took so long that others came before it.
    """
    console = Console(file=sys.stderr)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console) as bar:
            task = bar.add_task(description, total=total, note="")
            yield lambda steps=1, note="": bar.update(task, advance=steps, note=note)
        return

    started = last_line = time.monotonic()
    done, told = 0, always

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal done, told, last_line
        done += steps
        now = time.monotonic()
        if done and (now - last_line >= SECONDS_BETWEEN_LINES or (done == total and told)):
            last_line, told = now, True
            left = (now - started) / done * (total - done)
            print(f"{description}: {done}/{total}  {left:.0f} s left  {note}".rstrip(), file=sys.stderr, flush=True)

    yield advance


def followed(description: str, items: Sequence[T]) -> Iterator[T]:
    """The items one by one, with a bar of how many are done; elsewhere than on a terminal not if it takes no time."""
    with progress_bar(description, len(items), always=False) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no loading report from transformers meanwhile."""
    from transformers.utils import logging  # here, for it takes a second

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
