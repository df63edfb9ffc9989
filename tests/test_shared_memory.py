"""Entries in shared memory: built by one of many processes, whole or not there, gone with the last that uses them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spd_ray.base import cache
from tests.waiting import wait_for

# A process that asks for the entry; building it takes so many seconds, and is written down.
ASK = """
import sys, time
from pathlib import Path
from spd_ray.base import cache

cache.SHARED_MEMORY, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

def build(folder):
    with log.open("a") as file:
        file.write("built\\n")
    (folder / "half").write_text("half")
    time.sleep(seconds)
    (folder / "whole").write_text("whole")

print((cache.share_once("things", "abc", build) / "whole").read_text(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def memory(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(cache, "SHARED_MEMORY", folder)
    return folder


@pytest.fixture
def ask(memory, tmp_path):
    """Starts a process that asks for the entry and uses it until its input ends."""
    started = []

    def start(seconds: float = 0.0) -> subprocess.Popen:
        command = [sys.executable, "-c", ASK, str(memory), str(tmp_path / "log"), str(seconds)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def end(process: subprocess.Popen) -> None:
    process.stdin.close()
    assert process.wait() == 0


def files(memory: Path) -> list[str]:
    return sorted(str(path.relative_to(memory)) for path in memory.rglob("*") if path.is_file())


def entry(memory: Path) -> Path:
    return cache.memory_root() / "things" / "abc"


def test_of_two_that_ask_at_once_one_builds_and_the_last_that_leaves_removes_it(ask, memory, tmp_path):
    first, second = ask(seconds=1.0), ask(seconds=1.0)
    assert [process.stdout.readline() for process in (first, second)] == ["whole\n", "whole\n"]
    assert (tmp_path / "log").read_text() == "built\n"
    end(first)
    assert (entry(memory) / "whole").exists()
    end(second)
    assert files(memory) == []


def test_what_a_killed_builder_leaves_is_not_taken_and_who_waits_builds(ask, memory, tmp_path):
    first = ask(seconds=600.0)
    assert wait_for(lambda: list(memory.rglob("half")))
    second = ask()
    first.send_signal(signal.SIGKILL)
    assert second.stdout.readline() == "whole\n"
    assert (tmp_path / "log").read_text() == "built\n" * 2
    assert [Path(name).name for name in files(memory)] == ["abc.lock", "half", "whole"]  # one "half": the whole one's
    end(second)
    assert files(memory) == []


def test_what_is_used_stays_and_what_a_killed_user_had_goes(ask, memory):
    user = ask()
    assert user.stdout.readline() == "whole\n"
    cache.remove_unused()
    assert (entry(memory) / "whole").exists()
    user.kill()
    user.wait()
    assert (entry(memory) / "whole").exists()
    cache.remove_unused()
    assert files(memory) == []


def test_what_killed_processes_had_goes_before_another_entry_is_built(ask, memory):
    user = ask()
    assert user.stdout.readline() == "whole\n"
    user.kill()
    user.wait()
    folder = cache.share_once("things", "other", lambda folder: (folder / "file").touch())
    assert not entry(memory).exists()
    cache.leave(folder)
    assert files(memory) == []


def test_a_build_that_fails_leaves_nothing_and_another_may_try(memory):
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        cache.share_once("things", "abc", fail)
    assert [Path(name).name for name in files(memory)] == ["abc.lock"]
    folder = cache.share_once("things", "abc", lambda folder: (folder / "whole").touch())
    assert cache.share_once("things", "abc", fail) == folder
    cache.leave(folder)
    assert files(memory) == []


def test_only_its_user_may_enter_and_a_folder_that_another_has_made_is_not_used(memory, tmp_path):
    folder = cache.share_once("things", "abc", lambda folder: (folder / "whole").touch())
    assert cache.memory_root().stat().st_mode & 0o777 == 0o700
    cache.leave(folder)
    (memory / "elsewhere").mkdir()
    cache.memory_root().rename(tmp_path / "aside")
    cache.memory_root().symlink_to(memory / "elsewhere")
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        cache.share_once("things", "abc", lambda folder: None)
