"""The Ray cluster to run on: a running one, or a private one of this machine; what it has, and what it may get.

Why so: docs/decisions.md #embedded-default, #a-ray-of-its-own, #gpus-of-a-process, #auto-is-resolved-once.
"""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private import ray_constants
from ray._private.accelerators import RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO_ENV_VAR as HIDE_GPUS_AT_ZERO
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from spd_ray.base.environment import gpus_as_outside, variable_as
from spd_ray.base.errors import UserError
from spd_ray.base.user_code import ALLOWED, code_is_allowed

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # where `ray up` leaves the autoscaler's configuration on the head
KUBERAY_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
LONGEST_SOCKET = 107  # bytes of a Unix socket's path
SOCKET = "/session_2000-01-01_00-00-00_000000_0000000/sockets/plasma_store"  # what Ray puts below its folder
PREFIX, OPEN = "spd-", "r"  # Ray opens its folder to all: it lies in one that is not
LONGEST_FOLDER = LONGEST_SOCKET - len(SOCKET) - len(f"/{PREFIX}12345678/{OPEN}")

_private = ExitStack()  # what `leave_ray` undoes of a private Ray


def join_ray(address: str | None, logging_level: str) -> None:
    """Join the cluster at `address`, or start one of this machine alone, which ends with `leave_ray` or this process.

    Does nothing where this process has joined one already. Raises UserError where no folder is fit for a private Ray.
    A worker that gets no GPU sees none: Ray 2.60 hides them only where it is told to, by a variable of the worker.
    """
    if ray.is_initialized():
        return
    if address is not None:
        workers = {"env_vars": {HIDE_GPUS_AT_ZERO: "1", **({ALLOWED: "1"} if code_is_allowed() else {})}}
        ray.init(address, runtime_env=workers, log_to_driver=False, logging_level=logging_level)
        return
    try:
        _start_private(logging_level)
    except BaseException:
        leave_ray()
        raise


def _start_private(logging_level: str) -> None:
    """A Ray that only this process's user can reach, on the loopback interface, in a short folder of its own.

    Ray listens there alone by itself on macOS and Windows, and elsewhere under a switch that it reads when it is
    imported, as it does that of `uv run`'s hook, which would upload the working directory: hence both settings. Its
    token goes by the environment: Ray's own way is a file in the home that others may read. A worker's environment is
    that in which Ray was started: on its PATH are the programs of this Python, such as ninja, also where that is not
    activated.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False
    folder = tempfile.mkdtemp(prefix=PREFIX, dir=folder_for_sockets())
    _private.callback(shutil.rmtree, folder, ignore_errors=True)
    if os.environ.get("RAY_AUTH_MODE", "token").lower() == "token":
        tokens = AuthenticationTokenLoader.instance()
        _private.callback(tokens.reset_cache)
        _private.enter_context(variable_as("RAY_AUTH_TOKEN_PATH", None))
        _private.enter_context(variable_as("RAY_AUTH_TOKEN", secrets.token_hex(32)))
        tokens.reset_cache()
    os.environ[HIDE_GPUS_AT_ZERO] = "1"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    with gpus_as_outside(), variable_as("PATH", path), _without_monitors():
        ray.init(
            "local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging_level,
            _temp_dir=f"{folder}/{OPEN}",
        )


@contextmanager
def _without_monitors() -> Iterator[None]:
    """Ray starts no autoscaler and no reader of logs, which here have nothing to do: three seconds of a core.

    `ray start` has options for them, `ray.init` has none.
    """
    params = ray._private.parameter.RayParams
    ray._private.parameter.RayParams = partial(params, no_monitor=True, include_log_monitor=False)
    try:
        yield
    finally:
        ray._private.parameter.RayParams = params


def leave_ray() -> None:
    """Leave the cluster; a private one ends, and nothing is left of it."""
    ray.shutdown()
    _private.close()


def folder_for_sockets() -> str:
    """The temporary folder, or where its path is too long for a socket, another. Raises UserError if none is fit."""
    folders = (tempfile.gettempdir(), "/tmp", "/dev/shm")
    for folder in folders:
        if len(os.fsencode(folder)) <= LONGEST_FOLDER and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise UserError(
        f"TMPDIR: Ray needs a folder that can be written, with a path of at most {LONGEST_FOLDER} characters, for its "
        f"sockets, and none of {', '.join(folders)} is one; set TMPDIR to such a folder"
    )


def gpu_names() -> list[str]:
    """The GPUs of the cluster that this process has joined, one by one, as Ray calls their type ("GPU": unknown)."""
    names = []
    for node in ray.nodes():
        kinds = [name.partition(":")[2] for name in node["Resources"] if name.startswith("accelerator_type:")]
        names += int(node["Resources"].get("GPU", 0)) * (kinds[:1] or ["GPU"]) if node["Alive"] else []
    return names


def capacity(address: str | None) -> dict[str, float]:
    """CPUs and GPUs of the cluster that this process has joined at `address`, with those that it may still start.

    Where nodes come and go, the autoscaler's own configuration says how many of which type; it is found on the head.
    """
    now = ray.cluster_resources()
    config = autoscaler_config() if address is not None else {}
    return {name: max(now.get(name, 0.0), most(name, config)) for name in ("CPU", "GPU")}


def autoscaler_config() -> dict[str, Any]:
    """The configuration of the autoscaler of the cluster whose head this machine is; empty where there is none.

    `ray up` leaves it in a file; KubeRay has it in the cluster's own resource, which the head's pod may read.
    """
    if BOOTSTRAP.expanduser().exists():
        return dict(yaml.safe_load(BOOTSTRAP.expanduser().read_text()))
    if "RAY_CLUSTER_NAME" in os.environ and KUBERAY_NAMESPACE.exists():
        from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer

        return dict(AutoscalingConfigProducer(os.environ["RAY_CLUSTER_NAME"], KUBERAY_NAMESPACE.read_text().strip())())
    return {}


def most(resource: str, config: Mapping[str, Any]) -> float:
    """How much of `resource` the nodes of `config`, an autoscaler's configuration, have together at most.

    The head counts once. Of its workers the types that have most of it come first, up to the cluster's own limit.

    >>> types = {"head": {"resources": {"CPU": 2}}, "gpu": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 8}}
    >>> config = {"head_node_type": "head", "max_workers": 5, "available_node_types": types}
    >>> most("GPU", config), most("CPU", config)
    (5.0, 22.0)
    """
    types = dict(config.get("available_node_types", {}))
    head = types.pop(config.get("head_node_type"), {})
    left, total = config.get("max_workers", 0), float(head.get("resources", {}).get(resource, 0))
    each = {name: float(kind.get("resources", {}).get(resource, 0)) for name, kind in types.items()}
    for name in sorted(types, key=lambda name: -each[name]):
        count = min(left, types[name].get("max_workers", left))
        total += count * each[name]
        left -= count
    return total
