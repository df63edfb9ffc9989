"""The cluster files for real, on two hosts made of network namespaces, each with an sshd and its own processes.

A host sees only its own processes, home and temporary Ray folder, so `ray stop` in it stops nothing of this machine's,
and whatever it started dies with it.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from spd_ray.base.cache import folder_of
from spd_ray.base.network import join_place
from spd_ray.records import layout
from spd_ray.records.provenance import read_sweep_yaml
from spd_ray.records.storage import SweepStorage
from spd_ray.records.trials import read_trials
from spd_ray.training.teacher import teacher_key
from tests.object_store import CREDENTIALS, mock_s3
from tests.sweeps import SPACE, Sweeps
from tests.waiting import wait_for

SUBNET = f"10.203.{os.getpid() % 250}"
TOKEN = "a-token-of-a-test-0123456789"
RAY = ("gcs_server", "raylet", "ray::", "dashboard", "monitor")
MLFLOW = "sqlite:////tmp/ray/mlflow.db"
SWEEP = {
    "teacher": {**SPACE["teacher"], "learning_rates": [1e-3, 2e-3]},
    "study": {
        "sampler": "grid",
        "trials": 1,
        "seeds": [0, 1],
    },  # a trial on each at once, long enough for both to begin
    "method": {
        **SPACE["method"],
        "total_epochs": 90,
        "stage1_epochs": 45,
        "stage2_epochs": 15,
        "eval_every_epochs": 30,
    },
    "resources": {"cpus_per_worker": 1, "concurrent": 2},
    "checkpoints": {"keep": 2},
    "engine": {"sparse_kernels": "never"},
    "tracking": {"uri": MLFLOW, "report": False},
}
ROOT = Path(__file__).parents[2]
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
TOOLS = ("ip", "unshare", "ssh", "ssh-keygen", "rsync", "setsid")


def missing() -> str | None:
    """What this machine lacks for hosts of its own; None if nothing."""
    if os.geteuid() != 0:
        return "root"
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if SSHD is None:
        lacking.append("sshd")
    if lacking:
        return ", ".join(lacking)
    probe = f"spd-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True)
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True)
    return "leave to make network namespaces" if made.returncode else None


class Host(NamedTuple):
    """One host: a network namespace with an sshd."""

    address: str
    namespace: str
    home: Path
    init: int  # its first process

    def processes(self, *names: str) -> list[str]:
        """Command lines of the host's processes that contain one of `names`."""
        pids = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True).stdout.split()
        lines = []
        for pid in pids:
            with contextlib.suppress(OSError):
                lines.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
        return [line for line in lines if any(name in line for name in names)]


SSHD_CONFIG = """\
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
MaxStartups 100
MaxSessions 100
"""
INIT = """\
mount --bind {folder}/ray /tmp/ray && mount -t tmpfs tmpfs {copies} && {hide} &&
mount --bind {folder}/passwd /etc/passwd && mount -t tmpfs tmpfs /run &&
mkdir /run/sshd && exec {sshd} -D -e -f {folder}/sshd"""


def command(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


@contextlib.contextmanager
def hosts(folder: Path, count: int, variables: Mapping[str, str], only_head: Path) -> Iterator[list[Host]]:
    """`count` hosts on a bridge of this machine at `SUBNET`.1, their working copies of stores and homes their own.

    The login key is `folder/key`; a login has the `variables`; `only_head` is empty on all but the first. Nothing is
    left afterwards.
    """
    tag = os.getpid() % 10**6
    bridge = f"spdb{tag}"
    command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key")
    with contextlib.ExitStack() as stack:
        stack.callback(subprocess.run, ["ip", "link", "delete", bridge], capture_output=True)
        command("ip", "link", "add", bridge, "type", "bridge")
        command("ip", "address", "add", f"{SUBNET}.1/24", "dev", bridge)
        command("ip", "link", "set", bridge, "up")
        machines = []
        for n in range(count):
            hidden = None if n == 0 else only_head
            machines.append(stack.enter_context(host(folder / f"h{n}", bridge, f"{SUBNET}.{10 + n}", n, hidden)))
            exports = "".join(f"export {name}={value}\n" for name, value in variables.items())
            (machines[-1].home / ".bashrc").write_text(exports)
        yield machines


@contextlib.contextmanager
def host(folder: Path, bridge: str, address: str, number: int, hidden: Path | None) -> Iterator[Host]:
    """One host on `bridge`. Its home is a folder of its own with this Python's environment in it."""
    namespace, home = f"{bridge}-{number}", folder / "home"
    outer, inner = f"{bridge}o{number}", f"{bridge}i{number}"
    (folder / "ray").mkdir(parents=True)
    home.mkdir()
    Path("/tmp/ray").mkdir(exist_ok=True)
    (home / "spd_ray_venv").symlink_to(sys.prefix)
    (home / ".cache/spd_ray").mkdir(parents=True)
    kernels = folder_of("kernels", "").resolve()
    kernels.mkdir(parents=True, exist_ok=True)
    (home / ".cache/spd_ray/kernels").symlink_to(kernels)  # which take a minute to compile
    shutil.copy(folder.parent / "key.pub", folder / "authorized_keys")
    command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host_key")
    (folder / "sshd").write_text(SSHD_CONFIG.format(address=address, folder=folder))
    (folder / "passwd").write_text(f"root:x:0:0::{home}:/bin/bash\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
    with contextlib.ExitStack() as stack:
        stack.callback(subprocess.run, ["ip", "netns", "delete", namespace], capture_output=True)
        stack.callback(subprocess.run, ["ip", "link", "delete", outer], capture_output=True)
        command("ip", "netns", "add", namespace)
        inside = ["ip", "-n", namespace]
        command("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", namespace)
        command("ip", "link", "set", outer, "master", bridge, "up")
        command(*inside, "address", "add", f"{address}/24", "dev", inner)
        command(*inside, "link", "set", inner, "up")
        command(*inside, "link", "set", "lo", "up")
        command(*inside, "route", "add", "default", "dev", inner)
        copies = Path(tempfile.gettempdir()) / f"spd_ray-{os.getuid()}"
        copies.mkdir(exist_ok=True)
        hide = f"mount -t tmpfs tmpfs {hidden}" if hidden else "true"
        init = INIT.format(folder=folder, sshd=SSHD, copies=copies, hide=hide)
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", init]
        log = stack.enter_context((folder / "sshd.log").open("w"))
        sshd = subprocess.Popen(["ip", "netns", "exec", namespace, *isolated], stdout=log, stderr=log)
        stack.callback(sshd.wait, 20)
        stack.callback(sshd.kill)
        first = ["ps", "-o", "pid=", "--ppid", str(sshd.pid)]
        wait_for(lambda: "Server listening" in (folder / "sshd.log").read_text())
        init = int(subprocess.run(first, check=True, capture_output=True, text=True).stdout)
        yield Host(address, namespace, home, init)


def fill_in(config_file: Path, folder: Path, machines: list[Host]) -> None:
    """`cluster/local.yaml` for `machines`, which have the environment already: nothing is installed."""
    text = (ROOT / "cluster/local.yaml").read_text().replace("FILL_IN_HEAD", machines[0].address)
    text = text.replace("FILL_IN_WORKERS", ", ".join(machine.address for machine in machines[1:]))
    text = text.replace("FILL_IN_USER", "root").replace("FILL_IN_KEY", str(folder / "key"))
    config = yaml.safe_load(text)
    config["setup_commands"] = [line for line in config["setup_commands"] if "bin/pip" not in line]
    for starts in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        starts[1] = starts[1].replace("ray start", "ray start --num-cpus=1")  # one trial at once on each
    config["cluster_name"] += f"-{os.getpid()}"
    config_file.write_text(yaml.safe_dump(config))


class Launcher(NamedTuple):
    """The machine that types the commands: its folder, with a home that has the token, and its cluster file."""

    folder: Path
    config: Path

    def ray(self, *words: str) -> str:
        """`ray WORD local.yaml WORDS...`: its output. Raises AssertionError with the output where it fails."""
        environment = os.environ | {
            "HOME": str(self.folder / "launcher"),
            "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_TMPDIR": str(self.folder),
            "TMPDIR": str(self.folder),
        }
        full = [f"{sys.prefix}/bin/ray", words[0], str(self.config), *words[1:]]
        done = subprocess.run(full, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    token = tmp_path / "launcher/.ray/auth_token"
    token.parent.mkdir(parents=True)
    token.write_text(TOKEN)
    return Launcher(tmp_path, tmp_path / "local.yaml")


@pytest.mark.skipif(missing() is not None, reason=f"no hosts can be made here: {missing()}")
def test_two_hosts_come_up_run_a_sweep_on_both_without_a_shared_folder_and_nothing_is_left(launcher, tiny_teacher):
    """The head drives and workers tune the teacher, once, from a model that one of them does not have."""
    folder = launcher.folder
    model = shutil.copytree(tiny_teacher.configs[1].path, folder / "model")
    sweeps = Sweeps(folder, tiny_teacher, model={"path": str(model)}, **SWEEP)
    with (
        hosts(folder, 2, {**CREDENTIALS, "PYTHONPATH": str(ROOT)}, only_head=model) as machines,
        mock_s3(f"{SUBNET}.1") as bucket,
    ):
        place = shlex.quote(bucket)
        sweep = shlex.join([*sweeps.command("sweep")[1:5], "--address", "auto"])
        fill_in(launcher.config, folder, machines)
        launcher.ray("up", "--yes", "--no-config-cache")
        try:
            assert wait_for(lambda: all(machine.processes("raylet/raylet") for machine in machines))
            answers = []

            def both_have_joined():
                words = f"python -m spd_ray.doctor --address auto --storage {place} --mlflow {MLFLOW}"
                answers.append(launcher.ray("exec", words))
                return all(machine.address in answers[-1] for machine in machines)

            assert wait_for(both_have_joined), answers[-1]
            doctor = answers[-1]
            job = launcher.ray("exec", f"ray job submit -- python {sweep} --storage {place}")
            refused = launcher.ray("exec", "curl -s -o answer -w 'code %{http_code}' http://127.0.0.1:8265/api/jobs/")
            sockets = launcher.ray("exec", "ss -Hltn 'sport = :8265'")
            records = SweepStorage(join_place(bucket, "sweep"), "test")
            records.clear_copy()
            records.fetch(records.folder)
        finally:
            launcher.ray("down", "--yes")
        wait_for(lambda: not any(machine.processes(*RAY) for machine in machines), seconds=60)
        left = [machine.processes(*RAY) for machine in machines]
    addresses = sorted(machine.address for machine in machines)
    said = (
        *addresses,
        "every node asks for the token",
        "2 processes on 2 nodes",
        "every node writes is seen here",
    )
    assert [word for word in said if word not in doctor] == [], doctor
    assert "failed" not in doctor
    assert TOKEN not in doctor

    assert "teacher of sst2, on workers: " in job
    assert [trial.status for trial in read_trials(records.folder)] == ["finished"] * 2, job
    (teacher,) = layout.teachers(records.folder).iterdir()
    assert teacher.name == read_sweep_yaml(records.folder)["content"]["teacher_files"] == teacher_key(teacher)
    caches = [machine.home / ".cache/spd_ray" for machine in machines]
    assert [[entry.name for entry in cache.glob("shared-teachers/[!.]*/")] for cache in caches] == [[teacher.name]] * 2
    assert [len(list(cache.glob("teachers/[!.]*/"))) for cache in caches] == [1, 0]

    assert "code 401" in refused
    assert "127.0.0.1:8265" in sockets
    assert "0.0.0.0:8265" not in sockets
    assert left == [[], []]
