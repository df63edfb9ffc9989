"""Waiting for what another process or thread does."""

import math
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil


def wait_for(
    condition: Callable[[], Any],
    process: psutil.Popen | subprocess.Popen[bytes] | None = None,
    seconds: float = math.inf,
) -> Any:
    """What `condition` returns as soon as that is true; False once `process` has ended, or after `seconds`.

    A limit in seconds belongs to what is claimed ("is gone within 20 s"). Where a test only waits for what comes next
    it gives none: how long that takes is the machine's affair, and pytest's own limit ends a test that hangs.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end or (process is not None and process.poll() is not None):
            return False
        time.sleep(0.02)
    return found


def wait_for_server(port: int, process: psutil.Popen | subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the MLflow server of `process` answers; AssertionError with what it has written where it ends."""
    assert wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health"), process), log.read_text()


def _answers(url: str) -> bool:
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url).close()
    except OSError:
        return False
    return True
