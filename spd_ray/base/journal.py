"""Append-only files of JSON lines, readable after a kill at any moment."""

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


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
