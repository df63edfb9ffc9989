"""Files and folders that are whole whenever they are visible: written beside their place, then put there by a rename.

What is put there has the mode that the umask gives. A process that is killed leaves hidden names behind, which
`remove_unfinished` deletes.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_FILE, _FOLDER = ".tmp", ".part"  # how unfinished names end


@contextmanager
def whole_file(path: Path, outlives_power_cut: bool = False) -> Iterator[IO[bytes]]:
    """A binary file to write into that becomes `path`, or replaces it; none if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", suffix=_FILE, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fchmod(handle, 0o666 & ~_umask())
            if outlives_power_cut:
                os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text file: a full disk leaves the earlier one as it was."""
    with whole_file(path) as file:
        file.write(text.encode())


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that becomes `folder`, or replaces it; none if the block raises.

    Its files get the umask's mode, whatever the library that wrote them gave them.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=_FOLDER, dir=folder.parent))
    try:
        yield building
        mask = _umask()
        for path in [building, *building.rglob("*")]:
            path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        if folder.exists():
            shutil.rmtree(folder)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def remove_unfinished(folder: Path, name: str = "") -> None:
    """Delete what killed processes have left in `folder`: all of it, or that of `name` and `name`-..."""
    hidden = f".{name}-*" if name else ".*"
    for path in folder.glob(f"{hidden}{_FILE}"):
        path.unlink(missing_ok=True)
    for path in folder.glob(f"{hidden}{_FOLDER}"):
        shutil.rmtree(path, ignore_errors=True)


def _umask() -> int:
    """This process's umask; to ask the system for it is to set it, for all threads."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    raise OSError("/proc/self/status tells no umask")
