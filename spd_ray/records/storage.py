"""Where a sweep lies: a folder that every process of it sees, or an object store's URI such as s3://bucket/runs/rte.

Everything is written as files into `SweepStorage.folder`. Where the place is a URI that folder is this process's
working copy, on its machine's own disk: files are sent to the store, and those of other processes are fetched.

Why so: docs/decisions.md #object-stores.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyarrow import fs

from spd_ray.base.cache import content_key
from spd_ray.base.errors import StorageError, UserError
from spd_ray.base.network import is_uri, join_place
from spd_ray.records import layout

_HERE = fs.LocalFileSystem()


class SweepStorage:
    """The place of a sweep. `fetch` and `send` do nothing where it is a path; both, and `drop`, raise StorageError.

    The arguments are paths within `folder`; they stand for the same path below the URI.
    """

    def __init__(self, place: str, copy: str) -> None:
        """`copy` names the working copy: no two processes of one machine may have the same."""
        self.place = place
        self.folder = Path(place)
        self._store: fs.FileSystem | None = None
        self.before_writing: Callable[[], None] = lambda: None  # raises where this process may write no more
        self._sent: dict[str, tuple[int, int]] = {}  # name of a file of the sweep -> size and time of what was sent
        if is_uri(place):
            self._store, root = open_store(place)
            self._root = root.rstrip("/")
            mine = Path(tempfile.gettempdir()) / f"spd_ray-{os.getuid()}" / content_key({"place": place})
            self.folder = mine / copy

    @property
    def is_remote(self) -> bool:
        return self._store is not None

    def shown(self, path: Path) -> str:
        """Where a user finds `path`."""
        if not self.is_remote:
            return str(path)
        return join_place(self.place, path.relative_to(self.folder).as_posix())

    def clear_copy(self) -> None:
        """Empty the working copy."""
        if self.is_remote:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)

    def fetch(self, path: Path) -> None:
        """Copy a file or folder from the store, if it has it."""
        if self._store is None:
            return
        with explain_refusals():
            kind = self._store.get_file_info(self._there(path)).type
            if kind != fs.FileType.NotFound:
                (path if kind == fs.FileType.Directory else path.parent).mkdir(parents=True, exist_ok=True)
                fs.copy_files(self._there(path), str(path), source_filesystem=self._store, destination_filesystem=_HERE)

    def fetch_files(self) -> None:
        """Copy the files in the sweep's folder from the store, without its subfolders."""
        if self._store is None:
            return
        with explain_refusals():
            selector = fs.FileSelector(self._root, allow_not_found=True)
            files = [info.base_name for info in self._store.get_file_info(selector) if info.is_file]
            names = [name for name in files if not name.startswith(".")]
        for name in names:
            self.fetch(self.folder / name)

    def send(self, path: Path) -> None:
        """Copy a file to the store, or a folder, which replaces the one that is there."""
        if self._store is None:
            return
        self.before_writing()
        there = self._there(path)
        with explain_refusals():
            if isinstance(self._store, fs.LocalFileSystem):  # an object store needs no folders
                self._store.create_dir(there if path.is_dir() else self._there(path.parent))
            fs.copy_files(str(path), there, source_filesystem=_HERE, destination_filesystem=self._store)
            if path.is_dir():
                for info in self._store.get_file_info(fs.FileSelector(there, recursive=True)):
                    if info.is_file and not (path / info.path[len(there) + 1 :]).exists():
                        self._store.delete_file(info.path)

    def send_files(self) -> None:
        """Send the changed files in the sweep's folder: the trials first, then the study, which must not know more.

        Only `trials.parquet` holds the trials there: fold the journal before.
        """
        if self._store is None:
            return
        files = [file for file in self.folder.iterdir() if file.is_file() and not file.name.startswith(".")]
        for file in sorted(files, key=lambda file: (file.name != layout.TRIALS_TABLE, file.name)):
            stamp = (file.stat().st_size, file.stat().st_mtime_ns)
            if file.name != layout.TRIALS_JOURNAL and self._sent.get(file.name) != stamp:
                self.send(file)
                self._sent[file.name] = stamp

    def drop(self, path: Path) -> None:
        """Delete a folder, here and in the store."""
        shutil.rmtree(path, ignore_errors=True)
        if self._store is not None:
            self.before_writing()
            with explain_refusals(), suppress(FileNotFoundError):
                self._store.delete_dir(self._there(path))

    def folders(self, path: Path) -> list[Path]:
        """The folders in `path`, here or in the store, without unfinished ones."""
        if self._store is None:
            return [folder for folder in path.glob("[!.]*") if folder.is_dir()]
        with explain_refusals():
            found = self._store.get_file_info(fs.FileSelector(self._there(path), allow_not_found=True))
        return [path / info.base_name for info in found if info.type == fs.FileType.Directory]

    def _there(self, path: Path) -> str:
        return f"{self._root}/{path.relative_to(self.folder).as_posix()}".removesuffix("/.")


@contextmanager
def explain_refusals() -> Iterator[None]:
    """Turn what pyarrow raises for a store in the block into a StorageError."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"the object store refuses: {' '.join(str(error).split())[:300]}") from error


def open_store(place: str) -> tuple[fs.FileSystem, str]:
    """The file system behind a URI and the path in it. Raises UserError for one that pyarrow cannot open."""
    parts = urlsplit(place)
    if parts.password or "secret_key" in dict(parse_qsl(parts.query)):
        raise UserError("--storage: a secret in it would be recorded; AWS_SECRET_ACCESS_KEY and its like are for that")
    try:
        return fs.FileSystem.from_uri(place)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"--storage {place}: {error}; a folder, or s3://, gs:// or abfss:// is needed") from None
