"""The Ray cluster to run on: a running one, or one of this machine alone."""

import os
import sys
from pathlib import Path

import ray
from ray._private import ray_constants


def join_ray(address: str | None, logging_level: str) -> None:
    """Join the cluster at `address`, or start one of this machine alone, which ends with this process.

    The latter's servers listen on the loopback interface only. Ray does so by itself on macOS and Windows, and
    elsewhere under a switch that it reads when it is imported: hence both settings.
    """
    put_interpreter_on_path()
    if address is None:
        os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
        ray_constants.ENABLE_RAY_CLUSTER = False
        ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging_level)
    else:
        ray.init(address, log_to_driver=False, logging_level=logging_level)


def put_interpreter_on_path() -> None:
    """Let workers find the programs of this Python's environment, such as ninja, also where it is not activated.

    A worker's environment is that of the process that started Ray.
    """
    own, folders = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath).split(os.pathsep)
    if own not in folders:
        os.environ["PATH"] = os.pathsep.join([own, *folders])
