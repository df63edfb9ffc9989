"""How often something costly is done, so that it takes no more than a share of the time.

Why so: docs/decisions.md #mlflow-never-slows-the-sweep.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Done within `measured`, when it is `due`: at least `seconds` apart, and in at most `share` of the time."""

    def __init__(self, share: float, seconds: float = 0.0) -> None:
        self.share = share
        self.seconds = seconds
        self.due_at = 0.0  # by the monotonic clock

    @property
    def due(self) -> bool:
        return time.monotonic() >= self.due_at

    @contextmanager
    def measured(self) -> Iterator[None]:
        """What is done in the block sets when it is due again; if it fails, that stays as it was."""
        started = time.monotonic()
        yield
        ended = time.monotonic()
        self.due_at = ended + max(self.seconds, (ended - started) * (1 / self.share - 1))
