"""How many of the teacher's outputs a trial records, and where they lie, for one process or for all of a machine.

Why so: docs/decisions.md #teachers-outputs, #memory-that-workers-share.
"""

import shutil
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from spd_ray.base import cache
from spd_ray.config.trial import TrialConfig
from spd_ray.data.batches import EncodedSplit
from spd_ray.engine import engine as engines
from spd_ray.model import compiled, surgery
from spd_ray.model.objective import Needs
from spd_ray.model.surgery import GraftedLayer
from spd_ray.training.teacher import Teacher
from spd_ray.training.teacher_outputs import (
    Allocate,
    LiveTeacher,
    PartlyRecordedTeacher,
    RecordedTeacher,
    TeacherOutputs,
    Tell,
    allocate_tables,
    bytes_needed,
    in_file,
    in_memory,
    in_new_file,
    record,
)

KIND = "activations"
VERSION = 2  # count it up when a table's layout changes: the cache cannot see code
MEMORY_LIMIT_BYTES = 4 * 2**30
SHARE_OF_GPU = 1 / 4  # of a worker's part of it, or of what is free where that is less
SHARE_OF_FREE = 1 / 2  # of a disk, of shared memory
PARTS = 8  # a training set is recorded in whole eighths: few sizes, so that trials find each other's files

PRIVATE = "each worker's memory"
SHARED = "memory that the workers of a machine share"
FILES = "files that the workers of a machine share"


class Allowance(NamedTuple):
    """On what terms a process records."""

    examples: int | None = None  # as many, for so it was decided; None: as many as there is room for
    gpus: float = 1.0  # its part of a GPU
    shares: bool = False  # what is not too large for memory, with the other processes of the machine
    tell: Tell | None = None


ALONE = Allowance()


class Kept(NamedTuple):
    """What this process keeps from trial to trial, and the entry in shared memory where it lies in one."""

    tables: RecordedTeacher
    folder: Path | None


_kept: OrderedDict[Hashable, Kept] = OrderedDict()  # the least recently used first


def choose_teacher_outputs(
    config: TrialConfig,
    teacher: Teacher,
    model: PreTrainedModel,
    layers: Sequence[GraftedLayer],
    allowed: Allowance = ALONE,
) -> TeacherOutputs | None:
    """The teacher's outputs: recorded as far as there is room, else computed by the model itself under r = 0...0.

    All ranks record as many examples. A student that is trained whole has embeddings of its own: there f^T is a model
    beside it.
    """
    method = config.method
    distils = any(one.distils for one in method.objectives)
    if not (distils or method.grafts):
        return None
    live = LiveTeacher(model, layers)
    if method.trained == "all":
        alone = surgery.teacher_in_blocks(teacher.model, method.student, method.objective.attention_maps)
        alone.to(model.device, model.dtype)
        live = LiveTeacher(alone, surgery.grafted_layers(alone))
    in_steps = replace(live, backend=compiled.BACKEND if config.engine.compile_layers else None)
    if config.task.padding == "max_length":
        return in_steps
    data, needs = teacher.data, Needs.of(method, len(layers))
    maps = method.objective.attention_maps
    engine = (config.engine.precision, config.engine.tf32, config.engine.zero_stage)  # ZeRO 3's have other last bits
    key = (teacher.files_key, data.fingerprint, *engine, maps, method.student.depth, needs)
    recorder = Recorder(live, data.train, needs, key, config.engine.zero_stage == 3, allowed)
    wanted = recorder.examples_that_fit(in_part=distils) if allowed.examples is None else allowed.examples
    count = min(engines.gather_over_ranks(wanted))
    if count == 0:
        return in_steps if distils else None
    recorded = recorder.recorded(count)
    return recorded if count == len(data.train) else PartlyRecordedTeacher(recorded, in_steps)


@dataclass(frozen=True)
class Recorder:
    """Records the outputs of a teacher for the first examples of a split, or finds them recorded."""

    teacher: LiveTeacher
    split: EncodedSplit
    needs: Needs
    key: tuple[Hashable, ...]  # names what determines them
    together: bool  # ranks compute together: none may compute what another has found, or has none of
    allowed: Allowance

    @property
    def is_private(self) -> bool:
        """Whether each process has tables of its own, whatever their size."""
        return self.together or self.teacher.model.device.type != "cpu"

    def examples_that_fit(self, in_part: bool) -> int:
        """How many of the first examples there is room for: all, else, `in_part`, a number of eighths."""
        parts = range(PARTS, 0, -1) if in_part and not self.together else (PARTS,)
        counts = (len(self.split) * part // PARTS for part in parts)
        return next((count for count in counts if count and self.place_of(count) is not None), 0)

    def place_of(self, count: int) -> str | None:
        """Where the outputs for so many examples lie already, or have room. None: nowhere."""
        size = bytes_needed(self.teacher.model, self._first(count), self.needs)
        if self.is_private:
            return PRIVATE if size <= self._memory_limit() else None
        name = self._name(count)
        if size <= MEMORY_LIMIT_BYTES and not self.allowed.shares:
            return PRIVATE
        if size <= MEMORY_LIMIT_BYTES and _has_room(size, cache.memory_root() / KIND / name, cache.SHARED_MEMORY):
            return SHARED
        return FILES if _has_room(size, cache.folder_of(KIND, name), cache.cache_root()) else None

    def recorded(self, count: int) -> RecordedTeacher:
        """The outputs for so many examples, recorded first if absent, be there room by `place_of` or not.

        Raises UserError where the cache takes nothing more.
        """
        place = self.place_of(count) or (PRIVATE if self.is_private else FILES)
        if place == FILES:
            return self._in_files(count)
        key = (*self.key, count, place)
        if key not in _kept:
            try:
                _kept[key] = self._in_process(count) if place == PRIVATE else self._in_shared_memory(count)
            except OSError:  # of shared memory: others were faster to take what was free, or it is nobody's to write
                return self._in_files(count)
        _kept.move_to_end(key)
        while sum(one.tables.nbytes for one in _kept.values()) > self._memory_limit() and len(_kept) > 1:
            _, dropped = _kept.popitem(last=False)
            if dropped.folder is not None:
                cache.leave(dropped.folder)
        return _kept[key].tables

    def _in_process(self, count: int) -> Kept:
        tables = self._record(partial(in_memory, self.teacher.model), count)
        return Kept(replace(tables, place=PRIVATE), None)

    def _in_shared_memory(self, count: int) -> Kept:
        folder = cache.share_once(KIND, self._name(count), partial(self._write, count))
        return Kept(self._read(count, folder, SHARED), folder)

    def _in_files(self, count: int) -> RecordedTeacher:
        return self._read(count, cache.build_once(KIND, self._name(count), partial(self._write, count)), FILES)

    def _write(self, count: int, folder: Path) -> None:
        self._record(partial(in_new_file, folder, self.teacher.model), count)

    def _record(self, allocate: Allocate, count: int) -> RecordedTeacher:
        return record(allocate, self.teacher, self._first(count), self.needs, self.allowed.tell)

    def _read(self, count: int, folder: Path, place: str) -> RecordedTeacher:
        allocate = partial(in_file, folder, self.teacher.model)
        return replace(allocate_tables(allocate, self.teacher, self._first(count), self.needs), place=place)

    def _first(self, count: int) -> EncodedSplit:
        return self.split if count == len(self.split) else self.split.subset(np.arange(count))

    def _name(self, count: int) -> str:
        """Of the files; with it differs what may change last bits, on one machine."""
        outputs = repr((*self.key, count))
        return cache.content_key(
            {"version": VERSION, "outputs": outputs, "threads": torch.get_num_threads(), "torch": torch.__version__}
        )

    def _memory_limit(self) -> int:
        """Bytes that the outputs recorded by this process may take."""
        device = self.teacher.model.device
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            return int(SHARE_OF_GPU * min(self.allowed.gpus * total, free))
        return MEMORY_LIMIT_BYTES


def _has_room(size: int, entry: Path, root: Path) -> bool:
    """Whether the entry is there, or takes no more than its share of what is free in `root`."""
    try:
        return entry.is_dir() or size <= SHARE_OF_FREE * shutil.disk_usage(root).free
    except OSError:
        return False
