"""A trial's states: copied between two steps when one is due, written while training goes on, read when it continues.

Why so: docs/decisions.md #states-behind-trainings-back.
"""

import json
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from spd_ray.base.cache import check_sums, write_sums
from spd_ray.base.files import whole_folder
from spd_ray.engine import engine, engine_state
from spd_ray.engine.engine_state import StateCopy
from spd_ray.records import layout
from spd_ray.records.storage import SweepStorage
from spd_ray.trials.standing import Standing

_log = logging.getLogger(__name__)


class TrialStates:
    """The states of one trial; the newest sound one counts.

    Rank 0 holds one copy in memory, and one thread writes it, sends it to a store and drops the older states. What
    that thread raises, the next call raises.
    """

    def __init__(self, storage: SweepStorage, trial_id: str, config_key: str, seconds: float) -> None:
        """`config_key` names the trial's configuration and its teacher; `seconds` at least lie between two states."""
        self.storage, self.trial_id, self.config_key, self.seconds = storage, trial_id, config_key, seconds
        self.recorded: int | None = self._find_recorded()
        self._last = time.monotonic()
        self._copy: StateCopy | None = None
        self._thread = ThreadPoolExecutor(1, "state")
        self._writing: Future[None] | None = None

    def _find_recorded(self) -> int | None:
        """For how many examples this trial has recorded the teacher's outputs. None: no state says so."""
        for state in reversed(layout.states_by_age(self.storage.folder, self.trial_id)):
            with suppress(OSError, ValueError):
                known = json.loads(layout.standing_json(state).read_text())
                if known.get("config") == self.config_key:
                    return known.get("recorded")
        return None

    def save_if_due(self, trained: Any, standing: Standing) -> None:
        """All ranks call it before they go on from an evaluation. A state that is still being written postpones it.

        Not right after the evaluation: a trial that is stopped there needs none.
        """
        if not engine.gather_over_ranks(engine.rank() == 0 and standing.step > 0 and self._is_due())[0]:
            return
        self._last = time.monotonic()
        copied = engine_state.copy_state(trained, keep=engine.rank() == 0, earlier=self._copy)
        if copied is not None:
            self._copy = copied
            self._writing = self._thread.submit(self._write, standing, copied)

    def save_end(self, standing: Standing) -> None:
        """Where the trial ended, without a tensor: it takes no step any more. Returns when it is written and sent."""
        self._wait()
        self._copy = None
        self._write(standing, None)

    def load(self, trained: Any) -> Standing | None:
        """Continue from the newest sound state. None: there is none, and the trial starts from the beginning.

        A state is ignored that is damaged, or that belongs to another configuration: a sweep in an object store can
        forget a trial that the store was not told of yet, and give its id to another.
        """
        for state in reversed(layout.states_by_age(self.storage.folder, self.trial_id)):
            try:
                known = json.loads(layout.standing_json(state).read_text())
                if known.pop("config") != self.config_key:
                    raise ValueError(f"{state} is of another configuration")
                known.pop("recorded", None)
                if known.pop("whole"):
                    engine_state.load_state(trained, state)
                else:
                    check_sums(state)
            except (OSError, ValueError, KeyError) as error:
                _log.warning("%s does not go on from %s: %s", self.trial_id, state.name, error)
                continue
            return Standing(**known)
        return None

    def close(self) -> None:
        """Wait for the state that is being written, before its folder is emptied. Its failure is not the trial's."""
        try:
            self._wait()
        except Exception as error:  # the driver may have dropped the folder of a trial that it has stopped
            _log.info("%s: its last state was not written: %s", self.trial_id, error)
        self._thread.shutdown()
        self._copy = None

    def _is_due(self) -> bool:
        if self._writing is not None and not self._writing.done():
            return False
        self._wait()
        return time.monotonic() - self._last >= self.seconds

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, standing: Standing, copied: StateCopy | None) -> None:
        """Write a state into a folder that appears whole, then drop the older ones. Without a copy: the trial's end."""
        older = layout.states_by_age(self.storage.folder, self.trial_id)
        newest = layout.state(self.storage.folder, self.trial_id, standing.step)
        with whole_folder(newest) as building:
            about = {"config": self.config_key, "whole": copied is not None, "recorded": self.recorded}
            known = about | asdict(standing)
            layout.standing_json(building).write_text(json.dumps(known))
            write_sums(building) if copied is None else copied.write(building)
        self.storage.send(newest)
        for state in older:
            if state != newest:
                self.storage.drop(state)
