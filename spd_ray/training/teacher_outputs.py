"""What the teacher computes for the training set: recorded once in tables, computed in every step, or both in part.

Shapes: K blocks of teacher layers, N examples, B of them in a batch, L positions in the batch, l in an example,
T tokens and P pairs of tokens in all examples, H hidden size, A heads, d = H / A, C classes.

Why so: docs/decisions.md #teachers-outputs.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spd_ray.data.batches import Batch, DeviceSplit, EncodedSplit, eval_batches
from spd_ray.model import surgery
from spd_ray.model.attention import LayerOutputs, ModelOutputs
from spd_ray.model.objective import Needs
from spd_ray.model.surgery import GraftedLayer

BATCH_SIZE = 64

Allocate = Callable[[str, tuple[int, ...]], Tensor]
Tell = Callable[[int, int], None]  # it is called with for how many of how many examples there are outputs now


@dataclass(frozen=True)
class LiveTeacher:
    """A model that can run as f^T: every block the teacher's."""

    model: Any
    layers: Sequence[GraftedLayer]
    backend: str | None = None  # by which its layers are compiled

    def outputs(self, batch: Batch) -> ModelOutputs:
        """f^T on one batch."""
        return self.outputs_for(batch.inputs)

    @torch.no_grad()
    def outputs_for(self, inputs: Mapping[str, Tensor | None]) -> ModelOutputs:
        """f^T on the model's arguments."""
        surgery.set_draw(self.layers, (False,) * len(self.layers))
        return surgery.run_model(self.model, self.layers, inputs, self.backend)


class Places:
    """Where the tokens of N examples, and their pairs of tokens, lie in tables without padding.

    What is padded lies after the last one: at T, or at P.
    """

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        self.lengths = torch.from_numpy(lengths).to(device)
        ends, pair_ends = self.lengths.cumsum(0), self.lengths.square().cumsum(0)
        self.starts, self.pair_starts = ends - self.lengths, pair_ends - self.lengths.square()
        self.token_count, self.pair_count = int(ends[-1]), int(pair_ends[-1])

    def tokens(self, rows: Tensor, length: int) -> Tensor:
        """The places of the tokens (B * L) of the examples at `rows` (B,)."""
        own, start = (table[rows, None] for table in (self.lengths, self.starts))
        column = torch.arange(length, device=rows.device)
        return torch.where(column < own, start + column, self.token_count).flatten()

    def pairs(self, rows: Tensor, length: int) -> Tensor:
        """The places of the pairs of tokens (B * L * L) of the examples at `rows` (B,)."""
        own, start = (table[rows, None, None] for table in (self.lengths, self.pair_starts))
        column = torch.arange(length, device=rows.device)
        row = column[:, None]
        return torch.where((row < own) & (column < own), start + row * own + column, self.pair_count).flatten()


@dataclass(frozen=True)
class RecordedTeacher:
    """The teacher's outputs for N examples, without padding; the last place of a table is zero. Unneeded is absent."""

    places: Places
    logits: Tensor  # (N, C)
    embeddings: Tensor  # (T + 1, H)
    hidden: dict[int, Tensor]  # block -> (T + 1, H)
    attention: dict[int, Tensor]  # block -> (A, P + 1)
    value: dict[int, Tensor]  # block -> (T + 1, A, d)
    blocks: int
    place: str = ""  # where the tables lie, in words

    def outputs(self, batch: Batch) -> ModelOutputs:
        """The outputs for `batch`, zeros at padded positions; what is absent has no elements."""
        size, length = batch.tokens.shape
        tokens = self.places.tokens(batch.rows, length)

        def states(table: Tensor) -> Tensor:  # (B, L, ...)
            return table.index_select(0, tokens).unflatten(0, (size, length))

        hidden = {k: states(table) for k, table in self.hidden.items()}
        value = {k: states(table).transpose(1, 2) for k, table in self.value.items()}
        attention = {}
        if self.attention:
            pairs = self.places.pairs(batch.rows, length)
            for k, table in self.attention.items():
                attention[k] = table.index_select(1, pairs).unflatten(1, (size, length, length)).transpose(0, 1)
        nothing = self.logits.new_empty(0)
        layers = tuple(
            LayerOutputs(hidden.get(k, nothing), attention.get(k, nothing), value.get(k, nothing))
            for k in range(self.blocks)
        )
        return ModelOutputs(self.logits.index_select(0, batch.rows), states(self.embeddings), layers)

    @property
    def count(self) -> int:
        """N."""
        return len(self.logits)

    @property
    def nbytes(self) -> int:
        tables = [self.logits, self.embeddings, *self.hidden.values(), *self.attention.values(), *self.value.values()]
        return sum(table.nbytes for table in tables)


@dataclass(frozen=True)
class PartlyRecordedTeacher:
    """The outputs for the first examples of the training set recorded, those for the others computed when they come."""

    recorded: RecordedTeacher
    live: LiveTeacher

    def outputs(self, batch: Batch) -> ModelOutputs:
        """The outputs for `batch`, at padded positions whatever they are; only what is recorded has elements.

        How many of the batch are to be computed, the host knows: nothing waits for the device.
        """
        count = self.recorded.count
        missing = int((batch.indices >= count).sum())
        found = self.recorded.outputs(batch._replace(rows=batch.rows.clamp(max=count - 1)))
        if not missing:
            return found
        places = (batch.rows < count).int().argsort(stable=True)[:missing]
        chosen = {name: None if it is None else it.index_select(0, places) for name, it in batch.inputs.items()}
        computed = self.live.outputs_for(chosen)

        def lay_over(known: Tensor, new: Tensor) -> Tensor:
            return known.index_copy(0, places, new) if known.numel() else known

        layers = tuple(
            LayerOutputs(*map(lay_over, known, new))
            for known, new in zip(found.layers, computed.layers, strict=True)
            if known is not None and new is not None
        )
        logits, embeddings = map(lay_over, found[:2], computed[:2])
        return ModelOutputs(logits, embeddings, layers)


TeacherOutputs = RecordedTeacher | PartlyRecordedTeacher | LiveTeacher


def recorded_part(outputs: TeacherOutputs | None) -> RecordedTeacher | None:
    """What of the teacher's outputs is recorded."""
    if isinstance(outputs, PartlyRecordedTeacher):
        return outputs.recorded
    return outputs if isinstance(outputs, RecordedTeacher) else None


def allocate_tables(allocate: Allocate, teacher: LiveTeacher, split: EncodedSplit, needs: Needs) -> RecordedTeacher:
    """The tables of what `needs` names, each as `allocate` gives it for a name and a shape."""
    config = teacher.model.config
    heads, width = config.num_attention_heads, config.hidden_size
    places = Places(split.lengths, teacher.model.device)
    tokens, pairs = places.token_count + 1, places.pair_count + 1
    return RecordedTeacher(
        places=places,
        logits=allocate("logits", (len(split), config.num_labels)),
        embeddings=allocate("embeddings", (tokens, width)),
        hidden={k: allocate(f"hidden_{k}", (tokens, width)) for k in needs.hidden},
        attention={k: allocate(f"attention_{k}", (heads, pairs)) for k in needs.attention},
        value={k: allocate(f"value_{k}", (tokens, heads, width // heads)) for k in needs.value},
        blocks=len(teacher.layers),
    )


def record(
    allocate: Allocate, teacher: LiveTeacher, split: EncodedSplit, needs: Needs, tell: Tell | None = None
) -> RecordedTeacher:
    """f^T on all of `split`, in tables from `allocate`."""
    done = 0
    tables = allocate_tables(allocate, teacher, split, needs)
    on_device = DeviceSplit.of(split, teacher.model.device)
    for indices in eval_batches(split.lengths, BATCH_SIZE):
        batch = on_device.batch(indices)
        outputs = teacher.outputs(batch)
        length = batch.tokens.shape[1]
        tokens, pairs = tables.places.tokens(batch.rows, length), tables.places.pairs(batch.rows, length)
        tables.logits.index_copy_(0, batch.rows, outputs.logits)
        tables.embeddings.index_copy_(0, tokens, outputs.embeddings.flatten(0, 1))
        for k, layer in enumerate(outputs.layers):
            assert layer is not None
            if k in tables.hidden:
                tables.hidden[k].index_copy_(0, tokens, layer.hidden.flatten(0, 1))
            if k in tables.attention:
                tables.attention[k].index_copy_(1, pairs, layer.attention.transpose(0, 1).flatten(1))
            if k in tables.value:
                tables.value[k].index_copy_(0, tokens, layer.value.transpose(1, 2).flatten(0, 1))
        done += len(indices)
        if tell:
            tell(done, len(split))
    for table in (tables.embeddings, *tables.hidden.values(), *tables.value.values()):
        table[-1] = 0
    for table in tables.attention.values():
        table[:, -1] = 0
    return tables


def in_memory(model: Any, name: str, shape: tuple[int, ...]) -> Tensor:
    """A table in the memory of the model's device."""
    return torch.empty(shape, device=model.device, dtype=model.dtype)


def in_file(folder: Path, model: Any, name: str, shape: tuple[int, ...]) -> Tensor:
    """A table that is a mapped file of `folder`: its pages are shared by all processes of the machine."""
    file = str(folder / f"{name}.bin")
    return torch.from_file(file, shared=True, size=math.prod(shape), dtype=model.dtype).view(shape)


def in_new_file(folder: Path, model: Any, name: str, shape: tuple[int, ...]) -> Tensor:
    """`in_file`, its disk space taken first: a mapped page that a full disk refuses would end the process."""
    with (folder / f"{name}.bin").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, math.prod(shape) * model.dtype.itemsize)
    return in_file(folder, model, name, shape)


def bytes_needed(model: Any, split: EncodedSplit, needs: Needs) -> int:
    """What recording `split` takes in the model's precision."""
    config, lengths = model.config, split.lengths
    states = (1 + len(needs.hidden) + len(needs.value)) * config.hidden_size * lengths.sum()
    maps = len(needs.attention) * config.num_attention_heads * np.square(lengths).sum()
    return int(states + maps) * model.dtype.itemsize
