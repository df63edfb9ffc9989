"""The doctor as a person runs it: on this machine, and on a Ray cluster that wants a token."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spd_ray.base.network import free_port
from tests.waiting import wait_for

TOKEN, OTHER = "a-token-of-a-test-0123456789", "another-token-of-a-test-9876543210"


def doctor(environment: dict[str, str], *words: object) -> tuple[int, dict[str, str], str]:
    """Exit code, the line of each check, and what was written to stderr."""
    command = [sys.executable, "-m", "spd_ray.doctor", *(str(word) for word in words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = {line[9:21].strip(): line for line in done.stdout.splitlines()}
    return done.returncode, lines, done.stderr


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own with a token."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}


@contextmanager
def cluster(environment: dict[str, str]) -> Iterator[str]:
    """The address of a Ray head on this machine, ended with all its processes."""
    port = free_port()
    words = ["ray", "start", "--head", "--block", "--port", str(port), "--node-ip-address=127.0.0.1"]
    head = subprocess.Popen(
        [*words, "--include-dashboard=false", "--num-cpus=2"], env=environment, stdout=-3, stderr=-3
    )
    try:
        assert wait_for(lambda: b"raylet" in children(head.pid), head), "the head did not come up"
        yield f"127.0.0.1:{port}"
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait()


def children(pid: int) -> bytes:
    """The names of the processes that `pid` has started."""
    return subprocess.run(["ps", "-o", "comm=", "--ppid", str(pid)], capture_output=True).stdout


def path_without_ninja(folder: Path) -> str:
    """A PATH on which only the compiler is left of the folders that have ninja: the environment is not activated."""
    folder.mkdir()
    (folder / "c++").symlink_to(str(shutil.which("c++")))
    words = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join([str(folder), *(word for word in words if not (Path(word) / "ninja").exists())])


def test_this_installation_is_fit_for_a_sweep(environment, tmp_path):
    path = path_without_ninja(tmp_path / "bin")  # this Python's own is found
    code, lines, errors = doctor(environment | {"PATH": path}, "--storage", tmp_path / "runs")
    assert code == 0, (lines, errors)
    checks = [
        "versions",
        "token file",
        "storage",
        "mlflow",
        "cache",
        "nodes",
        "shared",
        "devices",
        "token",
        "compiler",
        "gloo",
    ]
    assert list(lines)[:11] == checks
    assert "2 processes on 1 node: right" in lines["gloo"]
    assert errors == ""
    assert not (tmp_path / "runs").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "token"]


def test_a_cluster_is_joined_with_its_token_and_with_no_other(environment, tmp_path):
    (tmp_path / "other").write_text(OTHER)
    with cluster(environment) as address:
        right = doctor(environment, "--address", address, "--storage", tmp_path)
        wrong = doctor(environment | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")}, "--address", address)
    assert right[0] == 0, right
    assert "every node asks for the token" in right[1]["token"]
    assert wrong[0] == 1
    assert "does it want a token" in wrong[1]["ray"]
    assert TOKEN not in str(right)
    assert OTHER not in str(wrong)
    assert right[2] + wrong[2] == ""


def test_a_cluster_that_is_not_there_and_a_bad_storage_are_two_lines(environment):
    code, lines, errors = doctor(environment, "--address", "127.0.0.1:1", "--storage", "/proc/nowhere")
    assert code == 1
    assert lines["ray"].startswith("failed")
    assert "refused" in lines["ray"]
    assert lines["storage"].startswith("failed")
    assert errors == ""


def test_what_this_machine_starts_for_itself_is_private_and_needs_no_home_and_no_short_tmpdir(tmp_path):
    """On loopback only, under a token that no file has, whatever proxy is set; and nothing is left of it."""
    script = """
import os, psutil, ray
from pathlib import Path
from spd_ray.checks.nodes import ray_connection

with ray_connection(None):
    me = psutil.Process()
    sockets = [s for one in [me, *me.children(recursive=True)] for s in one.net_connections("tcp")]
    listening = {s.laddr.ip.removeprefix("::ffff:") for s in sockets if s.status == "LISTEN"}
    folder, tokens = Path(ray._private.worker._global_node.temp_dir).parent, [os.environ["RAY_AUTH_TOKEN"]]
    servers = [one for one in me.children(recursive=True) if one.name() in ("gcs_server", "raylet")]
    tokens += [one.environ().get("RAY_AUTH_TOKEN") for one in servers]
    mode = oct(folder.stat().st_mode)[-3:]
    held = [path for path in folder.rglob("*") if path.is_file() and tokens[0].encode() in path.read_bytes()]
print(*listening, mode, len(servers), len(set(tokens)), len(held), folder.exists(), os.environ.get("RAY_AUTH_TOKEN"))
"""
    (tmp_path / ("long" * 30)).mkdir()
    changed = {"HOME": "/proc/nowhere", "TMPDIR": str(tmp_path / ("long" * 30)), "http_proxy": "http://127.0.0.1:9"}
    environment = {name: text for name, text in os.environ.items() if name != "RAY_AUTH_MODE"} | changed
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["127.0.0.1", "700", "2", "1", "0", "False", "None"], (done.stdout, done.stderr)
    assert list((tmp_path / ("long" * 30)).iterdir()) == []
