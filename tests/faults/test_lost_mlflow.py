"""The MLflow server goes away in the middle of a sweep: training goes on, and nothing is missing afterwards."""

import re
import shutil
import time

import pytest

from spd_ray.base.errors import UserError
from spd_ray.config.load import load_spec
from spd_ray.records.storage import SweepStorage
from spd_ray.records.trials import read_trials
from spd_ray.study.ledger import Ledger
from spd_ray.study.study import create_study
from spd_ray.sweep import main
from spd_ray.tracking.missed_points import send_missed_points
from spd_ray.tracking.tracker import Tracker
from tests.integration.test_tracking import server, stop, template  # noqa: F401
from tests.sweeps import curves, mlflow_runs
from tests.waiting import wait_for

LONG = {"sampler": "grid", "trials": 2, "seeds": list(range(24))}


def parts(folder):
    return len(list((folder / "steps").glob("*/*.parquet")))


def begin(sweep_of, folder, uri, **changes):
    """Start the sweep; returns when a trial has put its first steps on disk."""
    words = sweep_of.command(folder.name, tracking={"uri": uri}, **changes)
    driver = sweep_of.launch(words)
    assert wait_for(lambda: parts(folder), driver)
    return driver


def test_a_server_that_stays_away_is_told_and_resume_sends_everything(sweep_of, undisturbed, note, server):  # noqa: F811
    uri, start = server
    process, folder, started = start(), sweep_of.storage / "lost_server", time.monotonic()
    driver = begin(sweep_of, folder, uri)
    stop(process)
    _, errors = driver.communicate()
    assert driver.returncode == 0, errors
    assert {trial.status for trial in read_trials(folder)} == {"finished"}
    said, missing = errors.strip().splitlines()[-2:]
    assert said.startswith("MLflow does not answer; the sweep goes on, updates wait")
    assert errors.count("MLflow does not answer") == 1
    assert re.fullmatch(r"MLflow misses the last \d+ updates of this sweep; --resume sends them", missing)
    with pytest.raises(UserError, match=r"^tracking\.uri"):
        main(sweep_of.command(folder.name, "--resume", tracking={"uri": uri})[3:])

    start()
    done, _ = sweep_of(folder.name, "--resume", tracking={"uri": uri})
    assert done.returncode == 0, done.stderr
    undisturbed.assert_equals(folder, uri)
    assert {trial.mlflow_run_id for trial in read_trials(folder)} == {
        r.info.run_id for r in mlflow_runs(folder, uri)[1]
    }
    note("MLflow server away to the end", 1, folder, time.monotonic() - started, undisturbed.seconds)


def test_a_server_that_is_away_for_a_minute_gets_everything(sweep_of, undisturbed_of, count, note, server):  # noqa: F811
    if count(0, 1) == 0:
        pytest.skip("two long sweeps; integration/test_tracking.py has a server that goes and comes")
    uri, start = server
    other = undisturbed_of("long", study=LONG)
    process, folder, started = start(), sweep_of.storage / "lost_server_long", time.monotonic()
    driver = begin(sweep_of, folder, uri, study=LONG)
    stop(process)
    before = parts(folder)
    time.sleep(60)
    during = parts(folder) - before
    start()
    _, errors = driver.communicate()
    assert driver.returncode == 0, errors
    assert during > 0
    assert "misses" not in errors
    other.assert_equals(folder, uri)
    note("MLflow server away for a minute", 1, folder, time.monotonic() - started, other.seconds)


def test_what_mlflow_misses_is_sent_from_parquet(undisturbed, tmp_path, template):  # noqa: F811
    folder = tmp_path / undisturbed.folder.name
    shutil.copytree(undisturbed.folder, folder, ignore=shutil.ignore_patterns("ray"))
    shutil.copy(template, tmp_path / "mlflow.db")
    spec = load_spec(undisturbed.folder.with_suffix(".yaml"))
    ledger = Ledger(spec, create_study(spec, folder / "study.journal"), folder)
    tracker = Tracker.open(spec, folder)
    for _ in range(2):
        send_missed_points(ledger, tracker, SweepStorage(str(folder), "driver"), train_examples=60)
        tracker.finish("FINISHED")
        sent, whole = curves(folder), curves(undisturbed.folder)
        for ((_, points),) in whole.values():
            for name in (
                "dev_score_read_back",
                "packed_bytes",
            ):  # of the retained students, at the end of every session
                points.pop(name, None)
        assert sent == whole
    runs = tracker.store.client.search_runs([tracker.store.experiment.experiment_id], "tags.`spd_ray.trial_id` != ''")
    assert {trial.mlflow_run_id for trial in ledger.trials.values()} == {run.info.run_id for run in runs}
