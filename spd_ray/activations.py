"""What the teacher computes for the training set, computed once: its hidden states, attention maps and logits.

Shapes: M layers, N examples, L positions, H hidden size, A heads, C classes.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from spd_ray import surgery
from spd_ray.data import EncodedSplit, collate, eval_batches
from spd_ray.surgery import GraftedLayer

MEMORY_LIMIT_BYTES = 2 * 2**30
BATCH_SIZE = 64


class TeacherOutputs(NamedTuple):
    """The teacher's outputs for some examples; padded positions hold nothing of meaning."""

    logits: Tensor  # (N, C)
    hidden: Tensor  # (M + 1, N, L, H), the embeddings' output first
    attention: Tensor  # (M, N, A, L, L)

    def of(self, indices: np.ndarray, length: int) -> "TeacherOutputs":
        """Those of the examples at `indices`, cut to `length` positions."""
        rows = torch.as_tensor(indices, device=self.logits.device)
        hidden = self.hidden[:, :, :length].index_select(1, rows)
        attention = self.attention[:, :, :, :length, :length].index_select(1, rows)
        return TeacherOutputs(self.logits[rows], hidden, attention)


def bytes_needed(model: PreTrainedModel, split: EncodedSplit) -> int:
    """What the outputs for `split` take in the model's precision."""
    config, length = model.config, int(split.lengths.max())
    hidden = (config.num_hidden_layers + 1) * length * config.hidden_size
    attention = config.num_hidden_layers * config.num_attention_heads * length * length
    return len(split) * (hidden + attention) * model.dtype.itemsize


@torch.no_grad()
def run_teacher(model: PreTrainedModel, layers: list[GraftedLayer], inputs: dict[str, Tensor]) -> TeacherOutputs:
    """f^T: the grafted model with no student layer, on one batch."""
    surgery.set_draw(layers, (False,) * len(layers))
    outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    return TeacherOutputs(outputs.logits, torch.stack(outputs.hidden_states), torch.stack(outputs.attentions))


def record_teacher(model: PreTrainedModel, layers: list[GraftedLayer], split: EncodedSplit) -> TeacherOutputs:
    """f^T on all of `split`, on the model's device."""
    width, device = int(split.lengths.max()), model.device
    parts = eval_batches(split.lengths, BATCH_SIZE)
    stored: TeacherOutputs | None = None
    for indices in parts:
        batch = collate(split, indices, device)
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        outputs = run_teacher(model, layers, inputs)
        stored = stored or _room_for(outputs, len(split), width)
        rows, length = torch.as_tensor(indices, device=device), inputs["input_ids"].shape[1]
        stored.logits[rows] = outputs.logits
        stored.hidden[:, rows, :length] = outputs.hidden
        stored.attention[:, rows, :, :length, :length] = outputs.attention
    assert stored is not None
    return stored


def _room_for(like: TeacherOutputs, examples: int, width: int) -> TeacherOutputs:
    layers, _, heads = like.attention.shape[:3]
    return TeacherOutputs(
        like.logits.new_zeros(examples, like.logits.shape[1]),
        like.hidden.new_zeros(layers + 1, examples, width, like.hidden.shape[-1]),
        like.attention.new_zeros(layers, examples, heads, width, width),
    )
