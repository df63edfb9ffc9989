"""A trial's process is killed with SIGKILL at random moments: the trial goes on from its state."""

import random
import time
from pathlib import Path

import psutil

from spd_ray.records.trials import read_trials
from tests.sweeps import trial_processes, wait_for_saves
from tests.waiting import wait_for

SAVES = 24  # of a trial: one an epoch


def kill_at_random(driver: psutil.Popen, folder: Path, kills: int, saves: int) -> int:
    """Kill a random trial process after a random number of states, up to `saves`, again and again; how often."""
    draw = random.Random(1)
    for done in range(kills):
        wait_for_saves(folder, draw.randint(0, saves), driver)
        time.sleep(draw.uniform(0.0, 0.3))
        if not wait_for(lambda: trial_processes(driver), driver):
            return done
        draw.choice(sorted(trial_processes(driver), key=lambda process: process.pid)).kill()
    return kills


def test_killed_trials_go_on_from_their_state(sweep_of, usual, count, note):
    kills, (other, changes) = count(3, 20), usual
    words = sweep_of.command("killed_trials", retries=kills, **changes)
    started, folder = time.monotonic(), sweep_of.storage / "killed_trials"
    driver = sweep_of.launch(words)
    killed = kill_at_random(driver, folder, kills, saves=SAVES * len(read_trials(other.folder)) // (kills + 2))
    _, errors = driver.communicate()
    seconds = time.monotonic() - started
    assert driver.returncode == 0, errors
    other.assert_equals(folder)
    assert killed == kills
    note("trial killed", kills, folder, seconds, other.seconds)
