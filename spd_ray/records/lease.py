"""One driver a sweep, also in an object store: its driver renews a lease there, and another one is refused.

Stores that pyarrow opens have no conditional writes in common, so the lease is written, then read: of two drivers that
begin at once the later writer stays. One that finds another's lease in the place of its own writes nothing more.

Why so: docs/decisions.md #a-lease-in-a-store.
"""

import json
import os
import platform
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from spd_ray.base.errors import StorageError, UserError
from spd_ray.base.files import write_whole
from spd_ray.records.storage import SweepStorage, explain_refusals, open_store

NAME = ".lease"
BEAT_SECONDS = 10.0  # between two renewals
LEASE_SECONDS = 60.0  # without a renewal: it is taken over
SETTLE_SECONDS = 2.0  # after it was written: what another driver wrote at the same time is seen
STALE_SECONDS = 1000.0  # by the clocks, of which S3 takes none that is 15 minutes wrong

Told = dict[str, Any]  # what a lease says: holder, machine, host, process, beat


class Lease:
    """The lease of the sweep at a URI. `acquire`, then `confirm`, then `check` before anything is written."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._store, root = open_store(place)
        self._path = f"{root.rstrip('/')}/{NAME}"
        self.told: Told = {
            "holder": uuid.uuid4().hex,
            "machine": this_machine(),
            "host": platform.node(),
            "process": os.getpid(),
            "beat": 0,
        }
        self._written = 0.0
        self._taken_by: Told | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def acquire(self, say: Callable[[str], None]) -> None:
        """Write the lease, and renew it from now on.

        Where another machine holds one, wait whether it is renewed: then raise UserError. One of this machine was left
        by a driver that has died, for this one holds the lock of the working copy.
        """
        found, age = self._read()
        if found and found["machine"] != self.told["machine"] and age < STALE_SECONDS:
            say(f"a driver on {found['host']} has this sweep: taken over if it gives no sign for {LEASE_SECONDS:.0f} s")
            end = time.monotonic() + LEASE_SECONDS
            while time.monotonic() < end:
                time.sleep(min(1.0, LEASE_SECONDS / 10))
                now, _ = self._read()
                if now is None:
                    break
                if now != found:
                    raise self._refusal(now)
        self._write()
        self._thread.start()

    def confirm(self) -> None:
        """Raises UserError where another driver has written its own lease at the same time."""
        time.sleep(max(0.0, self._written + SETTLE_SECONDS - time.monotonic()))
        with explain_refusals():
            found, _ = self._read()
        if found and found["holder"] != self.told["holder"]:
            raise self._refusal(found)

    def check(self) -> None:
        """Raises StorageError where another driver has taken the sweep over."""
        if self._taken_by is not None:
            raise StorageError(f"a driver on {self._taken_by['host']} has taken this sweep over")

    def release(self) -> None:
        """Delete the lease if it is this driver's."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(OSError, pa.ArrowException):  # what is left is taken over
            found, _ = self._read()
            if found and found["holder"] == self.told["holder"]:
                self._store.delete_file(self._path)

    def _renew(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError, pa.ArrowException):  # a store that is away is tried again
                found, _ = self._read()
                if found and found["holder"] != self.told["holder"]:
                    self._taken_by = found
                    return
                self._write()

    def _read(self) -> tuple[Told | None, float]:
        """What the lease says, and its age by the clocks; None: there is none."""
        info = self._store.get_file_info(self._path)
        if info.type == fs.FileType.NotFound:
            return None, 0.0
        try:
            with self._store.open_input_stream(self._path) as file:
                told = json.loads(file.read())
        except FileNotFoundError:
            return None, 0.0
        return told, time.time() - info.mtime.timestamp()

    def _write(self) -> None:
        self.told = {**self.told, "beat": self.told["beat"] + 1}
        if isinstance(self._store, fs.LocalFileSystem):
            write_whole(Path(self._path), json.dumps(self.told))
        else:
            with self._store.open_output_stream(self._path) as file:
                file.write(json.dumps(self.told).encode())
        self._written = time.monotonic()

    def _refusal(self, found: Told) -> UserError:
        return UserError(
            f"{self._place}: a driver on {found['host']} (process {found['process']}) runs this sweep; wait for it or "
            f"give another --name"
        )


def this_machine() -> str:
    """A name for what shares this machine's working copies and their locks."""
    file = Path(tempfile.gettempdir()) / f"spd_ray-{os.getuid()}" / "machine"
    if not file.exists():
        write_whole(file, uuid.uuid4().hex)
    return file.read_text()


@contextmanager
def leased(storage: SweepStorage, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Hold the lease of a sweep in a store for the block; what is yielded confirms it, before anything is written.

    Does nothing for a sweep in a folder: the file lock of its driver holds there. Raises UserError where another driver
    runs the sweep, StorageError where the store cannot be used.
    """
    if not storage.is_remote:
        yield lambda: None
        return
    with explain_refusals():
        lease = Lease(storage.place)
        lease.acquire(say)
    storage.before_writing = lease.check
    try:
        yield lease.confirm
    finally:
        lease.release()
