"""The storage is full, then read-only, in the middle of a sweep: one line, and `--resume` loses nothing."""

import os
import subprocess
import time
from contextlib import suppress

import pytest

from spd_ray.base.errors import UserError
from spd_ray.base.installation import own_command
from spd_ray.sweep import main
from tests.sweeps import wait_for_saves
from tests.waiting import wait_for

SIZE_MIB = 64


def mount(*words):
    return subprocess.run(["mount", *map(str, words)], capture_output=True).returncode == 0


@pytest.fixture
def storage(tmp_path):
    """A file system of 64 MiB, and in it one for the sweep's folder: the driver's lock beside that is always open."""
    folder = tmp_path / "lost_storage"
    mounted = []
    for path in (tmp_path, folder):
        if os.geteuid() != 0 or not mount("-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", path):
            pytest.skip("no file system can be mounted here: that takes root")
        mounted.append(path)
        folder.mkdir(exist_ok=True)
    yield tmp_path
    for path in reversed(mounted):
        subprocess.run(["umount", "--lazy", path], check=True)


def begin(sweep_of, storage, *arguments):
    """Start the sweep on `storage`; returns when a trial has saved a state in this session."""
    folder = storage / "lost_storage"
    words = sweep_of.command(folder.name, "--storage", str(storage), *arguments)
    driver = sweep_of.launch(words)
    assert wait_for_saves(folder, 1, driver)
    return driver


def assert_told(driver, refusal):
    """The driver ends, with one line on stderr that says what to do."""
    out, errors = driver.communicate()
    assert driver.returncode == 2, out + errors
    assert "Traceback" not in out + errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert f"{refusal}; mend that and go on with: {own_command('spd_ray.sweep')}" in last
    assert last.endswith("--resume")


def fill(files, driver):
    """Take all room that there is, at once, and what comes, until the driver has ended."""
    everything = bytes(SIZE_MIB * 2**20)
    while driver.poll() is None:
        for file in files:
            with suppress(OSError), file.open("ab", buffering=0) as stream:
                stream.write(everything)
        time.sleep(0.01)


def test_a_full_and_a_read_only_storage_are_told_and_lose_nothing(sweep_of, storage, undisturbed, note):
    started, folder = time.monotonic(), storage / "lost_storage"
    driver = begin(sweep_of, storage)
    others = [storage / "other", folder / "other"]
    fill(others, driver)
    assert_told(driver, "No space left on device")
    for other in others:
        other.unlink()

    driver = begin(sweep_of, storage, "--resume")
    assert wait_for(lambda: mount("-o", "remount,ro", folder), driver)
    assert_told(driver, "Read-only file system")
    with pytest.raises(UserError, match=f"^--storage {storage}: cannot be written .Read-only file system.$"):
        main(sweep_of.command(folder.name, "--storage", str(storage), "--resume")[3:])
    assert mount("-o", "remount,rw", folder)

    done, _ = sweep_of(folder.name, "--storage", str(storage), "--resume")
    assert done.returncode == 0, done.stderr
    undisturbed.assert_equals(folder)
    note("storage full, then read-only", 2, folder, time.monotonic() - started, undisturbed.seconds)
