"""The tracker against the real MLflow: a sqlite store, and a server process on a loopback port."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from spd_ray.base.errors import UserError
from spd_ray.base.network import free_port
from spd_ray.config.load import load_spec
from spd_ray.config.sweep import SweepSpec
from spd_ray.tracking import outbox
from spd_ray.tracking.tracker import Tracker
from tests.waiting import wait_for_server

PARAMS = {"method": {"p0": 0.6, "objective": {"temperature": 1.0}}, "seed": 0, "gate": True}


@pytest.fixture
def spec(tmp_path: Path) -> SweepSpec:
    file = tmp_path / "demo.yaml"
    file.write_text("task: {name: mini_entailment}\n")
    return load_spec(file)


@pytest.fixture
def sweep_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my runs" / "demo"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made: making them takes seconds."""
    file = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def tracker(spec: SweepSpec, sweep_folder: Path, template: Path) -> Tracker:
    (sweep_folder.parent / "mlflow.db").write_bytes(template.read_bytes())
    return Tracker.open(spec, sweep_folder)


def children(tracker: Tracker) -> list[mlflow.entities.Run]:
    query = f"tags.`mlflow.parentRunId` = '{tracker.store.parent_run_id}'"
    return tracker.store.client.search_runs([tracker.store.experiment.experiment_id], query)


def curve(tracker: Tracker, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in tracker.store.client.get_metric_history(run_id, key)]


def test_a_trial_is_a_child_of_the_sweep_with_its_parameters_scores_and_end(tracker: Tracker) -> None:
    run_id = tracker.begin_trial("00000-s0", PARAMS, {"seed": 0})
    tracker.log_points(run_id, [("score", 0.5, 10, 1), ("score", 0.75, 20, 2), ("sparsity", 0.9, 20, None)])
    tracker.end_trial(run_id, "FINISHED", {"feasible": True, "stage": 3})
    tracker.finish("FINISHED")

    (run,) = children(tracker)
    assert run.info.run_id == run_id
    assert run.info.run_name == "00000-s0"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"method.p0": "0.6", "method.objective.temperature": "1.0", "seed": "0", "gate": "true"}
    assert (
        run.data.tags.items() >= {"spd_ray.trial_id": "00000-s0", "seed": "0", "feasible": "true", "stage": "3"}.items()
    )
    assert curve(tracker, run_id, "score") == [(10, 0.5), (20, 0.75)]
    assert tracker.store.client.get_run(tracker.store.parent_run_id).info.status == "FINISHED"


def test_the_resolved_specification_is_an_artifact_of_the_parent(
    tracker: Tracker, spec: SweepSpec, sweep_folder: Path, tmp_path: Path
) -> None:
    file = tracker.store.client.download_artifacts(tracker.store.parent_run_id, "space.yaml", str(tmp_path))
    assert load_spec(file) == spec
    assert (sweep_folder.parent / "mlartifacts").is_dir()


def test_more_points_than_one_call_may_carry(tracker: Tracker) -> None:
    run_id = tracker.begin_trial("00000-s0", {f"p{index}": index for index in range(250)}, {})
    tracker.log_points(run_id, [("score", float(step), step, step) for step in range(2500)])
    assert curve(tracker, run_id, "score") == [(step, float(step)) for step in range(2500)]
    assert len(tracker.store.client.get_run(run_id).data.params) == 250


def test_a_resumed_sweep_goes_on_with_its_runs_and_doubles_no_point(
    tracker: Tracker, spec: SweepSpec, sweep_folder: Path
) -> None:
    run_id = tracker.begin_trial("00000-s0", PARAMS, {})
    tracker.log_points(run_id, [("score", 0.5, 10, 1), ("score", 0.6, 20, 2), ("loss", 9.0, 5, 2)])
    tracker.end_trial(run_id, "KILLED", {})

    resumed = Tracker.open(spec, sweep_folder)
    assert resumed.store.parent_run_id == tracker.store.parent_run_id
    assert resumed.begin_trial("00000-s0", PARAMS, {}) == run_id
    assert resumed.store.client.get_run(run_id).info.status == "RUNNING"
    resumed.log_points(run_id, [("score", 0.6, 20, 77), ("loss", 8.0, 20, 77)])
    resumed.log_points(run_id, [("score", 0.7, 30, 78)])
    resumed.log_points(run_id, [("score", 0.7, 30, 79)])
    assert curve(resumed, run_id, "score") == [(10, 0.5), (20, 0.6), (30, 0.7)]
    assert curve(resumed, run_id, "loss") == [(5, 9.0), (20, 8.0)]
    assert len(children(resumed)) == 1


def test_two_sweeps_of_one_name_are_two_parents(tracker: Tracker, spec: SweepSpec, sweep_folder: Path) -> None:
    sweep_folder.rename(sweep_folder.with_name("demo.1"))
    sweep_folder.mkdir()
    second = Tracker.open(spec, sweep_folder)
    assert second.store.parent_run_id != tracker.store.parent_run_id
    assert second.store.experiment.experiment_id == tracker.store.experiment.experiment_id
    assert second.begin_trial("00000-s0", {}, {}) != tracker.begin_trial("00000-s0", {}, {})


def test_noted_scores_are_sent_in_time_a_run_a_call_and_at_the_end_at_the_latest(
    tracker: Tracker,
) -> None:
    first, second = (tracker.begin_trial(name, {}, {}) for name in ("00000-s0", "00001-s0"))
    tracker.pace.share = 1e-6
    tracker.note_points(first, [("score", 0.5, 10, 1)])
    assert curve(tracker, first, "score") == [(10, 0.5)]  # at once: nothing was sent before
    for step in (20, 30, 30):  # a trial that was killed tells its saved standing again
        tracker.note_points(first, [("score", step / 100, step, step), ("loss", 1.0, step, step)])
        tracker.note_points(second, [("score", 0.7, step, step)])
    assert curve(tracker, first, "score") == [(10, 0.5)]
    tracker.pace.due_at = 0.0
    tracker.send_noted()
    assert curve(tracker, first, "score") == [(10, 0.5), (20, 0.2), (30, 0.3)]
    assert curve(tracker, first, "loss") == [(20, 1.0), (30, 1.0)]
    assert curve(tracker, second, "score") == []
    tracker.end_trial(second, "FINISHED", {"feasible": True})
    assert curve(tracker, second, "score") == [(20, 0.7), (30, 0.7)]
    assert tracker.store.client.get_run(second).data.tags["feasible"] == "true"
    tracker.note_points(first, [("score", 0.9, 40, 40)])
    tracker.finish("KILLED")
    assert curve(tracker, first, "score")[-1] == (40, 0.9)


def register(tracker: Tracker, tmp_path: Path, trial_id: str) -> str | None:
    student = tmp_path / "student"
    student.mkdir(exist_ok=True)
    (student / "config.json").write_text(json.dumps({"trial": trial_id}))
    run_id = tracker.begin_trial(trial_id, {}, {})
    tracker.upload(run_id, student, "checkpoint")
    return tracker.register(run_id, "checkpoint", "tiny bert", ["best", "best-90"], {"score": 0.5})


def registered(tracker: Tracker, tmp_path: Path) -> str:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", tracker.store.client.tracking_uri)
        folder = mlflow.artifacts.download_artifacts("models:/tiny bert@best", dst_path=str(tmp_path / "got"))
    return json.loads((Path(folder) / "config.json").read_text())["trial"]


def test_the_alias_best_leads_to_the_files_and_a_run_has_one_version(tracker: Tracker, tmp_path: Path) -> None:
    assert register(tracker, tmp_path, "00000-s0") == "1"
    assert register(tracker, tmp_path, "00000-s0") == "1"
    assert registered(tracker, tmp_path) == "00000-s0"
    assert register(tracker, tmp_path, "00001-s0") == "2"
    assert registered(tracker, tmp_path) == "00001-s0"
    version = tracker.store.client.get_model_version_by_alias("tiny bert", "best-90")
    assert version.version == tracker.store.client.get_model_version_by_alias("tiny bert", "best").version
    assert version.tags == {"score": "0.5"}


def test_a_storage_that_was_moved_has_its_artifacts_and_models_in_the_new_place(
    tracker: Tracker, spec: SweepSpec, sweep_folder: Path, tmp_path: Path
) -> None:
    register(tracker, tmp_path, "00000-s0")
    (begun,) = children(tracker)
    moved = tmp_path / "moved" / "my runs"
    shutil.move(sweep_folder.parent, moved)
    mlflow.tracking._tracking_service.utils._artifact_repos_cache.clear()  # as another process begins
    again = Tracker.open(spec, moved / "demo")
    assert registered(again, tmp_path) == "00000-s0"
    artifacts = (moved / "mlartifacts").as_uri()
    (run,) = children(again)
    assert (run.info.run_id, run.info.artifact_uri) == (begun.info.run_id, f"{artifacts}/{begun.info.run_id}/artifacts")
    assert register(again, tmp_path, "00001-s0") == "2"
    assert registered(again, tmp_path) == "00001-s0"
    assert again.store.experiment.artifact_location == artifacts
    assert not sweep_folder.parent.exists()


def test_a_refused_update_does_not_stop_those_after_it(tracker: Tracker, caplog: pytest.LogCaptureFixture) -> None:
    run_id = tracker.begin_trial("00000-s0", {}, {})
    tracker.log_points("no-such-run", [("score", 0.5, 10, 1)])
    tracker.upload(run_id, Path("no/such/file"))
    tracker.log_points(run_id, [("score", 0.5, 10, 1)])
    assert curve(tracker, run_id, "score") == [(10, 0.5)]
    assert len(caplog.records) == 2


def with_uri(spec: SweepSpec, uri: str) -> SweepSpec:
    return spec.model_copy(update={"tracking": spec.tracking.model_copy(update={"uri": uri})})


def test_unusable_stores_are_told_in_one_line(spec: SweepSpec, sweep_folder: Path, tmp_path: Path) -> None:
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        garbage = tmp_path / "garbage.db"
        garbage.write_bytes(b"no database" * 1000)
        uris = [
            "http://127.0.0.1:9",
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            "gopher://x",
            str(tmp_path / "mlruns"),
            f"sqlite:///{garbage}",
            f"sqlite:///{garbage}/mlflow.db",
        ]
        for uri in uris:
            with pytest.raises(UserError) as caught:
                Tracker.open(with_uri(spec, uri), sweep_folder)
            assert str(caught.value).startswith(f"tracking.uri {uri}: ")
            assert "\n" not in str(caught.value)
    assert not [name for name in os.environ if name.startswith("MLFLOW_HTTP")]


def test_a_deleted_experiment_is_told(tracker: Tracker, spec: SweepSpec, sweep_folder: Path) -> None:
    tracker.store.client.delete_experiment(tracker.store.experiment.experiment_id)
    with pytest.raises(UserError, match=r"tracking\.experiment demo: it was deleted"):
        Tracker.open(spec, sweep_folder)


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("no"), "FAILED"), (UserError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_an_exception_before_the_end_ends_the_parent_run(tracker: Tracker, error: BaseException, status: str) -> None:
    tracker.pace.due_at = math.inf
    tracker.note_points(tracker.begin_trial("00000-s0", {}, {}), [("score", 0.5, 10, 1), ("score", 0.6, 20, 2)])
    with pytest.raises(type(error)), tracker:
        raise error
    assert tracker.store.client.get_run(tracker.store.parent_run_id).info.status == status
    (trial,) = children(tracker)
    assert trial.info.status == "RUNNING"  # not all of it may be here: a resumed sweep completes it
    assert curve(tracker, trial.info.run_id, "score") == [(10, 0.5), (20, 0.6)]


def test_a_parent_run_whose_files_cannot_be_stored_does_not_stay_open(
    spec: SweepSpec, sweep_folder: Path, template: Path
) -> None:
    (sweep_folder.parent / "mlflow.db").write_bytes(template.read_bytes())
    (sweep_folder.parent / "mlartifacts").write_text("a file where a folder belongs")
    with pytest.raises(UserError, match=r"^tracking\.uri sqlite"):
        Tracker.open(spec, sweep_folder)
    client = MlflowClient(f"sqlite:///{sweep_folder.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]


Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def server(tmp_path: Path, template: Path) -> Iterator[tuple[str, Start]]:
    """The address of an MLflow server and what starts it (again)."""
    port = free_port()
    store = tmp_path / "server.db"
    store.write_bytes(template.read_bytes())
    running: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{store}", "--workers", "1"]
        command += ["--artifacts-destination", str(tmp_path / "served")]
        with (tmp_path / "server.log").open("ab") as log:
            running.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        wait_for_server(port, running[-1], tmp_path / "server.log")
        return running[-1]

    yield f"http://127.0.0.1:{port}", start
    for process in running:
        stop(process)


def stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, 9)
        server.wait()


def test_a_server_that_goes_away_gets_everything_when_it_is_back(
    spec: SweepSpec,
    sweep_folder: Path,
    tmp_path: Path,
    server: tuple[str, Start],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri, start = server
    process = start()
    tracker = Tracker.open(with_uri(spec, uri), sweep_folder)
    first = tracker.begin_trial("00000-s0", PARAMS, {"seed": 0})
    tracker.log_points(first, [("score", 0.5, 10, 1)])

    stop(process)
    tracker.log_points(first, [("score", 0.6, 20, 2)])
    provisional = tracker.begin_trial("00001-s0", PARAMS, {})
    tracker.log_points(provisional, [("score", 0.7, 10, 3)])
    tracker.end_trial(first, "FINISHED", {})
    assert tracker.run_id_of(provisional) == provisional
    assert len(caplog.records) == 1  # one warning, however long it lasts

    process = start()
    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0.0)
    tracker.outbox.retry_at = 0.0
    assert register(tracker, tmp_path, "00001-s0") == "1"
    tracker.finish("FINISHED")
    second = tracker.run_id_of(provisional)
    assert {run.info.run_id for run in children(tracker)} == {first, second}
    assert curve(tracker, first, "score") == [(10, 0.5), (20, 0.6)]
    assert curve(tracker, second, "score") == [(10, 0.7)]
    assert tracker.store.client.get_run(first).info.status == "FINISHED"
    assert registered(tracker, tmp_path) == "00001-s0"

    stop(process)  # and stays away
    tracker.begin_trial("00002-s0", PARAMS, {})
    tracker.finish("FAILED")
    assert "MLflow misses the last 2 updates" in caplog.text
