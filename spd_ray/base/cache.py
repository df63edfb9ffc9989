"""A content-addressed cache on disk: many processes ask, one builds.

Entries are folders `<root>/<kind>/<key>`; a folder appears by one atomic rename, so it is complete
whenever it is visible.

Why so: docs/decisions.md #whole-or-not-at-all, #the-cache.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock

from spd_ray.base.errors import StorageError, UserError, storage_refusal
from spd_ray.base.files import remove_unfinished, whole_folder

SUMS = "SHA256SUMS"


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
