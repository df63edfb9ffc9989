"""A BERT layer whose linears are sparse, computed in few passes: what lies between its products is fused with them.

Shapes: B examples, L positions, H hidden size, A heads.

Why so: docs/decisions.md #a-sparse-layer-is-fused.
"""

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface
from transformers.activations import GELUActivation
from transformers.models.bert.modeling_bert import BertLayer

from spd_ray.kernels.between import FEATURES, add_norm
from spd_ray.kernels.masked import masked_feed_forward, masked_heads, masked_linear
from spd_ray.model.linear import MaskedLinear


def join_linears(layer: Any) -> None:
    """Let the masked linears of transformers' BertLayer compute together wherever all that take part are sparse.

    Which are is looked up in each forward pass. Layers of another kind, and other activations, stay as they are.
    """
    if not isinstance(layer, BertLayer) or layer.is_decoder:
        return
    activation = layer.intermediate.intermediate_act_fn
    is_gelu = isinstance(activation, GELUActivation) and activation.act is F.gelu
    if is_gelu and layer.output.dense.out_features % FEATURES == 0:
        layer.attention.self.forward = partial(_self_attention, layer.attention.self)
        layer.attention.output.forward = partial(_self_output, layer.attention.output)
        layer.feed_forward_chunk = partial(_feed_forward, layer)


def _self_attention(module: Any, hidden: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
    """`forward` of BertSelfAttention: (B, L, H) -> (B, L, H) and what the attention function gives as its maps."""
    linears: list[MaskedLinear] = [module.query, module.key, module.value]
    kept = [one.kept for one in linears if one.kept is not None]
    if len(kept) < len(linears):
        return type(module).forward(module, hidden, attention_mask, **kwargs)
    kwargs.pop("past_key_values", None)
    query, key, value = masked_heads(hidden, kept, module.num_attention_heads)
    attend = AttentionInterface()[module.config._attn_implementation]
    dropout = module.dropout.p if module.training else 0.0
    context, maps = attend(
        module, query, key, value, attention_mask, dropout=dropout, scaling=module.scaling, spd_fused=True, **kwargs
    )
    return context.flatten(2), maps


def _self_output(module: Any, context: Tensor, hidden: Tensor) -> Tensor:
    """`forward` of BertSelfOutput: (B, L, H), twice -> (B, L, H)."""
    kept = module.dense.kept
    if kept is None:
        return type(module).forward(module, context, hidden)
    projected = masked_linear(context, kept)
    return add_norm(projected, hidden, module.LayerNorm, module.dropout.bits_for(projected))


def _feed_forward(layer: Any, hidden: Tensor) -> Tensor:
    """`feed_forward_chunk` of BertLayer: (B, L, H) -> (B, L, H)."""
    output = layer.output
    first, second = layer.intermediate.dense.kept, output.dense.kept
    if first is None or second is None:
        return output(layer.intermediate(hidden), hidden)
    inner = masked_feed_forward(hidden, first, second)
    return add_norm(inner, hidden, output.LayerNorm, output.dropout.bits_for(inner))
