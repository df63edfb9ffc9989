"""Where sweeps lie: a folder of this machine, or behind a URI such as s3://bucket/runs; reading of single files."""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from analysis.errors import AnalysisError

SCHEMA_VERSION = "2"
TRIALS = "trials.parquet"
_VERSION_KEY = b"spd_ray.schema_version"
_DEPTH = 2  # levels below the folder given in which sweeps are looked for


class Folder(NamedTuple):
    """A folder on a file system, with the name under which the user knows it."""

    filesystem: fs.FileSystem
    path: str
    shown: str

    @property
    def name(self) -> str:
        """The folder's own name, which is the sweep's."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.filesystem, f"{self.path}/{name}", f"{self.shown}/{name}")

    def kind(self) -> fs.FileType:
        """Whether a file, a folder or nothing is there."""
        return self.filesystem.get_file_info(self.path).type

    def entries(self, kind: fs.FileType, recursive: bool = False) -> list["Folder"]:
        """The files or folders in it by ascending path, hidden ones left out; none where it does not exist."""
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        found = (info for info in self.filesystem.get_file_info(selector) if info.type == kind)
        below = sorted(info.path[len(self.path) :].lstrip("/") for info in found)
        return [self / path for path in below if not path.rsplit("/", 1)[-1].startswith(".")]

    def text(self) -> str:
        """The text of the file at this place, "" where there is none."""
        try:
            with self.filesystem.open_input_stream(self.path) as stream:
                return stream.read().decode()
        except (OSError, pa.ArrowException):
            return ""


def open_folder(place: str | Path) -> Folder:
    """The folder at a path or a URI. Raises AnalysisError where the URI cannot be opened."""
    shown = str(place)
    if "://" not in shown:
        return Folder(fs.LocalFileSystem(), str(Path(place).resolve()), shown)
    try:
        filesystem, path = fs.FileSystem.from_uri(shown)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise AnalysisError(f"{shown}: cannot be opened: {first_line(error)}") from error
    return Folder(filesystem, path.rstrip("/"), shown.rstrip("/"))


def find_sweeps(root: Folder) -> list[Folder]:
    """`root` if it holds trials.parquet, and the folders up to two levels below it that do."""
    try:
        if root.kind() != fs.FileType.Directory:
            raise AnalysisError(f"{root.shown}: no such folder; give one that holds sweeps, such as runs")
        return _search(root, _DEPTH)
    except (pa.ArrowException, OSError) as error:
        raise AnalysisError(f"{root.shown}: cannot be listed: {first_line(error)}") from error


def _search(folder: Folder, depth: int) -> list[Folder]:
    if (folder / TRIALS).kind() == fs.FileType.File:
        return [folder]
    if depth == 0:
        return []
    below = folder.entries(fs.FileType.Directory)
    return [found for child in below for found in _search(child, depth - 1)]


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 160 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def broken(shown: str, error: BaseException) -> AnalysisError:
    """The error of a file that is no Parquet file, is cut short, or lacks a column."""
    return AnalysisError(f"{shown}: cannot be read as a sweep's Parquet file: {first_line(error)}")


def check_version(schema: pa.Schema, shown: str) -> None:
    """Raise AnalysisError where the schema of the file `shown` is of another version."""
    version = (schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version != SCHEMA_VERSION:
        raise AnalysisError(f"{shown}: schema version {version} (spd_ray.schema_version), not {SCHEMA_VERSION}")


def read_file(file: Folder, columns: list[str], condition: ds.Expression | None = None) -> pa.Table:
    """The columns and rows asked for, both pushed down to Parquet, after a check of the schema's version."""
    try:
        dataset = ds.dataset(file.path, filesystem=file.filesystem, format="parquet")
        check_version(dataset.schema, file.shown)
        return dataset.to_table(columns=columns, filter=condition)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise broken(file.shown, error) from error
