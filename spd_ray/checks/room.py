"""How much memory and disk a sweep takes, calculated from its space, its model and a sample of its task.

Numbers are bytes. What is calculated: weights, gradients, AdamW's moments, masks, recorded outputs, a batch's
activations, the host's copy of a state. What is not: what allocators and libraries keep beside that, but for BASE, and
with a GPU CUDA_BASE and CONTEXT, which are guesses: there was none to measure them.

Why so: docs/decisions.md #preflight.
"""

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import nn

from spd_ray.base.cache import SHARED_MEMORY, cache_root
from spd_ray.base.errors import counted
from spd_ray.base.network import is_uri
from spd_ray.checks.finding import FAILED, OK, WARNING, Finding
from spd_ray.checks.model_fit import points_of
from spd_ray.checks.untrained import Untrained
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.timeline import Timeline
from spd_ray.config.trial import TrialConfig
from spd_ray.model.objective import Needs
from spd_ray.model.surgery import blocks_of, encoder_layers
from spd_ray.training.recording import FILES, MEMORY_LIMIT_BYTES, PRIVATE, SHARE_OF_FREE, SHARE_OF_GPU, SHARED
from spd_ray.training.teacher_outputs import bytes_needed
from spd_ray.trials.footprint import bytes_a_parameter, bytes_of_criterion, state_bytes

GIB = 2**30
BASE = 0.8 * GIB  # of a worker that has imported all and trains nothing yet
CUDA_BASE, CONTEXT = 3 * GIB, 0.5 * GIB  # the same with CUDA's libraries; what CUDA keeps on the GPU
GPU_GIB = (16, 24, 40, 80)  # of the GPUs that a dry run speaks of
USABLE = 0.95  # of a GPU's memory
ROW = 80  # of a step's record on disk


class Room(NamedTuple):
    """What one trial takes, in bytes; its student, and what it continues from, on disk."""

    memory: int  # of the machine, of one rank, without what is shared
    device: int  # of a rank's GPU, without the recorded outputs; 0: it has none
    student: int
    state: int
    recorded: int  # the teacher's outputs; 0: nothing is recorded
    shared: int  # of them, in memory that all ranks of a machine share
    files: int  # of them, in files of a machine's cache
    records: int  # its rows

    @property
    def place(self) -> str:
        """Where the recorded outputs lie, in words."""
        return SHARED if self.shared else FILES if self.files else PRIVATE

    @property
    def cached(self) -> int:
        """In the cache of a machine: the teacher, and its outputs where they are files."""
        return self.student + self.files

    def on_gpu(self, size: float) -> int:
        """How many such trials fit on a GPU of so many bytes: each may record into a share of its part."""
        trials = 0
        while self._fits(size / (trials + 1)):
            trials += 1
        return trials

    def _fits(self, part: float) -> bool:
        return self.device + min(self.recorded, SHARE_OF_GPU * part) <= USABLE * part


def room_of(config: TrialConfig, untrained: Untrained, steps: int, ranks: int, gpu: bool = False) -> Room:
    """What a trial of `config` takes on so many ranks; its memory is that of rank 0, which copies states."""
    model, method = untrained.model, config.method
    layers = encoder_layers(model)
    blocks = len(blocks_of(len(layers), method.student.depth))
    whole = model.num_parameters()
    of_layer = sum(p.numel() for p in layers[0].parameters())
    prunable = blocks * sum(m.weight.numel() for m in layers[0].modules() if isinstance(m, nn.Linear))
    student = whole - of_layer * (len(layers) - blocks)
    trained = student if method.trained == "all" else of_layer * blocks
    recorded = _recorded_bytes(config, untrained, blocks)
    trains = 4 * whole + trained * bytes_a_parameter(trained, config.engine, ranks)
    trains += _activations(config, untrained, blocks, ranks) + prunable * bytes_of_criterion(method)
    state = state_bytes(trained, prunable, method.floats)
    shared = files = 0
    if gpu:
        memory, device = CUDA_BASE + state, CONTEXT + trains
    else:
        memory, device = BASE + trains + state, 0.0
        if config.engine.zero_stage == 3:
            memory += recorded if recorded <= MEMORY_LIMIT_BYTES else 0
        elif recorded <= min(MEMORY_LIMIT_BYTES, SHARE_OF_FREE * free_at(SHARED_MEMORY)):
            shared = recorded
        else:
            files = recorded
    return Room(int(memory), int(device), 4 * student, state, recorded, shared, files, ROW * steps)


def _recorded_bytes(config: TrialConfig, untrained: Untrained, blocks: int) -> int:
    """The teacher's outputs for the training set, from the sample's lengths."""
    method, sample = config.method, untrained.sample.train
    reads = method.grafts or any(one.distils for one in method.objectives)
    if not reads or config.task.padding == "max_length":
        return 0
    of_sample = bytes_needed(untrained.model, sample, Needs.of(method, blocks)) * width_of(config) / 4
    return int(of_sample * untrained.train_examples / len(sample))


def _activations(config: TrialConfig, untrained: Untrained, blocks: int, ranks: int) -> int:
    """Of the longest batch of one rank's part: 17 hidden states and 2.5 maps a layer (Korthikanti et al. 2022)."""
    shape, method = untrained.model.config, config.method
    length = int(untrained.extremes.lengths.max())
    rows = math.ceil(method.batch_size / ranks / config.engine.gradient_accumulation_steps)
    states = 17 * length * shape.hidden_size
    maps = 2.5 * shape.num_attention_heads * length**2
    return int(width_of(config) * rows * blocks * (states + maps))


def width_of(config: TrialConfig) -> int:
    """Bytes of a number in a trial's precision."""
    return 4 if config.engine.precision == "fp32" else 2


def check_room(spec: SweepSpec, untrained: Untrained, place: str, have: Mapping[str, float]) -> Finding:
    """Storage, cache and this machine's memory have room for the trials that the resources `have` hold at once.

    The memory is a calculation, and less than enough no more than a warning.
    """
    room = first_room(spec, untrained)
    at_once = spec.resources.concurrent or spec.resources.slots(have)
    levels, keep = 1 + len(spec.method.ladder), spec.checkpoints.keep
    trials = spec.total_configurations() * len(spec.study.seeds)
    wanted = (
        at_once * (2 * room.state + levels * room.student)
        + (1 + 2 * keep * levels) * room.student  # the teacher is one
        + trials * room.records
    )
    checks = [
        (free_at(place), wanted, place, "this sweep takes up to", "give another --storage, lower checkpoints.keep"),
        (free_at(cache_root()), room.student, cache_root(), "the teacher takes", "set SPD_RAY_CACHE to another folder"),
    ]
    for free, takes, where, what, mend in checks:
        if free < takes:
            text = f"{where}: {in_words(free)} free, where {what} {in_words(takes)}"
            return Finding(FAILED, "room", text, f"{mend}, or free some space")
    if room.files > SHARE_OF_FREE * free_at(cache_root()):
        text = f"the teacher's outputs take {in_words(room.files)}, more than half of what is free in {cache_root()}"
        mend = "some are computed again in every step; free some space, or set SPD_RAY_CACHE to another folder"
        return Finding(WARNING, "room", text, mend)
    text = f"up to {in_words(wanted)} in the storage, {in_words(room.cached)} in the cache, "
    if room.device:
        return Finding(OK, "room", f"{text}{describe_rank(room)}")
    memory, there = at_once * spec.resources.workers * room.memory + room.shared, machine_memory()
    text += f"about {in_words(memory)} of memory for {counted(at_once, 'trial')} at once, of {in_words(there)}"
    if memory > there:
        fit = int((there - room.shared) / (spec.resources.workers * room.memory))
        return Finding(WARNING, "room", text, f"--set resources.concurrent={max(1, fit)}")
    return Finding(OK, "room", text)


def first_room(spec: SweepSpec, untrained: Untrained) -> Room:
    """What the first possible point of the space takes."""
    config = spec.trial_config(points_of(spec)[0], spec.study.seeds[0])
    steps = Timeline.of(config.method, untrained.train_examples).t3
    return room_of(config, untrained, steps, spec.resources.workers, gpu=spec.resources.worker_gpus > 0)


def describe_rank(room: Room) -> str:
    """What a rank with a GPU takes, and how many trials of one rank GPUs of some sizes hold."""
    fits = {size: room.on_gpu(size * GIB) for size in GPU_GIB}
    text = f"about {in_words(room.device)} of a rank's GPU and {in_words(room.memory)} of its machine's memory"
    if room.recorded:
        text += (
            f"; the teacher's outputs, {in_words(room.recorded)}, are recorded into at most {SHARE_OF_GPU:.0%} of the "
            "rank's part of the GPU"
        )
    counts = ", ".join(map(str, fits.values()))
    return (
        f"{text}; GPUs of {', '.join(map(str, fits))} GiB hold {counts} trials: set resources.gpus_per_worker by that"
    )


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_at(place: str | Path) -> float:
    """Bytes free where `place` is or would be made; an object store has no end."""
    if is_uri(str(place)):
        return math.inf
    folder = Path(place)
    return shutil.disk_usage(next(one for one in [folder, *folder.parents] if one.exists())).free


def in_words(size: float) -> str:
    """
    >>> in_words(5.7 * 2**30), in_words(175 * 2**20)
    ('5.7 GiB', '175 MiB')
    """
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"
