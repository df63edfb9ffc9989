"""Updates for a server that may be away: sent in order, kept while it does not answer.

Why so: docs/decisions.md #one-mlflow-store-per-folder.
"""

import logging
import time
from collections import deque
from collections.abc import Callable

Update = Callable[[], None]

RETRY_SECONDS = 15.0  # between two attempts to reach a server that is away
_LAST_ATTEMPTS, _LAST_PAUSE_SECONDS = 3, 2.0

_log = logging.getLogger(__name__)


class Outbox:
    """`put` sends an update, or keeps it until the server answers. An update that the server refuses is dropped.

    `is_outage` says of an error whether the server was away; neither kind ends the sweep.
    """

    def __init__(self, is_outage: Callable[[Exception], bool]) -> None:
        self.is_outage = is_outage
        self.retry_at = 0.0  # by the monotonic clock; 0: the server answers
        self._waiting: deque[Update] = deque()

    def put(self, update: Update) -> None:
        """Send an update after all that wait."""
        self._waiting.append(update)
        self.flush()

    def flush(self) -> None:
        """Send what waits, in order, until the server does not answer."""
        while self._waiting and time.monotonic() >= self.retry_at:
            try:
                self._waiting[0]()
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                if self.is_outage(error):
                    if self.retry_at == 0.0:
                        _log.warning("MLflow does not answer; the sweep goes on, updates wait: %s", reason)
                    self.retry_at = time.monotonic() + RETRY_SECONDS
                    return
                _log.warning("MLflow refused an update; the sweep goes on without it: %s", reason)
            self._waiting.popleft()
            self.retry_at = 0.0

    def drain(self) -> None:
        """Try three times more to send what still waits; then warn how much is missing."""
        for _ in range(_LAST_ATTEMPTS):
            if not self._waiting:
                return
            time.sleep(_LAST_PAUSE_SECONDS)
            self.retry_at = time.monotonic()  # due, and still the same outage
            self.flush()
        if self._waiting:
            _log.warning("MLflow misses the last %d updates of this sweep; --resume sends them", len(self._waiting))
