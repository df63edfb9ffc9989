"""The MLflow server goes away in the middle of a sweep: training goes on, and nothing is missing afterwards."""

import shutil
import subprocess
import time

import psutil

from spd_ray.backfill import fill_in
from spd_ray.ledger import Ledger
from spd_ray.space import create_study, load_spec
from spd_ray.tracking import Tracker
from tests.integration.test_tracking import server, stop, template  # noqa: F401
from tests.sweeps import curves, wait_for

LONG = {"sampler": "grid", "trials": 2, "seeds": list(range(12))}


def parts(folder):
    return len(list((folder / "steps").glob("*/*.parquet")))


def test_a_server_that_is_away_for_a_while_misses_nothing(
    sweep_of,
    undisturbed,
    undisturbed_of,
    count,
    note,
    server,  # noqa: F811
):
    uri, start = server
    seconds = count(8, 60)
    changes = {"study": LONG} if seconds > 8 else {}
    other = undisturbed_of("long", **changes) if changes else undisturbed
    process, folder = start(), sweep_of.storage / "lost_server"
    words = sweep_of.command(folder.name, tracking={"uri": uri}, **changes)
    started = time.monotonic()
    driver = psutil.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert wait_for(lambda: parts(folder), driver)
    stop(process)
    before = parts(folder)
    time.sleep(seconds)
    during = parts(folder) - before
    start()
    _, errors = driver.communicate(timeout=600)
    took = time.monotonic() - started
    assert driver.returncode == 0, errors
    assert during > 0
    assert errors.count("MLflow does not answer; the sweep goes on, updates wait") == 1
    other.assert_equals(folder, uri)
    note(f"MLflow server away for {seconds} s", 1, folder, took, other.seconds)


def test_what_mlflow_misses_is_sent_from_parquet(undisturbed, tmp_path, template):  # noqa: F811
    folder = tmp_path / undisturbed.folder.name
    shutil.copytree(undisturbed.folder, folder, ignore=shutil.ignore_patterns("ray"))
    shutil.copy(template, tmp_path / "mlflow.db")
    spec = load_spec(undisturbed.folder.with_suffix(".yaml"))
    ledger = Ledger(spec, create_study(spec, folder / "study.journal"), folder)
    tracker = Tracker.open(spec, folder)
    for _ in range(2):
        fill_in(ledger, tracker, train_examples=60)
        tracker.finish()
        sent, whole = curves(folder), curves(undisturbed.folder)
        for ((_, points),) in whole.values():
            points.pop("reloaded_score", None)  # of the retained students, at the end of every session
        assert sent == whole
    runs = tracker.client.search_runs([tracker.experiment.experiment_id], "tags.`spd_ray.trial_id` != ''")
    assert {trial.mlflow_run_id for trial in ledger.trials.values()} == {run.info.run_id for run in runs}
