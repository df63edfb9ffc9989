"""The driver is killed, or interrupted by Ctrl-C or SIGTERM: `--resume` ends the sweep with every trial once."""

import random
import signal
import subprocess
import time

import psutil
import pytest

from spd_ray.base.errors import UserError
from spd_ray.records.trials import read_trials
from spd_ray.sweep import main
from tests.sweeps import trial_processes, wait_for_saves
from tests.waiting import wait_for

GONE_SECONDS = 20
SAVES = 24  # of a trial: one an epoch


def start(sweep_of, name: str) -> psutil.Popen:
    """Start the sweep, or go on with it."""
    resume = ["--resume"] if read_trials(sweep_of.storage / name) else []
    words = sweep_of.command(name, *resume)
    return sweep_of.launch(words, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=heed_interrupts)


def heed_interrupts() -> None:
    """What a shell has started in the background, as these tests may be, ignores Ctrl-C, and so does all it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(driver: psutil.Popen, by: signal.Signals = signal.SIGINT) -> float:
    """Ctrl-C, or `by`: the driver ends, with all its processes, and says how to go on; after how many seconds."""
    children, asked = driver.children(recursive=True), time.monotonic()
    driver.send_signal(by)
    out, _ = driver.communicate()
    seconds = time.monotonic() - asked
    assert driver.returncode == 130, out
    assert seconds < 60
    assert "Traceback" not in out
    assert out.rstrip().splitlines()[-1].startswith("stopped; go on with: ")
    assert out.rstrip().endswith("--resume")
    assert not psutil.wait_procs(children, timeout=GONE_SECONDS)[1]
    return seconds


def begin(sweep_of, name: str) -> psutil.Popen:
    """Start the sweep, or go on with it; returns when its first trial of this session has a process."""
    driver = start(sweep_of, name)
    wait_for(lambda: trial_processes(driver), driver)
    return driver


def test_a_killed_driver_is_resumed_and_a_signal_stops_within_seconds(sweep_of, undisturbed, count, note):
    draw, kills, folder = random.Random(2), count(1, 10), sweep_of.storage / "killed_driver"
    started, killed = time.monotonic(), 0
    for _ in range(kills):
        driver = begin(sweep_of, folder.name)
        wait_for_saves(folder, draw.randint(0, SAVES * 4 // (kills + 2)), driver)
        time.sleep(draw.uniform(0.0, 0.3))
        trials, running = trial_processes(driver), driver.poll() is None
        driver.kill()
        driver.communicate()
        killed += running
        assert not psutil.wait_procs(trials, timeout=GONE_SECONDS)[1]
    with pytest.raises(UserError, match="add --resume, --replace or another --name"):
        main(sweep_of.command(folder.name)[3:])
    assert killed == kills

    terminating = interrupt(begin(sweep_of, folder.name), signal.SIGTERM)
    stopping = interrupt(begin(sweep_of, folder.name))
    for lines in range(1, 1 + count(0, 2)):  # the sweep's, before the driver is imported; the teacher's, before trials
        driver = start(sweep_of, folder.name)
        for _ in range(lines):
            driver.stdout.readline()
        interrupt(driver)

    done, _ = sweep_of(folder.name, "--resume")
    assert done.returncode == 0, done.stderr
    undisturbed.assert_equals(folder)
    note("driver killed", kills, folder, time.monotonic() - started, undisturbed.seconds)
    note("SIGTERM", 1, folder, terminating, 0.0, "the seconds are those until the driver had ended")
    note("Ctrl-C", 1, folder, stopping, 0.0, "the seconds are those until the driver had ended")
