"""The one teacher of a sweep: it lies in the sweep's storage by content, and each machine that runs trials fetches it.

Why so: docs/decisions.md #the-sweeps-teacher.
"""

import os
import platform
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from spd_ray.base import cache
from spd_ray.base.errors import UserError
from spd_ray.base.files import link_or_copy, remove_unfinished, whole_folder
from spd_ray.config.trial import TaskConfig
from spd_ray.records import layout
from spd_ray.records.provenance import TEACHER_FILES
from spd_ray.records.storage import SweepStorage
from spd_ray.training.teacher import Teacher, read_teacher, teacher_key

KIND = "shared-teachers"  # of the cache
Content = tuple[tuple[str, str], ...]  # of a teacher, as a key


def send_teacher(teacher: Teacher, storage: SweepStorage) -> None:
    """Put the teacher into the sweep's storage, in the place of any other."""
    place = layout.teacher(storage.folder, teacher.files_key)
    remove_unfinished(place.parent)
    with whole_folder(place) as building:
        for file in teacher.folder.iterdir():
            link_or_copy(file, building / file.name)
    storage.send(place)
    for other in storage.folders(place.parent):
        if other != place:
            storage.drop(other)


def has_teacher(storage: SweepStorage, files_key: str) -> bool:
    """Whether the teacher of that hash lies in the sweep's storage."""
    return layout.teacher(storage.folder, files_key) in storage.folders(layout.teachers(storage.folder))


def fetch_teacher(storage: SweepStorage, files_key: str) -> Path:
    """The folder of that teacher on this machine: it is fetched from the sweep's storage once.

    Raises UserError where the storage has none of that content.
    """
    there = layout.teacher(storage.folder, files_key)

    def fetch(folder: Path) -> None:
        storage.fetch(there)
        if not there.is_dir():
            raise UserError(f"{platform.node()}: {storage.shown(there)}: the sweep's teacher is not there")
        for file in there.iterdir():
            link_or_copy(file, folder / file.name)
        found = teacher_key(folder)
        if found != files_key:
            raise UserError(
                f"{storage.shown(there)}: the teacher's files are not those that the sweep was begun with (their hash "
                f"is {found}): put back what was there, or begin a sweep under another --name"
            )

    return cache.build_once(KIND, files_key, fetch)


def worker_teacher(place: str, task: TaskConfig, content: Mapping[str, str]) -> Teacher:
    """The teacher of the sweep in `place` with its tokenised data, kept by the worker from trial to trial."""
    return _kept(place, task, tuple(sorted(content.items())))


@lru_cache(maxsize=2)
def _kept(place: str, task: TaskConfig, items: Content) -> Teacher:
    content, storage = dict(items), SweepStorage(place, f"teacher-{os.getpid()}")
    storage.clear_copy()
    try:
        return read_teacher(fetch_teacher(storage, content[TEACHER_FILES]), task, content)
    finally:
        storage.clear_copy()
