"""What the teacher's fine-tuning goes on from: a state per learning rate and content, in the sweep's storage.

Why so: docs/decisions.md #fine-tuning-goes-on.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from safetensors.torch import load_file, save_file

from spd_ray.base.cache import check_sums, content_key, write_sums
from spd_ray.base.errors import StorageError, storage_refusal
from spd_ray.base.files import remove_unfinished, whole_folder
from spd_ray.base.pace import Pace
from spd_ray.records import layout
from spd_ray.records.storage import SweepStorage
from spd_ray.training.fine_tuning import Tensors
from spd_ray.trials.on_worker import Worker

SHARE = 0.1  # of the time, at most, is spent on states
TENSORS = "state.safetensors"
_PREFIX = f"{layout.TEACHER}-"
_log = logging.getLogger(__name__)


@dataclass
class TuningStates:
    """Of one learning rate, in the sweep at `place`; it opens the storage in the process that fine-tunes."""

    place: str
    name: str  # in the place of a trial's id
    pace: Pace = field(default_factory=lambda: Pace(SHARE))

    def load(self) -> Tensors | None:
        """The newest sound state. None: there is none."""
        storage = self._storage
        folder = layout.trial_states(storage.folder, self.name)
        storage.clear_copy()
        storage.fetch(folder)
        remove_unfinished(folder)
        try:
            for state in reversed(layout.states_by_age(storage.folder, self.name)):
                try:
                    check_sums(state)
                except ValueError as error:
                    _log.warning("%s does not go on from %s: %s", self.name, state.name, error)
                    continue
                return load_file(state / TENSORS)
            return None
        finally:
            storage.clear_copy()

    def save_if_due(self, step: int, tensors: Callable[[], Tensors], at_end: bool) -> None:
        """Write a state that appears whole, then drop the older ones. Raises StorageError where that is refused."""
        if not (at_end or self.pace.due):
            return
        storage = self._storage
        newest = layout.state(storage.folder, self.name, step)
        try:
            with self.pace.measured():
                with whole_folder(newest) as building:
                    save_file(tensors(), building / TENSORS)
                    write_sums(building)
                storage.send(newest)
                for state in storage.folders(newest.parent):
                    if state.name < newest.name:
                        storage.drop(state)
                storage.clear_copy()
        except Exception as error:
            refusal = storage_refusal(error)
            if refusal is None:
                raise
            raise StorageError(refusal) from error

    @cached_property
    def _storage(self) -> SweepStorage:
        return SweepStorage(self.place, self.name)


def states_of(place: str, teacher_key: str, worker: Worker | None, learning_rate: float) -> TuningStates:
    """Of one learning rate of the teacher with that key, in the sweep at `place`.

    On a GPU, or on several ranks, random numbers are others. None: this process fine-tunes.
    """
    kind = ["GPU" if worker and worker.gpus else "CPU", worker.ranks if worker else 1]
    key = content_key({"teacher": teacher_key, "learning rate": learning_rate, "random numbers": kind})
    return TuningStates(place, f"{_PREFIX}{key}")


def drop_tuning_states(storage: SweepStorage) -> None:
    """Drop all of them, also those of other content: the teacher is made."""
    folder = layout.states(storage.folder)
    for states in storage.folders(folder):
        if states.name.startswith(_PREFIX):
            storage.drop(states)
    with suppress(OSError):  # trials have states, too
        folder.rmdir()
