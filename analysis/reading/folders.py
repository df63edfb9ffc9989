"""Where sweeps are: a folder of this machine, or behind a URI such as s3://bucket/runs."""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from analysis.errors import AnalysisError

TRIALS = "trials.parquet"
_LEVELS = 2  # of folders below the given one in which sweeps are looked for


class Folder(NamedTuple):
    """A folder or file on a file system, with the name under which the user knows it."""

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
        """The files or folders in it by ascending path, without hidden ones; none where it does not exist."""
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
    """`root` itself if it holds trials.parquet, else the folders up to two levels below it that do."""
    try:
        if root.kind() != fs.FileType.Directory:
            raise AnalysisError(f"{root.shown}: no such folder; give one that holds sweeps, such as runs")
        return _search(root, _LEVELS)
    except (pa.ArrowException, OSError) as error:
        raise AnalysisError(f"{root.shown}: cannot be listed: {first_line(error)}") from error


def _search(folder: Folder, levels: int) -> list[Folder]:
    if (folder / TRIALS).kind() == fs.FileType.File:
        return [folder]
    if levels == 0:
        return []
    below = folder.entries(fs.FileType.Directory)
    return [found for child in below for found in _search(child, levels - 1)]


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 160 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
