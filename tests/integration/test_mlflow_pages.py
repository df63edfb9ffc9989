"""What people see in MLflow: the printed link, opened in a fresh browser. Skipped where there is no chromium."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from spd_ray.base.installation import own_command
from spd_ray.base.network import free_port
from spd_ray.config.load import load_spec
from spd_ray.config.sweep import SweepSpec
from spd_ray.tracking.tracker import Tracker
from tests.browser import browser, look
from tests.waiting import wait_for_server

SPACE = """\
name: seen
task: {name: rte}
search: {p0: {choices: [0.2, 0.4]}, stage1_lr: {low: 1e-5, high: 1e-4, log: true}}
"""
# The text, and the headings from left to right: where they stand on the page is not where they are in it.
SEEN = """[document.body.innerText, [...document.querySelectorAll("[role=columnheader][col-id*='`']")]
  .sort((a, b) => a.getBoundingClientRect().x - b.getBoundingClientRect().x).map((one) => one.innerText.trim())]"""
TRIALS = {  # id -> best dev score, feasible, status
    "00000-s0": (0.61, True, "finished"),
    "00001-s0": (0.67, True, "stopped"),
    "00002-s0": (0.99, False, "finished"),
    "00003-s0": (0.98, True, "failed"),
    "00004-s0": (0.64, True, "finished"),
}


def fill_store(spec: SweepSpec, folder: Path) -> Tracker:
    with Tracker.open(spec, folder) as tracker:
        for trial_id, (score, feasible, status) in TRIALS.items():
            params = {"method": {"p0": 0.4, "stage1_lr": 3e-5, "weight_decay": 0.0}, "seed": 0}
            run_id = tracker.begin_trial(trial_id, params, {"status": "running"})
            points = [("best_dev_score", score, 8, None), ("sparsity", 0.8999837, 8, None)]
            tracker.end_trial(run_id, "FINISHED", {"feasible": feasible, "status": status}, points)
    return tracker


def test_the_printed_link_opens_on_the_feasible_trials_best_first(tmp_path: Path) -> None:
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("no chromium here")
    (tmp_path / "space.yaml").write_text(SPACE)
    folder = tmp_path / "my runs" / "seen"
    folder.mkdir(parents=True)
    tracker = fill_store(load_spec(tmp_path / "space.yaml"), folder)
    command, address = tracker.store.ui_command(), tracker.store.page_address()
    assert command is not None
    assert command.startswith(own_command("mlflow", "ui", "--backend-store-uri") + " 'sqlite://")
    port = free_port()
    words = ["sh", "-c", f"exec {command} --host 127.0.0.1 --port {port} --workers 1"]
    with (tmp_path / "log").open("wb") as log:
        without_jobs = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # ten processes that nobody asks
        server = subprocess.Popen(words, env=without_jobs, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_server(port, server, tmp_path / "log")
        with browser(tmp_path / "profile") as chromium:
            url = address.replace(":5000/", f":{port}/")
            text, headings = look(chromium, url, "document.body.innerText.includes('0.8999837')", SEEN)
    finally:
        server.terminate()
        server.wait()
    assert re.findall(r"^0000\d-s0$", text, re.MULTILINE) == ["00001-s0", "00004-s0", "00000-s0"]
    assert "3 matching runs" in text
    for column in ("best_dev_score", "sparsity", "method.p0", "Sort: best_dev_score"):
        assert f"\n{column}\n" in text
    assert "method.weight_decay" not in text
    assert headings[:4] == ["Run Name", "best_dev_score", "sparsity", "method.p0"]
