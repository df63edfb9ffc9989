"""A content-addressed cache, on disk or in shared memory: many processes ask, one builds.

Entries are folders `<root>/<kind>/<key>`; a folder appears by one atomic rename, so it is complete
whenever it is visible. On disk they stay; in shared memory an entry goes with the last process that uses it.

Why so: docs/decisions.md #whole-or-not-at-all, #the-cache, #memory-that-workers-share.
"""

import atexit
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock

from spd_ray.base.errors import StorageError, UserError, storage_refusal
from spd_ray.base.files import remove_unfinished, whole_folder

SUMS = "SHA256SUMS"
SHARED_MEMORY = Path("/dev/shm")  # a file system in the machine's memory, where there is one

_used: dict[Path, int] = {}  # entries in shared memory that this process uses, each with its open lock


def cache_root() -> Path:
    """`$SPD_RAY_CACHE`, else `~/.cache/spd_ray`."""
    return Path(os.environ.get("SPD_RAY_CACHE", "~/.cache/spd_ray")).expanduser()


def folder_of(kind: str, key: str) -> Path:
    """Where the entry is, if it has been built."""
    return cache_root() / kind / key


def content_key(parts: dict[str, Any]) -> str:
    """The first 16 hex digits of the SHA-256 of `parts` as canonical JSON."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def files_key(files: Iterable[Path]) -> str:
    """The first 16 hex digits of the SHA-256 of the files' names and bytes."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode())
        digest.update(bytes.fromhex(_sha256(file)))
    return digest.hexdigest()[:16]


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS of the files in `folder`: `sha256sum -c SHA256SUMS` checks it too."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != SUMS)
    (folder / SUMS).write_text("".join(f"{_sha256(file)}  {file.name}\n" for file in files))


def check_sums(folder: Path) -> None:
    """Raises ValueError naming the file that is not as `write_sums` found it."""
    try:
        for line in (folder / SUMS).read_text().splitlines():
            digest, name = line.split("  ", 1)
            if _sha256(folder / name) != digest:
                raise ValueError(f"{folder / name}: not as it was written (its SHA-256 differs from {SUMS})")
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def build_once(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder `<root>/<kind>/<key>`, calling `build(folder)` first if it is absent.

    `build` writes into a temporary folder that is renamed when it returns. Processes that ask for the
    same key meanwhile wait for the one that builds. If `build` raises, nothing is kept. Raises UserError where the
    cache cannot be written.
    """
    folder = folder_of(kind, key)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if folder.is_dir():
                return folder
            remove_unfinished(folder.parent, key)
            with whole_folder(folder) as building:
                build(building)
    except Exception as error:
        refusal = storage_refusal(error)
        if refusal is None or isinstance(error, UserError | StorageError):
            raise
        raise UserError(f"{cache_root()}: {refusal}; mend that, or set SPD_RAY_CACHE to another folder") from error
    return folder


def memory_root() -> Path:
    """This user's own folder in shared memory."""
    return SHARED_MEMORY / f"spd_ray-{os.getuid()}"


def share_once(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """`build_once` in shared memory: the entry lasts as long as a process uses it.

    This process does from now until it calls `leave` or ends, be it by a kill: a lock says so, which the system takes
    back. Raises OSError where shared memory takes nothing, or no more.
    """
    folder, lock = memory_root() / kind / key, _lock_of(memory_root() / kind / key)
    while folder not in _used:
        _make_own_folder(folder.parent)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _lock_alone(descriptor, lock) and not folder.is_dir():
                remove_unused()
                remove_unfinished(folder.parent, key)
                with whole_folder(folder) as building:
                    build(building)
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # while another process builds, this one waits here
            if folder.is_dir() and _is_at(descriptor, lock):
                _used[folder] = descriptor
        finally:
            if _used.get(folder) != descriptor:
                os.close(descriptor)
    return folder


def leave(folder: Path) -> None:
    """This process uses that entry no longer; it goes if no other does. What is mapped of it stays as it is."""
    descriptor = _used.pop(folder)
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # else two that leave at once would each find the other
    _remove_if_alone(folder, descriptor)


def remove_unused() -> None:
    """Remove the entries in shared memory that no process uses: those of processes that were killed."""
    for lock in memory_root().glob("*/*.lock"):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except FileNotFoundError:  # another process has just removed it
            continue
        _remove_if_alone(lock.with_suffix(""), descriptor)


@atexit.register
def _leave_all() -> None:
    for folder in list(_used):
        leave(folder)


def _remove_if_alone(folder: Path, descriptor: int) -> None:
    lock = _lock_of(folder)
    try:
        if _lock_alone(descriptor, lock):
            remove_unfinished(folder.parent, folder.name)
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink()
    finally:
        os.close(descriptor)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _lock_alone(descriptor: int, lock: Path) -> bool:
    """Whether this process now holds the lock alone; not where the file has been removed meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _is_at(descriptor, lock)


def _is_at(descriptor: int, lock: Path) -> bool:
    """Whether the open file is still the one of that path."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    except FileNotFoundError:
        return False


def _make_own_folder(folder: Path) -> None:
    """Make a folder in `memory_root`, which only this user may enter. Raises PermissionError where it is another's."""
    root = memory_root()
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{root} belongs to somebody else")
    folder.mkdir(exist_ok=True)
