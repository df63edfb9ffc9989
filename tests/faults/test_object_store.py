"""A sweep in an object store, of which the driver's machine is lost with all that is on its disk."""

import os
import platform
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
from pyarrow import fs

from spd_ray.base.network import join_place
from spd_ray.records.storage import SweepStorage
from tests.object_store import mock_s3
from tests.sweeps import Sweeps, trial_processes, wait_for_more
from tests.waiting import wait_for

FILES = {"trials.parquet", "study.journal", "sweep.yaml", "mlflow_sweep_id"}
OF_A_SWEEP = FILES | {"checkpoints", "predictions", "steps", "state", "teacher"}


@pytest.fixture
def bucket() -> Iterator[str]:
    with mock_s3("127.0.0.1") as uri:
        yield uri


def states(store: fs.FileSystem, root: str) -> set[str]:
    """The states in the store that trials can go on from."""
    found = store.get_file_info(fs.FileSelector(f"{root}/state", recursive=True, allow_not_found=True))
    return {info.path for info in found if info.base_name == "SHA256SUMS"}


def test_a_sweep_outlives_the_disk_of_its_driver(sweep_of: Sweeps, usual, bucket, tmp_path, count, note):
    store, root = fs.FileSystem.from_uri(bucket)
    root, place = f"{root}/object_store", join_place(bucket, "object_store")
    lost = SweepStorage(place, "driver").folder.parent
    mlflow, (other, changes) = f"sqlite:///{tmp_path}/mlflow.db", usual
    words = sweep_of.command("object_store", "--storage", bucket, tracking={"uri": mlflow}, **changes)
    elsewhere = os.environ | {"TMPDIR": str(tmp_path)}  # as another machine's: its working copies are its own
    draw, kills, started = random.Random(3), count(1, 5), time.monotonic()
    for kill in range(kills):
        driver = sweep_of.launch([*words, *(["--resume"] if kill else [])], cwd=tmp_path)
        if not kill:
            assert wait_for(lambda: store.get_file_info(f"{root}/.lease").is_file, driver)
            second = subprocess.run([*words, "--resume"], capture_output=True, text=True, env=elsewhere)
            refusal = f"error: {place}: a driver on {platform.node()} (process {driver.pid}) runs this sweep"
            assert (second.returncode, second.stderr.startswith(refusal)) == (2, True), second.stderr
        assert wait_for_more(lambda: states(store, root), draw.randint(2, 8), driver), driver.communicate()
        trials = trial_processes(driver)
        driver.kill()
        driver.communicate()
        assert trials
        assert not psutil.wait_procs(trials, timeout=20)[1]
        shutil.rmtree(lost)
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"best sparse checkpoint: {join_place(place, 'checkpoints/0')[:40]}" in done.stdout
    assert "testing" not in done.stdout + done.stderr

    found = {info.base_name for info in store.get_file_info(fs.FileSelector(root))}
    assert found - {"state"} == OF_A_SWEEP - {"state"}
    fetched = tmp_path / "fetched" / "object_store"
    (fetched / "state").mkdir(parents=True)
    fs.copy_files(root, str(fetched), source_filesystem=store, destination_filesystem=fs.LocalFileSystem())
    other.assert_equals(fetched, mlflow)
    note("driver's machine lost, storage in S3", kills, fetched, time.monotonic() - started, other.seconds)

    drawn = subprocess.run(
        [sys.executable, "-m", "analysis", "--sweep", place, "--out", str(tmp_path / "report")],
        capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "report" / "index.html").exists()
