"""What the teacher computes for the training set, computed once: its hidden states, attention maps and logits.

Shapes: M layers, N examples, B of them in a batch, L positions in the batch, l in an example, H hidden size, A heads,
C classes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from spd_ray import surgery
from spd_ray.data import EncodedSplit, collate, eval_batches
from spd_ray.surgery import GraftedLayer

MEMORY_LIMIT_BYTES = 4 * 2**30
BATCH_SIZE = 64


class TeacherOutputs(NamedTuple):
    """The teacher's outputs for a batch; padded positions hold nothing of meaning."""

    logits: Tensor  # (B, C)
    hidden: Tensor  # (M + 1, B, L, H), the embeddings' output first
    attention: Tensor  # (M, B, A, L, L)


@dataclass(frozen=True)
class RecordedTeacher:
    """The teacher's outputs for N examples, without padding."""

    logits: Tensor  # (N, C)
    hidden: list[Tensor]  # (M + 1, l, H) each
    attention: list[Tensor]  # (M, A, l, l) each

    def of(self, indices: np.ndarray, length: int) -> TeacherOutputs:
        """The outputs of the examples at `indices`, padded with zeros to `length` positions."""
        some_hidden, some_attention = self.hidden[0], self.attention[0]
        layers, heads = some_attention.shape[:2]
        hidden = some_hidden.new_zeros(layers + 1, len(indices), length, some_hidden.shape[-1])
        attention = some_attention.new_zeros(layers, len(indices), heads, length, length)
        for row, index in enumerate(indices):
            real = self.hidden[index].shape[1]
            hidden[:, row, :real] = self.hidden[index]
            attention[:, row, :, :real, :real] = self.attention[index]
        return TeacherOutputs(self.logits[torch.as_tensor(indices, device=self.logits.device)], hidden, attention)


def bytes_needed(model: PreTrainedModel, split: EncodedSplit) -> int:
    """What recording `split` takes in the model's precision."""
    config, lengths = model.config, split.lengths
    hidden = (config.num_hidden_layers + 1) * config.hidden_size * lengths.sum()
    attention = config.num_hidden_layers * config.num_attention_heads * np.square(lengths).sum()
    return int(hidden + attention) * model.dtype.itemsize


@torch.no_grad()
def run_teacher(model: PreTrainedModel, layers: list[GraftedLayer], inputs: dict[str, Tensor]) -> TeacherOutputs:
    """f^T: the grafted model with no student layer, on one batch."""
    surgery.set_draw(layers, (False,) * len(layers))
    outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    return TeacherOutputs(outputs.logits, torch.stack(outputs.hidden_states), torch.stack(outputs.attentions))


def record_teacher(model: PreTrainedModel, layers: list[GraftedLayer], split: EncodedSplit) -> RecordedTeacher:
    """f^T on all of `split`, kept on the model's device."""
    device, size = model.device, len(split)
    logits = torch.empty(size, model.config.num_labels, device=device, dtype=model.dtype)
    hidden, attention = [torch.empty(0)] * size, [torch.empty(0)] * size
    for indices in eval_batches(split.lengths, BATCH_SIZE):
        inputs = collate(split, indices, device)
        del inputs["labels"]
        outputs = run_teacher(model, layers, inputs)
        logits[torch.as_tensor(indices, device=device)] = outputs.logits
        for row, index in enumerate(indices):
            real = split.lengths[index]
            hidden[index] = outputs.hidden[:, row, :real].clone()
            attention[index] = outputs.attention[:, row, :, :real, :real].clone()
    return RecordedTeacher(logits, hidden, attention)
