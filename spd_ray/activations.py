"""What the teacher computes for the training set: computed once where it fits into memory, else batch by batch.

Shapes: K blocks of teacher layers, N examples, B of them in a batch, L positions in the batch, l in an example,
H hidden size, A heads, d = H / A, C classes.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spd_ray import surgery
from spd_ray.attention import LayerOutputs, ModelOutputs
from spd_ray.data import Batch, EncodedSplit, eval_batches, make_batch
from spd_ray.objective import Needs
from spd_ray.surgery import GraftedLayer

MEMORY_LIMIT_BYTES = 4 * 2**30
BATCH_SIZE = 64

_recorded: OrderedDict[Hashable, "RecordedTeacher"] = OrderedDict()  # the least recently used first


@dataclass(frozen=True)
class LiveTeacher:
    """A model that can run as f^T: every block the teacher's."""

    model: Any
    layers: Sequence[GraftedLayer]

    @torch.no_grad()
    def outputs(self, batch: Batch) -> ModelOutputs:
        """f^T on one batch."""
        surgery.set_draw(self.layers, (False,) * len(self.layers))
        return surgery.run_model(self.model, self.layers, batch.inputs)


@dataclass(frozen=True)
class RecordedTeacher:
    """The teacher's outputs for N examples, without padding. What was not needed is absent."""

    logits: Tensor  # (N, C)
    embeddings: list[Tensor]  # (l, H) each
    hidden: dict[int, list[Tensor]]  # block -> (l, H) each
    attention: dict[int, list[Tensor]]  # block -> (A, l, l) each
    value: dict[int, list[Tensor]]  # block -> (A, l, d) each
    blocks: int

    def outputs(self, batch: Batch) -> ModelOutputs:
        """The outputs for `batch`, zeros at padded positions; what is absent has no elements."""
        length = batch.tokens.shape[1]
        nothing = self.logits.new_empty(0)

        def of(recorded: list[Tensor] | None, positional: tuple[int, ...]) -> Tensor:
            return nothing if recorded is None else _padded(recorded, batch.indices, length, positional)

        layers = tuple(
            LayerOutputs(of(self.hidden.get(k), (0,)), of(self.attention.get(k), (1, 2)), of(self.value.get(k), (1,)))
            for k in range(self.blocks)
        )
        rows = torch.as_tensor(batch.indices, device=self.logits.device)
        return ModelOutputs(self.logits[rows], of(self.embeddings, (0,)), layers)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        lists = [self.embeddings, *self.hidden.values(), *self.attention.values(), *self.value.values()]
        return self.logits.nbytes + sum(tensor.nbytes for tensors in lists for tensor in tensors)


def _padded(recorded: list[Tensor], indices: np.ndarray, length: int, positional: tuple[int, ...]) -> Tensor:
    """The tensors at `indices` stacked, their `positional` dimensions padded with zeros to `length`."""
    first = recorded[indices[0]]
    shape = [length if axis in positional else size for axis, size in enumerate(first.shape)]
    batch = first.new_zeros(len(indices), *shape)
    for row, index in enumerate(indices):
        one = recorded[index]
        batch[row][tuple(slice(size) for size in one.shape)] = one
    return batch


def bytes_needed(model: Any, split: EncodedSplit, needs: Needs) -> int:
    """What recording `split` takes in the model's precision."""
    config, lengths = model.config, split.lengths
    states = (1 + len(needs.hidden) + len(needs.value)) * config.hidden_size * lengths.sum()
    maps = len(needs.attention) * config.num_attention_heads * np.square(lengths).sum()
    return int(states + maps) * model.dtype.itemsize


def recorded_teacher(teacher: LiveTeacher, split: EncodedSplit, needs: Needs, key: Hashable) -> RecordedTeacher | None:
    """The teacher's outputs on `split`, kept in the process for the next trial with the same `key`; None: too large."""
    if bytes_needed(teacher.model, split, needs) > MEMORY_LIMIT_BYTES:
        return None
    if key not in _recorded:
        _recorded[key] = record(teacher, split, needs)
    _recorded.move_to_end(key)
    while sum(one.nbytes for one in _recorded.values()) > MEMORY_LIMIT_BYTES and len(_recorded) > 1:
        _recorded.popitem(last=False)
    return _recorded[key]


def record(teacher: LiveTeacher, split: EncodedSplit, needs: Needs) -> RecordedTeacher:
    """f^T on all of `split`, kept on the model's device."""
    size, device = len(split), teacher.model.device
    empty = torch.empty(0)
    known = RecordedTeacher(
        logits=torch.empty(size, teacher.model.config.num_labels, device=device, dtype=teacher.model.dtype),
        embeddings=[empty] * size,
        hidden={k: [empty] * size for k in needs.hidden},
        attention={k: [empty] * size for k in needs.attention},
        value={k: [empty] * size for k in needs.value},
        blocks=len(teacher.layers),
    )
    for indices in eval_batches(split.lengths, BATCH_SIZE):
        outputs = teacher.outputs(make_batch(split, indices, device))
        known.logits[torch.as_tensor(indices, device=device)] = outputs.logits
        for row, index in enumerate(indices):
            real = int(split.lengths[index])
            known.embeddings[index] = outputs.embeddings[row, :real].clone()
            for k, layer in enumerate(outputs.layers):
                assert layer is not None
                if k in known.hidden:
                    known.hidden[k][index] = layer.hidden[row, :real].clone()
                if k in known.attention:
                    known.attention[k][index] = layer.attention[row, :, :real, :real].clone()
                if k in known.value:
                    known.value[k][index] = layer.value[row, :, :real].clone()
    return known
