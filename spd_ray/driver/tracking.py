"""MLflow, written by the driver alone: a parent run for the sweep, a child run for each trial.

Everything goes through explicit run ids; there is no active run. A tracking server that goes away in the
middle does not end the sweep: what was to be written waits in order and is sent when the server answers
again. If the driver dies meanwhile, MLflow misses it until the sweep is resumed (`spd_ray.driver.missed_points`).
"""

import logging
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import requests
from filelock import FileLock

from spd_ray.base.errors import UserError
from spd_ray.base.files import write_whole
from spd_ray.config.sweep import SweepSpec
from spd_ray.records import layout

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # must stand before the import, which reads it
from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

Status = Literal["FINISHED", "FAILED", "KILLED"]
Score = tuple[str, float, int, int | None]  # key, value, applied steps, milliseconds since 1970 (None: now)

SWEEP_TAG = "spd_ray.sweep_id"
TRIAL_TAG = "spd_ray.trial_id"
_PARENT_TAG = "mlflow.parentRunId"
_PENDING = "pending-"
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on runs, not on traces
_BATCH = {"metrics": 1000, "params": 100}  # MLflow's limits a call
_REQUEST_SECONDS, _UPLOAD_SECONDS = 5, 120
_RETRY_SECONDS = 15.0
_NOTED_SHARE = 0.2  # of the driver's time, at most, goes into sending what note_scores was given
_OUTAGE_CODES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "ENDPOINT_NOT_FOUND", "RESOURCE_EXHAUSTED")

_log = logging.getLogger(__name__)
for _chatter in ("mlflow.store.db.utils", "alembic"):  # tables made, line by line; tracebacks of what is raised too
    logging.getLogger(_chatter).setLevel(logging.CRITICAL)


class Tracker:
    """The runs of one sweep. The methods take as `run_id` what `start_trial` returned."""

    def __init__(self, client: MlflowClient, experiment: Experiment, parent_run_id: str, resumed: bool) -> None:
        self.client = client
        self.experiment = experiment
        self.parent_run_id = parent_run_id
        self._resumed = resumed  # whether there may be trials of an earlier driver
        self._begun: set[str] = set()  # what start_trial may have returned, where MLflow was asked for a run
        self._noted: dict[str, list[Metric]] = {}  # what note_scores was given and is not sent yet, oldest run first
        self._noted_at = 0.0  # when the next of them may be sent
        self._waiting: deque[Callable[[], None]] = deque()
        self._retry_at = 0.0
        self._run_ids: dict[str, str] = {}  # what start_trial may have returned -> run id
        self._last_steps: dict[str, dict[str, int]] = {}  # run id -> key -> last step that MLflow has

    @classmethod
    def open(cls, spec: SweepSpec, sweep_folder: Path) -> "Tracker":
        """Open the store and the sweep's parent run, the same one again on resume.

        Without `tracking.uri` the store is `mlflow.db` and `mlartifacts/` beside the sweep's folder, shared
        by the sweeps there. The file `mlflow_sweep_id` in the sweep's folder holds the tag by which the
        parent run is found. Raises UserError within seconds if the store cannot be reached.
        """
        uri = spec.tracking.uri or f"sqlite:///{layout.mlflow_database(sweep_folder)}"
        artifacts = None if spec.tracking.uri else layout.mlflow_artifacts(sweep_folder).as_uri()
        try:
            with FileLock(layout.mlflow_lock(sweep_folder)), _bounded(_REQUEST_SECONDS):
                client = MlflowClient(uri, registry_uri=uri)
                experiment = _experiment(client, spec.tracking.experiment or spec.name, artifacts)
                parent, resumed = _parent_run(client, experiment, spec, _sweep_id(sweep_folder))
        except UserError:
            raise
        except Exception as error:  # whatever a store, its driver or its migrations raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"tracking.uri {uri}: cannot be used as an MLflow store: {reason}") from None
        return cls(client, experiment, parent, resumed)

    def start_trial(self, trial_id: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> str:
        """Begin the run of a trial, or go on with it, and return its run id.

        The run is found by its trial tag, so neither a crash nor a resume makes a second one. While the
        server is away the id is a provisional one, good for this Tracker; `run_id_of` tells the real one.
        """
        handle = f"{_PENDING}{trial_id}"

        def begin() -> None:
            real = self._find_trial(trial_id) if self._resumed or handle in self._begun else None
            self._begun.add(handle)  # before the call: its answer may get lost
            if real is None:
                real = self._create_trial(trial_id, tags)
                self._last_steps[real] = {}
            else:
                self.client.update_run(real, status="RUNNING")
                self._tag(real, tags)
            self._run_ids[handle] = real
            flat = [Param(key, value) for key, value in _flat(params).items()]
            for chunk in _chunks(flat, _BATCH["params"]):
                self.client.log_batch(real, params=chunk)

        self._send(begin)
        return self.run_id_of(handle)

    def run_id_of(self, handle: str) -> str:
        """The run id behind what `start_trial` returned, once the run exists; until then that itself."""
        return self._run_ids.get(handle, handle)

    def log_scores(self, run_id: str, scores: Sequence[Score]) -> None:
        """Log points, of which those not beyond the last logged step of their key are left out.

        So a trial that repeats steps after a restart doubles nothing.
        """
        metrics = _metrics(scores)
        self._send(lambda: self._log(self.run_id_of(run_id), metrics))

    def note_scores(self, run_id: str, scores: Sequence[Score]) -> None:
        """As `log_scores`, but in time: a call sends all that a run has, and calls take a fifth of the time at most."""
        self._noted.setdefault(run_id, []).extend(_metrics(scores))
        self.send_noted()

    def send_noted(self) -> None:
        """Send the points of the run that has waited longest, if it is time again."""
        if self._noted and time.monotonic() >= self._noted_at:
            started = time.monotonic()
            self._send_noted(next(iter(self._noted)))
            ended = time.monotonic()
            self._noted_at = ended + (ended - started) * (1 / _NOTED_SHARE - 1)

    def end_trial(self, run_id: str, status: Status, tags: Mapping[str, Any]) -> None:
        """End the run of a trial; `tags` say how (feasible, stage reached, seed, error)."""
        metrics = self._noted.pop(run_id, [])

        def end() -> None:
            real = self.run_id_of(run_id)
            self._log(real, metrics, tags)
            self.client.set_terminated(real, status)
            self._last_steps.pop(real, None)

        self._send(end)

    def ended_trials(self) -> set[str]:
        """The trials whose runs have ended: of them MLflow has everything. Raises what MLflow raises."""
        query = f"tags.`{_PARENT_TAG}` = '{self.parent_run_id}' AND attributes.status != 'RUNNING'"
        ended, token = set(), None
        while token != "":
            page = self.client.search_runs([self.experiment.experiment_id], query, page_token=token)
            ended |= {run.data.tags[TRIAL_TAG] for run in page}
            token = page.token or ""
        return ended

    def log_artifacts(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Upload a file, or the content of a folder, to `artifact_path` among the run's artifacts."""
        upload = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        self._send(lambda: upload(self.run_id_of(run_id), str(path), artifact_path), _UPLOAD_SECONDS)

    def register_best(
        self,
        run_id: str,
        artifact_path: str,
        model: str,
        tags: Mapping[str, Any],
        description: str = "",
        alias: str = "best",
    ) -> str | None:
        """Register the run's artifact folder as a version of `model` under `alias`; None while it waits.

        The folder is a plain transformers directory: `models:/<model>@best` downloads it. A run has one
        version of a model at most.
        """
        version: list[str] = []

        def register() -> None:
            real = self.run_id_of(run_id)
            source = f"{self.client.get_run(real).info.artifact_uri}/{artifact_path}"
            _ensure_model(self.client, model)
            versions = self.client.search_model_versions(f"run_id = '{real}'")
            made = next((one for one in versions if one.name == model and one.source == source), None)
            if made is None:
                texts = {key: _text(value) for key, value in tags.items()}
                made = self.client.create_model_version(
                    model, source, real, texts, description=description, await_creation_for=0
                )
            self.client.set_registered_model_alias(model, alias, made.version)
            version.append(str(made.version))

        self._send(register)
        return version[0] if version else None

    def finish(self, status: Status = "FINISHED") -> None:
        """End the parent run. What still waits is tried three times more; then a warning tells what is missing."""
        for run_id in list(self._noted):
            self._send_noted(run_id)
        self._send(lambda: self.client.set_terminated(self.parent_run_id, status))
        for _ in range(3):
            if not self._waiting:
                return
            time.sleep(2.0)
            self._retry_at = time.monotonic()  # now, and still one outage
            self._flush()
        if self._waiting:
            _log.warning("MLflow misses the last %d updates of this sweep; --resume sends them", len(self._waiting))

    def ui_command(self) -> str:
        """What to run, or where to look, to browse the runs."""
        page = f"#/experiments/{self.experiment.experiment_id}/runs"
        if self.client.tracking_uri.startswith("http"):
            return f"{self.client.tracking_uri}/{page}"
        command = f"python -m mlflow ui --backend-store-uri {self.client.tracking_uri}"
        return f"{command}  (then http://127.0.0.1:5000/{page})"

    def _send(self, update: Callable[[], None], seconds: int = _REQUEST_SECONDS) -> None:
        def bounded() -> None:
            with _bounded(seconds):
                update()

        self._waiting.append(bounded)
        self._flush()

    def _flush(self) -> None:
        """Send what waits, in order, until the server does not answer."""
        while self._waiting and time.monotonic() >= self._retry_at:
            try:
                self._waiting[0]()
            except Exception as error:  # tracking never ends a sweep
                reason = " ".join(str(error).split())[:200]
                if _is_outage(error):
                    if self._retry_at == 0.0:
                        _log.warning("MLflow does not answer; the sweep goes on, updates wait: %s", reason)
                    self._retry_at = time.monotonic() + _RETRY_SECONDS
                    return
                _log.warning("MLflow refused an update; the sweep goes on without it: %s", reason)
            self._waiting.popleft()
            self._retry_at = 0.0

    def _find_trial(self, trial_id: str) -> str | None:
        query = f"tags.`{_PARENT_TAG}` = '{self.parent_run_id}' AND tags.`{TRIAL_TAG}` = '{trial_id}'"
        runs = self.client.search_runs([self.experiment.experiment_id], query, max_results=1)
        return runs[0].info.run_id if runs else None

    def _create_trial(self, trial_id: str, tags: Mapping[str, Any]) -> str:
        texts = {_PARENT_TAG: self.parent_run_id, TRIAL_TAG: trial_id, **{key: _text(tags[key]) for key in tags}}
        return self.client.create_run(self.experiment.experiment_id, tags=texts, run_name=trial_id).info.run_id

    def _send_noted(self, run_id: str) -> None:
        metrics = self._noted.pop(run_id)
        self._send(lambda: self._log(self.run_id_of(run_id), metrics))

    def _log(self, run_id: str, metrics: Sequence[Metric], tags: Mapping[str, Any] | None = None) -> None:
        """Log the points beyond the last step of their key, logged or among them, and tags."""
        last, new = dict(self._steps(run_id)), []
        for metric in metrics:
            if metric.step > last.get(metric.key, -1):
                new.append(metric)
                last[metric.key] = metric.step
        for chunk in _chunks(new, _BATCH["metrics"]) or [[]]:
            self.client.log_batch(run_id, metrics=chunk, tags=_tags(tags or {}))
        self._last_steps[run_id] = last

    def _tag(self, run_id: str, tags: Mapping[str, Any]) -> None:
        self.client.log_batch(run_id, tags=_tags(tags))

    def _steps(self, run_id: str) -> dict[str, int]:
        """The last step of each key of a run; from the store when this Tracker first writes to the run."""
        if run_id not in self._last_steps:
            keys = self.client.get_run(run_id).data.metrics
            histories = {key: self.client.get_metric_history(run_id, key) for key in keys}
            self._last_steps[run_id] = {key: max(point.step for point in h) for key, h in histories.items()}
        return self._last_steps[run_id]


@contextmanager
def _bounded(seconds: int) -> Iterator[None]:
    """MLflow's HTTP requests give up after `seconds` and are not repeated (its own default is minutes).

    For the duration of the call only, and a variable that the user has set wins.
    """
    bounds = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    ours = {name: value for name, value in bounds.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _is_outage(error: Exception) -> bool:
    if isinstance(error, MlflowException):
        return error.error_code in _OUTAGE_CODES
    return isinstance(error, requests.RequestException | ConnectionError | TimeoutError)


def _sweep_id(sweep_folder: Path) -> str:
    """The sweep's own id, written before the parent run exists."""
    file = layout.mlflow_sweep_id(sweep_folder)
    if not file.exists():
        write_whole(file, uuid.uuid4().hex)
    return file.read_text()


def _experiment(client: MlflowClient, name: str, artifact_location: str | None) -> Experiment:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return client.get_experiment(client.create_experiment(name, artifact_location, _EXPERIMENT_TAGS))
    if experiment.lifecycle_stage != "active":
        raise UserError(f"tracking.experiment {name}: it was deleted in MLflow; restore it or give another name")
    return experiment


def _parent_run(client: MlflowClient, experiment: Experiment, spec: SweepSpec, sweep_id: str) -> tuple[str, bool]:
    """The parent's run id, and whether it was there before."""
    runs = client.search_runs([experiment.experiment_id], f"tags.`{SWEEP_TAG}` = '{sweep_id}'", max_results=1)
    if runs:
        run_id: str = runs[0].info.run_id
        client.update_run(run_id, status="RUNNING")
    else:
        run_id = client.create_run(experiment.experiment_id, tags={SWEEP_TAG: sweep_id}, run_name=spec.name).info.run_id
    client.log_text(run_id, spec.to_yaml(), "space.yaml")
    return run_id, bool(runs)


def _ensure_model(client: MlflowClient, name: str) -> None:
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name)


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"method": {"p0": 0.6}}` -> `{"method.p0": "0.6"}`."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _text(value)
    return flat


def _metrics(scores: Sequence[Score]) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(key, value, now if at is None else at, step) for key, value, step, at in scores]


def _tags(tags: Mapping[str, Any]) -> list[RunTag]:
    return [RunTag(key, _text(value)) for key, value in tags.items()]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
