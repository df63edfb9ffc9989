"""Models changed by functions before they are wrapped: masked linears and grafted layers.

One model is the teacher, the student and the grafted model at once: each encoder layer holds a frozen
teacher layer and a student layer, and the draw r of Eq. (1) says which of them runs. r = 0...0 is f^T,
r = 1...1 is f^S. Everything around the encoder is the fine-tuned teacher's, frozen and shared.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from spd_ray.masks import magnitude_mask

Draw = tuple[bool, ...]  # r_1 ... r_M of Eq. (1): True where the student layer is grafted


def _attention_with_maps(of_scores: bool) -> Any:
    """An attention function of transformers' interface that also returns its maps (B, A, L, L), before dropout."""

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        scores = torch.matmul(query, key.transpose(2, 3)) * scale  # (B, A, L, L)
        masked = scores if attention_mask is None else scores + attention_mask
        probabilities = torch.softmax(masked, dim=-1)
        dropped = F.dropout(probabilities, p=dropout, training=module.training)
        context = torch.matmul(dropped, value).transpose(1, 2).contiguous()  # (B, L, A, H / A)
        return context, scores if of_scores else probabilities

    return attention


ATTENTION_MAPS = {"probabilities": "spd_probabilities", "scores": "spd_scores"}
for _kind, _name in ATTENTION_MAPS.items():
    AttentionInterface.register(_name, _attention_with_maps(of_scores=_kind == "scores"))
    AttentionMaskInterface.register(_name, eager_mask)


class MaskedLinear(nn.Linear):
    """F.linear(x, weight * mask): pruned weights get no gradient and cannot come back through the optimizer."""

    mask: Tensor

    @classmethod
    def of(cls, linear: nn.Linear) -> "MaskedLinear":
        """A masked layer over the same parameters, nothing pruned yet."""
        masked = cls(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        masked.weight, masked.bias = linear.weight, linear.bias
        masked.register_buffer("mask", torch.ones_like(linear.weight, dtype=torch.bool))
        return masked

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return F.linear(input, self.weight * self.mask, self.bias)


class GraftedLayer(nn.Module):
    """Eq. (1), Huang et al. 2022: f^G_i(x) = r_i f^S_i(x) + (1 - r_i) f^T_i(x), one of them computed."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.grafted = True
        self.known_output: Tensor | None = None

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """(B, L, H) -> what the encoder's own layer returns; `known_output` where it was computed before."""
        if self.known_output is not None:
            return self.known_output
        layer = self.student if self.grafted else self.teacher
        return layer(hidden_states, *args, **kwargs)


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers, found by structure: the one ModuleList as long as the configuration says.

    Raises ValueError if there is none, or more than one.
    """
    depth = model.config.num_hidden_layers
    found = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    found = [layers for layers in found if len({type(layer) for layer in layers}) == 1]
    if len(found) != 1:
        raise ValueError(f"{type(model).__name__}: expected one list of {depth} equal layers, found {len(found)}")
    return found[0]


def graft(teacher: PreTrainedModel, dropout: float, attention_maps: str) -> PreTrainedModel:
    """A copy of the fine-tuned `teacher` in which every encoder layer is a `GraftedLayer`.

    The student layers start as copies of the teacher's, their linear layers masked; they alone require a
    gradient, and they alone have `dropout` in training.
    """
    model = copy.deepcopy(teacher).requires_grad_(False)
    model.config._attn_implementation = ATTENTION_MAPS[attention_maps]
    layers = encoder_layers(model)
    for index, layer in enumerate(layers):
        student = copy.deepcopy(layer, {id(model.config): model.config}).requires_grad_(True)
        for module in student.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        for name, linear in list(student.named_modules()):
            if isinstance(linear, nn.Linear):
                student.set_submodule(name, MaskedLinear.of(linear))
        layers[index] = GraftedLayer(student, layer)
    return model.eval()


def grafted_layers(model: PreTrainedModel) -> list[GraftedLayer]:
    """The M grafted layers of a model made by `graft`, in order."""
    return [module for module in model.modules() if isinstance(module, GraftedLayer)]


def leading_teachers(draw: Draw) -> int:
    """How many layers come before the first grafted student layer: they compute what the teacher computes."""
    return draw.index(True) if any(draw) else len(draw)


def set_draw(layers: Sequence[GraftedLayer], draw: Draw, known: Sequence[Tensor] = ()) -> None:
    """Graft the student layers that `draw` names.

    `known` are the teacher's outputs of its layers 1 ... M for the batch at hand: the leading teacher layers
    return them instead of computing them. `known` empty: every layer computes.
    """
    leading = leading_teachers(draw) if known else 0
    for index, (layer, grafted) in enumerate(zip(layers, draw, strict=True)):
        layer.grafted = grafted
        layer.known_output = known[index] if index < leading else None


def train_students(layers: Sequence[GraftedLayer], training: bool) -> None:
    """Dropout on or off in the student layers; everything else stays in evaluation mode."""
    for layer in layers:
        layer.student.train(training)


def masked_linears(model: nn.Module) -> Iterator[tuple[str, MaskedLinear]]:
    """The prunable matrices by name: for BERT the six of every encoder layer."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, MaskedLinear))


def prune(model: nn.Module, sparsity: float) -> None:
    """One pruning event: every prunable matrix to `sparsity`, by magnitude, in place."""
    for _, linear in masked_linears(model):
        linear.mask.copy_(magnitude_mask(linear.weight, linear.mask, sparsity))


def sparsity(model: nn.Module) -> float:
    """The achieved fraction of zeros over all prunable matrices, by their masks."""
    masks = [linear.mask for _, linear in masked_linears(model)]
    kept = torch.stack([mask.sum() for mask in masks]).sum().item()
    return 1.0 - kept / sum(mask.numel() for mask in masks)


def extract_student(model: PreTrainedModel) -> dict[str, Tensor]:
    """The student's state dict on CPU in fp32, zeros baked in, with the keys of the stock model.

    Its zeros are the pruned weights and no others: a kept weight that fp16 rounded to zero is written as the
    smallest number that its type can hold.
    """
    masks = {f"{name}.weight": linear.mask for name, linear in masked_linears(model)}
    state = {}
    for name, tensor in model.state_dict().items():
        if ".teacher." in name or name.endswith(".mask"):
            continue
        value = _bake_zeros(tensor, masks[name]) if name in masks else tensor
        dtype = torch.float32 if value.is_floating_point() else value.dtype
        state[name.replace(".student.", ".")] = value.detach().to("cpu", dtype, copy=True)
    return state


def _bake_zeros(weight: Tensor, mask: Tensor) -> Tensor:
    smallest = torch.finfo(weight.dtype).smallest_normal * torch.finfo(weight.dtype).eps
    return torch.where(weight == 0, smallest, weight) * mask
