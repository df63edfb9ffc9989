"""The runs of one sweep in an MLflow store, the only module that imports mlflow.

Everything goes through explicit run ids; there is no active run. Each method asks the store at once and raises what
MLflow raises: waiting for a server that is away is the business of `spd_ray.tracking.tracker`.

Why so: docs/decisions.md #embedded-default, #one-mlflow-store-per-folder, #one-version-a-sparsity.
"""

import json
import logging
import os
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from filelock import FileLock

from spd_ray.base.errors import UserError
from spd_ray.base.files import write_whole
from spd_ray.base.installation import own_command
from spd_ray.config.sweep import SweepSpec
from spd_ray.records import layout
from spd_ray.tracking.moved_store import follow_move
from spd_ray.tracking.view import View, view_of

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # must stand before the import, which reads it
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

Status = Literal["FINISHED", "FAILED", "KILLED"]
Point = tuple[str, float, int, int]  # key, value, applied steps, milliseconds since 1970

SWEEP_TAG = "spd_ray.sweep_id"
TRIAL_TAG = "spd_ray.trial_id"
ALIAS = "best"  # of the registered model's version that the last sweep found best; see `alias_of` for one sparsity
LOCAL_UI = "http://127.0.0.1:5000"  # where `mlflow ui` listens
SERVING_PORT = "5001"
_PARENT_TAG = "mlflow.parentRunId"
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on runs, not on traces
_BATCH = {"metrics": 1000, "params": 100}  # MLflow's limits a call
REQUEST_SECONDS, UPLOAD_SECONDS = 5, 120
_OUTAGE_CODES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "ENDPOINT_NOT_FOUND", "RESOURCE_EXHAUSTED")

for _chatter in ("mlflow.store.db.utils", "alembic"):  # each table that is made; tracebacks of what is raised anyway
    logging.getLogger(_chatter).setLevel(logging.CRITICAL)


class MlflowStore:
    """A parent run for the sweep, a child run for each trial."""

    def __init__(
        self, client: MlflowClient, experiment: Experiment, sweep_id: str, parent_run_id: str, resumed: bool, view: View
    ) -> None:
        self.client = client
        self.experiment = experiment
        self.sweep_id = sweep_id
        self.parent_run_id = parent_run_id
        self.resumed = resumed  # whether there may be runs of an earlier driver's trials
        self.sweep_view = self.view = view  # all trials of the sweep; what its link opens on
        self._last_steps: dict[str, dict[str, int]] = {}  # run id -> key -> last step in the store

    @classmethod
    def open(cls, spec: SweepSpec, sweep_folder: Path) -> "MlflowStore":
        """Open the store and the sweep's parent run, the same one again on resume.

        Without `tracking.uri` the store is `mlflow.db` and `mlartifacts/` beside the sweep's folder, shared
        by the sweeps there; where these were moved, they go on in the new place. The file `mlflow_sweep_id` in the
        sweep's folder holds the tag by which the parent run is found. Raises UserError within seconds if the store
        cannot be reached.
        """
        storage = sweep_folder.parent
        uri = spec.tracking.uri or layout.mlflow_uri(storage)
        artifacts = None if spec.tracking.uri else layout.mlflow_artifacts(storage).as_uri()
        try:
            with FileLock(layout.mlflow_lock(storage)), limit_requests():
                if artifacts is not None:
                    follow_move(layout.mlflow_database(storage), artifacts)
                client = MlflowClient(uri, registry_uri=uri)
                experiment = _find_or_create_experiment(client, spec.tracking.experiment or spec.name, artifacts)
                sweep_id = _sweep_id(sweep_folder)
                parent, resumed = _begin_parent_run(client, experiment, spec, sweep_id)
                store = cls(client, experiment, sweep_id, parent, resumed, view_of(spec, sweep_id, parent))
                store.save_view(store.view)
        except UserError:
            raise
        except Exception as error:  # whatever a store, its driver or its migrations raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"tracking.uri {uri}: cannot be used as an MLflow store: {reason}") from None
        return store

    def begin_trial(self, trial_id: str, params: Mapping[str, Any], tags: Mapping[str, Any], may_exist: bool) -> str:
        """Begin the run of a trial, or continue it if it `may_exist` and does; returns its id."""
        run_id = self._find_trial(trial_id) if may_exist else None
        if run_id is None:
            texts = {_PARENT_TAG: self.parent_run_id, TRIAL_TAG: trial_id, **_texts(tags)}
            run = self.client.create_run(self.experiment.experiment_id, tags=texts, run_name=trial_id)
            run_id = run.info.run_id
            self._last_steps[run_id] = {}
        else:
            self.client.update_run(run_id, status="RUNNING")
            self.client.log_batch(run_id, tags=_tags(tags))
        for chunk in _chunks([Param(key, value) for key, value in _flatten(params).items()], _BATCH["params"]):
            self.client.log_batch(run_id, params=chunk)
        return run_id

    def log_points(self, run_id: str, points: Sequence[Point], tags: Mapping[str, Any] | None = None) -> None:
        """Log tags, and the points beyond the last step of their key: in the store, or before them in `points`."""
        last, new = dict(self._steps(run_id)), []
        for key, value, step, time_ms in points:
            if step > last.get(key, -1):
                new.append(Metric(key, value, time_ms, step))
                last[key] = step
        for chunk in _chunks(new, _BATCH["metrics"]) or [[]]:
            self.client.log_batch(run_id, metrics=chunk, tags=_tags(tags or {}))
        self._last_steps[run_id] = last

    def end_run(self, run_id: str, status: Status) -> None:
        """End a run: nothing more is logged to it."""
        self.client.set_terminated(run_id, status)
        self._last_steps.pop(run_id, None)

    def ended_trials(self) -> set[str]:
        """The trials whose runs have ended."""
        query = f"tags.`{_PARENT_TAG}` = '{self.parent_run_id}' AND attributes.status != 'RUNNING'"
        ended, token = set(), None
        while token != "":
            page = self.client.search_runs([self.experiment.experiment_id], query, page_token=token)
            ended |= {run.data.tags[TRIAL_TAG] for run in page}
            token = page.token or ""
        return ended

    def upload(self, run_id: str, path: Path, artifact_path: str | None) -> None:
        """Upload a file, or the content of a folder, to `artifact_path` among the run's artifacts."""
        upload = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        upload(run_id, str(path), artifact_path)

    def register(
        self, run_id: str, artifact_path: str, model: str, aliases: Sequence[str], tags: Mapping[str, Any], note: str
    ) -> str:
        """Make the run's artifact folder a version of `model`, once, under `aliases`; returns the version.

        `note` is its description.
        """
        source = f"{self.client.get_run(run_id).info.artifact_uri}/{artifact_path}"
        self._ensure_model(model)
        versions = self.client.search_model_versions(f"run_id = '{run_id}'")
        made = next((one for one in versions if one.name == model and one.source == source), None)
        if made is None:
            made = self.client.create_model_version(
                model, source, run_id, _texts(tags), description=note, await_creation_for=0
            )
        for alias in aliases:
            self.client.set_registered_model_alias(model, alias, made.version)
        return str(made.version)

    def save_view(self, view: View) -> None:
        """Make a list of trials one of the experiment's saved views."""
        value = view.envelope(int(time.time() * 1000))
        self.client.set_experiment_tag(self.experiment.experiment_id, view.tag, value)

    def page_address(self) -> str:
        """Where the sweep's trials are seen, best first: on the server, or on what `ui_command` starts."""
        uri = self.client.tracking_uri
        return f"{uri if _is_server(uri) else LOCAL_UI}/{self.view.page(self.experiment.experiment_id)}"

    def ui_command(self) -> str | None:
        """What serves the pages of a store that is no server."""
        uri = self.client.tracking_uri
        return None if _is_server(uri) else own_command("mlflow", "ui", "--backend-store-uri", uri)

    def serve_command(self, model: str) -> str:
        """What answers requests with a registered model, such as models:/NAME@best, at port 5001, from any shell."""
        serve = own_command("mlflow", "models", "serve", "-m", model, "--env-manager", "local", "--port", SERVING_PORT)
        scripts = Path(sys.executable).parent  # MLflow starts uvicorn by its name
        found = shutil.which("uvicorn")
        path = "" if found and Path(found).parent == scripts else f'PATH={shlex.quote(str(scripts))}:"$PATH" '
        return f"{path}{self._located(serve)}"

    def download_command(self, source: str, folder: str) -> str:
        """What downloads `source`, such as models:/NAME@best, into `folder`: a plain transformers directory."""
        return self._located(own_command("mlflow", "artifacts", "download", "-u", source, "-d", folder))

    def _located(self, command: str) -> str:
        """The command, where it finds this store."""
        return f"MLFLOW_TRACKING_URI={shlex.quote(self.client.tracking_uri)} {command}"

    def _find_trial(self, trial_id: str) -> str | None:
        query = f"tags.`{_PARENT_TAG}` = '{self.parent_run_id}' AND tags.`{TRIAL_TAG}` = '{trial_id}'"
        runs = self.client.search_runs([self.experiment.experiment_id], query, max_results=1)
        return runs[0].info.run_id if runs else None

    def _steps(self, run_id: str) -> dict[str, int]:
        """The last step of each key of a run; from the store before this session's first point of the run."""
        if run_id not in self._last_steps:
            keys = self.client.get_run(run_id).data.metrics
            histories = {key: self.client.get_metric_history(run_id, key) for key in keys}
            self._last_steps[run_id] = {key: max(point.step for point in h) for key, h in histories.items()}
        return self._last_steps[run_id]

    def _ensure_model(self, name: str) -> None:
        try:
            self.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self.client.create_registered_model(name)


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


@contextmanager
def limit_requests(seconds: int = REQUEST_SECONDS) -> Iterator[None]:
    """MLflow's HTTP requests give up after `seconds` and are not repeated (its own default is minutes).

    For the duration of the block only, and a variable that is set already, by the user or around the block, wins.
    """
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    ours = {name: value for name, value in limits.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def alias_of(level: float) -> str:
    """The alias of the best version at a target sparsity, in percent: an alias has no point.

    >>> alias_of(0.95), alias_of(0.9), alias_of(0.975)
    ('best-95', 'best-90', 'best-97_5')
    """
    return f"{ALIAS}-{round(level * 100, 6):g}".replace(".", "_")


def request_command(example: Mapping[str, str]) -> str:
    """What asks the server that `serve_command` starts; the example is one of a task's texts, or a pair.

    >>> print(request_command({"text": "a cat"}))
    curl -s 127.0.0.1:5001/invocations -H Content-Type:application/json -d '{"inputs": {"text": "a cat"}}'
    """
    request = shlex.quote(json.dumps({"inputs": dict(example)}))
    return f"curl -s 127.0.0.1:{SERVING_PORT}/invocations -H Content-Type:application/json -d {request}"


def is_outage(error: Exception) -> bool:
    """Whether `error` says that the server is away, and not that it refuses what it was asked."""
    if isinstance(error, MlflowException):
        return error.error_code in _OUTAGE_CODES
    return isinstance(error, requests.RequestException | ConnectionError | TimeoutError)


def _sweep_id(sweep_folder: Path) -> str:
    """The sweep's own id, written before the parent run exists."""
    file = layout.mlflow_sweep_id(sweep_folder)
    if not file.exists():
        write_whole(file, uuid.uuid4().hex)
    return file.read_text()


def _find_or_create_experiment(client: MlflowClient, name: str, artifact_location: str | None) -> Experiment:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return client.get_experiment(client.create_experiment(name, artifact_location, _EXPERIMENT_TAGS))
    if experiment.lifecycle_stage != "active":
        raise UserError(f"tracking.experiment {name}: it was deleted in MLflow; restore it or give another name")
    return experiment


def _begin_parent_run(client: MlflowClient, experiment: Experiment, spec: SweepSpec, sweep_id: str) -> tuple[str, bool]:
    """The parent's run id, and whether it was there before."""
    runs = client.search_runs([experiment.experiment_id], f"tags.`{SWEEP_TAG}` = '{sweep_id}'", max_results=1)
    if runs:
        run_id: str = runs[0].info.run_id
        client.update_run(run_id, status="RUNNING")
    else:
        run_id = client.create_run(experiment.experiment_id, tags={SWEEP_TAG: sweep_id}, run_name=spec.name).info.run_id
    try:
        client.log_text(run_id, spec.to_yaml(), "space.yaml")
    except Exception:
        with suppress(Exception):
            client.set_terminated(run_id, "FAILED")
        raise
    return run_id, bool(runs)


def _flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"method": {"p0": 0.6}}` -> `{"method.p0": "0.6"}`."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _text(value)
    return flat


def _tags(tags: Mapping[str, Any]) -> list[RunTag]:
    return [RunTag(key, value) for key, value in _texts(tags).items()]


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def download_model(source: str, uri: str | None, folder: Path) -> None:
    """Download what `source` (models:/NAME@best) names into `folder`, from the store `uri`, or MLFLOW_TRACKING_URI's.

    Raises UserError where the store or the model is not there.
    """
    if uri:
        mlflow.set_tracking_uri(uri)
    try:
        mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder))
    except (MlflowException, OSError) as error:
        raise UserError(f"{source}: not available from {mlflow.get_tracking_uri()} ({error})") from error
