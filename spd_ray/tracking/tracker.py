"""What the driver, and the driver alone, tells MLflow: a parent run for the sweep, a child run for each trial.

A tracking server that goes away in the middle does not end the sweep: updates wait in order and are sent when the
server answers again. What still waits when the driver dies is missing in MLflow until the sweep is resumed
(`spd_ray.tracking.missed_points`).

Why so: docs/decisions.md #mlflow-never-slows-the-sweep, #a-sweep-that-fails-ends-its-parent-run, #one-writer.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from spd_ray.base.pace import Pace
from spd_ray.config.sweep import SweepSpec
from spd_ray.tracking.mlflow_store import (
    REQUEST_SECONDS,
    UPLOAD_SECONDS,
    MlflowStore,
    Point,
    Status,
    is_outage,
    limit_requests,
)
from spd_ray.tracking.outbox import Outbox
from spd_ray.tracking.view import View

_NOTED_SHARE = 0.2  # of the driver's time, at most, goes into sending what note_points was given
UntimedPoint = tuple[str, float, int, int | None]  # as Point; None: when it is logged


class Tracker:
    """The runs of one sweep. The methods take as `run_id` what `begin_trial` returned.

    As a context manager it ends the parent run of a sweep that an exception ends before `finish`.
    """

    def __init__(self, store: MlflowStore) -> None:
        self.store = store
        self.outbox = Outbox(is_outage)
        self.pace = Pace(_NOTED_SHARE)
        self._noted: dict[str, list[Point]] = {}  # what note_points was given and is not sent yet, oldest run first
        self._asked: set[str] = set()  # the handles for which the store was asked for a run
        self._run_ids: dict[str, str] = {}  # handle -> run id
        self._finished = False

    @classmethod
    def open(cls, spec: SweepSpec, sweep_folder: Path) -> "Tracker":
        """Open the store and begin or continue the parent run. Raises UserError if the store cannot be used."""
        return cls(MlflowStore.open(spec, sweep_folder))

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._finished:
            self.finish("FINISHED" if error is None else "FAILED" if isinstance(error, Exception) else "KILLED")

    def begin_trial(self, trial_id: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> str:
        """Begin the run of a trial, or continue it, and return its run id.

        The run is found by its trial tag, so neither a crash nor a resume makes a second one. While the
        server is away the id is a provisional one, a handle valid for this Tracker; `run_id_of` gives the real one.
        """
        handle = f"pending-{trial_id}"

        def begin() -> None:
            may_exist = self.store.resumed or handle in self._asked
            self._asked.add(handle)  # before the call: its answer may get lost
            self._run_ids[handle] = self.store.begin_trial(trial_id, params, tags, may_exist)

        self._send(begin)
        return self.run_id_of(handle)

    def run_id_of(self, handle: str) -> str:
        """The run id behind what `begin_trial` returned, once the run exists; until then that itself."""
        return self._run_ids.get(handle, handle)

    def log_points(self, run_id: str, points: Sequence[UntimedPoint]) -> None:
        """Log points, of which those not beyond the last logged step of their key are left out.

        So a trial that repeats steps after a restart logs nothing twice.
        """
        timed = _with_times(points)
        self._send(lambda: self.store.log_points(self.run_id_of(run_id), timed))

    def set_tags(self, run_id: str, tags: Mapping[str, Any]) -> None:
        """Set tags of a run: of the parent, or of a trial's."""
        self._send(lambda: self.store.log_points(self.run_id_of(run_id), [], tags))

    def save_view(self, view: View) -> None:
        """Add a list of trials to the experiment's saved views; the sweep's link opens on the last one."""
        self.store.view = view
        self._send(lambda: self.store.save_view(view))

    def note_points(self, run_id: str, points: Sequence[UntimedPoint]) -> None:
        """As `log_points`, but soon: a call sends all that a run has, and calls take a fifth of the time at most."""
        self._noted.setdefault(run_id, []).extend(_with_times(points))
        self.send_noted()

    def send_noted(self) -> None:
        """Send the points of the run that has waited longest, if it is time again."""
        if self._noted and self.pace.due:
            with self.pace.measured():
                self._send_noted(next(iter(self._noted)))

    def end_trial(
        self, run_id: str, status: Status, tags: Mapping[str, Any], results: Sequence[UntimedPoint] = ()
    ) -> None:
        """End the run of a trial; `tags` say how (feasible, stage reached, status, error), `results` are points."""
        points = [*self._noted.pop(run_id, []), *_with_times(results)]

        def end() -> None:
            real = self.run_id_of(run_id)
            self.store.log_points(real, points, tags)
            self.store.end_run(real, status)

        self._send(end)

    def upload(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Upload a file, or the content of a folder, to `artifact_path` among the run's artifacts."""
        self._send(lambda: self.store.upload(self.run_id_of(run_id), path, artifact_path), UPLOAD_SECONDS)

    def register(
        self,
        run_id: str,
        artifact_path: str,
        model: str,
        aliases: Sequence[str],
        tags: Mapping[str, Any],
        note: str = "",
    ) -> str | None:
        """Register the run's artifact folder as a version of `model` under `aliases`; None while it waits.

        A folder of a run has one version of a model at most.
        """
        versions: list[str] = []

        def send() -> None:
            versions.append(self.store.register(self.run_id_of(run_id), artifact_path, model, aliases, tags, note))

        self._send(send)
        return versions[0] if versions else None

    def finish(self, status: Status) -> None:
        """Send what is left, as far as the server answers, and end the parent run."""
        self._finished = True
        for run_id in list(self._noted):
            self._send_noted(run_id)
        self._send(lambda: self.store.end_run(self.store.parent_run_id, status))
        self.outbox.drain()

    def _send_noted(self, run_id: str) -> None:
        points = self._noted.pop(run_id)
        self._send(lambda: self.store.log_points(self.run_id_of(run_id), points))

    def _send(self, update: Callable[[], None], seconds: int = REQUEST_SECONDS) -> None:
        def limited() -> None:
            with limit_requests(seconds):
                update()

        self.outbox.put(limited)


def _with_times(points: Sequence[UntimedPoint]) -> list[Point]:
    now = int(time.time() * 1000)
    return [(key, value, step, now if time_ms is None else time_ms) for key, value, step, time_ms in points]
