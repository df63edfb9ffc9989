"""What models show of their layers: an attention function of transformers' interface that records its maps.

Shapes: K layers, B examples, L positions, H hidden size, A heads, d = H / A, C classes.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from spd_ray.kernels.between import softmax
from spd_ray.model.dropout import drop, random_bits


class LayerOutputs(NamedTuple):
    """What one layer, or the last one of a block, gave."""

    hidden: Tensor  # (B, L, H)
    attention: Tensor  # (B, A, L, L), of the kind that the model's attention function records
    value: Tensor  # (B, A, L, d)


class ModelOutputs(NamedTuple):
    """What a model gave; None stands for a layer whose output was known and not computed."""

    logits: Tensor  # (B, C)
    embeddings: Tensor  # (B, L, H), what the first layer reads
    layers: tuple[LayerOutputs | None, ...]  # K


def _recording_attention(kind: str) -> Any:
    """An attention function of transformers' interface; it appends (maps, values) to `spd_seen` where one is given.

    `spd_fused`: scaling, softmax and dropout are one compiled pass.
    """

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        spd_seen: list[tuple[Tensor, Tensor]] | None = None,
        spd_fused: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        scores = torch.matmul(query, key.transpose(2, 3))  # (B, A, L, L)
        if spd_fused:
            bits = random_bits(scores.numel(), dropout) if module.training and dropout > 0 else None
            probabilities, dropped = softmax(scores, attention_mask, scale, bits)
            scores = scores * scale if kind == "scores" else scores
        else:
            scores = scores * scale
            masked = scores if attention_mask is None else scores + attention_mask
            probabilities = torch.softmax(masked, dim=-1)
            dropped = drop(probabilities, dropout, module.training)
        context = torch.matmul(dropped, value).transpose(1, 2).contiguous()  # (B, L, A, d)
        maps = {"probabilities": probabilities, "scores": scores, "dropped": dropped}[kind]
        if spd_seen is not None:
            spd_seen.append((maps, value))
        return context, maps

    return attention


ATTENTION_MAPS = {kind: f"spd_{kind}" for kind in ("probabilities", "scores", "dropped")}
for _kind, _name in ATTENTION_MAPS.items():
    AttentionInterface.register(_name, _recording_attention(_kind))
    AttentionMaskInterface.register(_name, eager_mask)
