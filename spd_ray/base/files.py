"""Files and folders that are whole whenever they are visible: written under a hidden name, then renamed; journals.

They have the mode that the umask gives. A process that is killed leaves hidden names behind, which `remove_unfinished`
deletes. A journal is an append-only file of JSON lines, readable after a kill at any moment.

Why so: docs/decisions.md #whole-or-not-at-all.
"""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_FILE, _FOLDER = ".tmp", ".part"  # how unfinished names end


@contextmanager
def whole_file(path: Path, outlives_power_cut: bool = False) -> Iterator[IO[bytes]]:
    """A binary file to write into that becomes `path`, or replaces it; none if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished(path, _FILE)
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            if outlives_power_cut:
                os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file: a full disk leaves the earlier one as it was."""
    with whole_file(path) as file:
        file.write(text.encode())


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that becomes `folder`, or replaces it; none if the block raises.

    Its files get the umask's mode: safetensors writes its own with 600.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished(folder, _FOLDER)
    try:
        unfinished.mkdir()
        yield unfinished
        mode = unfinished.stat().st_mode & 0o666
        for file in unfinished.rglob("*"):
            if file.is_file():
                file.chmod(mode)
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def link_or_copy(file: Path, to: Path) -> None:
    """The same file under another name: it takes no space where the file system has hard links."""
    try:
        os.link(file, to)
    except OSError:
        shutil.copy(file, to)


def remove_unfinished(folder: Path, name: str = "") -> None:
    """Delete what killed processes have left in `folder`: all of it, or that of `name` and `name`-..."""
    hidden = f".{name}-*" if name else ".*"
    for path in folder.glob(f"{hidden}{_FILE}"):
        path.unlink(missing_ok=True)
    for path in folder.glob(f"{hidden}{_FOLDER}"):
        shutil.rmtree(path, ignore_errors=True)


def _unfinished(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}{ending}")


def read_lines(path: Path) -> list[Any]:
    """The entries of a journal; none if there is no file. An incomplete last line is ignored."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def cut_torn_line(path: Path) -> None:
    """Remove a last line that a kill or a power cut left half-written, so that the next one begins on its own."""
    if path.exists():
        text = path.read_bytes()
        if text and not text.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(text.rfind(b"\n") + 1)


def append_lines(path: Path, entries: Iterable[Any], outlives_power_cut: bool = False) -> None:
    """Append `entries`, a line each, to a file that ends with a whole line, in one write.

    The lines survive a kill after this has returned, and a power cut if asked to. Raises OSError where the storage is
    full; lines that were written in part are removed again.
    """
    text = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries).encode()
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        if file.write(text) < len(text):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if outlives_power_cut:
            os.fsync(file.fileno())
