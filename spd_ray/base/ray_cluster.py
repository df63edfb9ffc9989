"""The Ray cluster to run on: a running one, or a private one of this machine, which needs nothing of the user's home."""

import os
import secrets
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import ray
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader

from spd_ray.base.errors import UserError

LONGEST_SOCKET = 107  # bytes of a Unix socket's path
SOCKET = "/session_2000-01-01_00-00-00_000000_0000000/sockets/plasma_store"  # what Ray puts below its folder
PREFIX = "spd-"
LONGEST_FOLDER = LONGEST_SOCKET - len(SOCKET) - len(f"/{PREFIX}12345678")
OF_THE_USER = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

_private = ExitStack()  # what `leave_ray` undoes of a private Ray


def join_ray(address: str | None, logging_level: str) -> None:
    """Join the cluster at `address`, or start one of this machine alone, which ends with `leave_ray` or this process.

    Does nothing where this process has joined one already. Raises UserError where no folder is fit for a private Ray.
    """
    if ray.is_initialized():
        return
    put_interpreter_on_path()
    if address is not None:
        ray.init(address, log_to_driver=False, logging_level=logging_level)
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
    token goes by the environment: Ray's own way is a file in the home that others may read.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False
    folder = tempfile.mkdtemp(prefix=PREFIX, dir=folder_for_sockets())
    _private.callback(shutil.rmtree, folder, ignore_errors=True)
    if os.environ.get("RAY_AUTH_MODE", "token").lower() == "token":
        before = {name: os.environ.pop(name) for name in OF_THE_USER if name in os.environ}
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        _private.callback(_restore_token, before)
        AuthenticationTokenLoader.instance().reset_cache()
    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging_level, _temp_dir=folder)


def _restore_token(before: dict[str, str]) -> None:
    del os.environ["RAY_AUTH_TOKEN"]
    os.environ.update(before)
    AuthenticationTokenLoader.instance().reset_cache()


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


def put_interpreter_on_path() -> None:
    """Let workers find the programs of this Python's environment, such as ninja, also where it is not activated.

    A worker's environment is that of the process that started Ray.
    """
    own, folders = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath).split(os.pathsep)
    if own not in folders:
        os.environ["PATH"] = os.pathsep.join([own, *folders])
