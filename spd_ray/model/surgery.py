"""Models changed by functions before they are wrapped: masked linears and grafted layers.

One model is the teacher, the student and the grafted model at once: the encoder is cut into blocks of teacher
layers, and each `GraftedLayer` holds a frozen block and the student layer that stands for it. The draw r of Eq. (1)
says which of them runs: r = 0...0 is f^T, r = 1...1 is f^S. In SPD a block is one layer.

Shapes: M teacher layers in K blocks, B examples, L positions, H hidden size, A heads, d = H / A.

Why so: docs/decisions.md #one-model, #embeddings-of-its-own.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spd_ray.base.errors import UserError
from spd_ray.config.method import StudentConfig
from spd_ray.equations.masks import global_nested_masks, nested_mask
from spd_ray.equations.patterns import SINGLE, Pattern
from spd_ray.model.attention import ATTENTION_MAPS, LayerOutputs, ModelOutputs
from spd_ray.model.compiled import layer_function
from spd_ray.model.dropout import Dropout
from spd_ray.model.linear import MaskedLinear
from spd_ray.model.sparse_layer import join_linears

Draw = tuple[bool, ...]  # r_1 ... r_K of Eq. (1): True where the student layer is grafted
DROPOUT_ATTRIBUTES = ("attention_dropout",)  # where a module keeps its dropout as a number (ModernBERT)


class GraftedLayer(nn.Module):
    """Eq. (1), Huang et al. 2022: f^G_i(x) = r_i f^S_i(x) + (1 - r_i) f^T_i(x), one of them computed.

    `teacher` is a block of one layer or more. Either side may be absent: a model of students alone has no teacher.
    """

    def __init__(self, student: nn.Module | None, teacher: Sequence[nn.Module], attention_type: str | None) -> None:
        super().__init__()
        self.student = student
        self.teacher = nn.ModuleList(teacher)
        self.attention_type = attention_type  # encoders with several kinds of layer (ModernBERT) read it
        self.grafted = student is not None
        self.known_output: Tensor | None = None
        self.recording = False
        self.backend: str | None = None  # of torch.compile; None: layers are not compiled
        self.input: Tensor | None = None
        self.outputs: LayerOutputs | None = None

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(B, L, H) -> (B, L, H); `known_output` where it was computed before."""
        if self.recording:
            self.input = hidden_states
        if self.known_output is not None:
            return self.known_output
        run = layer_function(self.backend)
        layers = self.teacher if self.student is None or not self.grafted else (self.student,)
        for layer in layers:
            outputs = run(layer, hidden_states, *args, **kwargs)
            hidden_states = outputs.hidden
        if self.recording:
            self.outputs = outputs
        return hidden_states


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


def blocks_of(layers: int, depth: float) -> list[range]:
    """The teacher's `layers` cut into round(depth * layers) blocks, at least one, as equal as they can be.

    >>> blocks_of(4, 0.5), blocks_of(5, 0.6)
    ([range(0, 2), range(2, 4)], [range(0, 2), range(2, 4), range(4, 5)])
    """
    count = max(1, round(depth * layers))
    size, longer = divmod(layers, count)
    ends = [0]
    for block in range(count):
        ends.append(ends[-1] + size + (block < longer))
    return [range(first, end) for first, end in itertools.pairwise(ends)]


def picked_layers(layers: int, student: StudentConfig) -> list[int]:
    """The layers that the student starts from: the first K, or the first of each block.

    >>> picked_layers(4, StudentConfig(depth=0.5)), picked_layers(4, StudentConfig(depth=0.5, pick="spaced"))
    ([0, 1], [0, 2])
    """
    blocks = blocks_of(layers, student.depth)
    return [block[0] if student.pick == "spaced" else index for index, block in enumerate(blocks)]


def graft(
    teacher: PreTrainedModel,
    student: StudentConfig,
    attention_maps: str,
    *,
    dropout: float,
    teacher_dropout: float = 0.0,
    source: PreTrainedModel | None = None,
    shares_frozen: bool = False,
    joins: bool = True,
) -> PreTrainedModel:
    """A copy of the fine-tuned `teacher` in which every block of encoder layers is a `GraftedLayer`.

    The student layers start as copies of the teacher's (of `source`'s, if given: then all around them is `source`'s
    too, and no teacher layers are kept). Their linear layers are masked. Nothing requires a gradient yet. With
    `shares_frozen` all other parameters are the teacher's own: they must keep type and values, and get no gradient.
    With `joins` a layer's sparse linears compute together. Raises UserError where a block mixes kinds of attention.
    """
    shared = {id(parameter): parameter for parameter in teacher.parameters()} if shares_frozen else {}
    model = copy.deepcopy(teacher if source is None else source, shared).requires_grad_(False)
    model.config._attn_implementation = ATTENTION_MAPS[attention_maps]
    if source is not None:
        _set_dropout(model, dropout)
    layers = encoder_layers(model)
    blocks, picked = blocks_of(len(layers), student.depth), picked_layers(len(layers), student)
    grafted = []
    for block, pick in zip(blocks, picked, strict=True):
        copied = copy.deepcopy(layers[pick], {id(model.config): model.config})
        _set_dropout(copied, dropout)
        for name, linear in list(copied.named_modules()):
            if isinstance(linear, nn.Linear):
                copied.set_submodule(name, MaskedLinear.of(linear))
        if joins:
            join_linears(copied)
        kept = [layers[index] for index in block] if source is None else []
        for layer in kept:
            _set_dropout(layer, teacher_dropout)
        grafted.append(GraftedLayer(copied, kept, _attention_type([layers[pick], *kept])))
    for index, layer in enumerate(grafted):
        layers[index] = layer
    del layers[len(grafted) :]
    return model.eval()


def _attention_type(layers: Sequence[nn.Module]) -> str | None:
    """The kind of attention that all of `layers` have, where the encoder knows kinds."""
    kinds = {getattr(layer, "attention_type", None) for layer in layers}
    if len(kinds) > 1:
        raise UserError(
            f"method.student.depth: this encoder alternates {' and '.join(sorted(map(str, kinds)))}, and no layer can "
            f"stand for layers of both; depth must be 1"
        )
    return kinds.pop()


def teacher_in_blocks(teacher: PreTrainedModel, student: StudentConfig, attention_maps: str) -> PreTrainedModel:
    """A frozen copy of `teacher` alone, cut into the student's blocks, so that its outputs can be recorded."""
    model = graft(teacher, student, attention_maps, dropout=0.0)
    for layer in grafted_layers(model):
        layer.student = None
    return model


def _set_dropout(layer: nn.Module, dropout: float) -> None:
    for path, module in list(layer.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.Dropout):
            layer.set_submodule(path, Dropout(dropout))
        for name in DROPOUT_ATTRIBUTES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, dropout)


def grafted_layers(model: PreTrainedModel) -> list[GraftedLayer]:
    """The K grafted layers of a model made by `graft`, in order."""
    return [module for module in model.modules() if isinstance(module, GraftedLayer)]


def student_modules(model: PreTrainedModel, trained: str) -> list[nn.Module]:
    """The modules that have dropout in training: those of the student layers, or all but the teacher's blocks."""
    layers = grafted_layers(model)
    if trained == "layers":
        return [module for layer in layers for module in (layer.student or nn.Identity()).modules()]
    teacher = set(teacher_modules(model))
    return [module for module in model.modules() if module not in teacher]


def teacher_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The modules of the teacher's blocks."""
    return [module for layer in grafted_layers(model) for module in layer.teacher.modules()]


def student_parameters(model: PreTrainedModel) -> set[nn.Parameter]:
    """The parameters of the student layers."""
    return {p for layer in grafted_layers(model) for p in (layer.student or nn.Identity()).parameters()}


def set_training(modules: Sequence[nn.Module], training: bool) -> None:
    """Dropout on or off in `modules`; everything else stays as it is."""
    for module in modules:
        module.training = training


def leading_teachers(draw: Draw) -> int:
    """How many layers come before the first grafted student layer: they compute what the teacher computes."""
    return draw.index(True) if any(draw) else len(draw)


def set_draw(layers: Sequence[GraftedLayer], draw: Draw, known: Sequence[Tensor] = ()) -> None:
    """Graft the student layers that `draw` names.

    `known` are the teacher's outputs of its blocks 1 ... K for the batch at hand: the leading teacher blocks
    return them instead of computing them. `known` empty: every layer computes.
    """
    leading = leading_teachers(draw) if known else 0
    for index, (layer, grafted) in enumerate(zip(layers, draw, strict=True)):
        layer.grafted = grafted
        layer.known_output = known[index] if index < leading else None


def run_model(
    model: Any, layers: Sequence[GraftedLayer], inputs: Mapping[str, Tensor | None], backend: str | None = None
) -> ModelOutputs:
    """One forward pass of `model`, or of the engine around it, under the draw and `backend`; nothing is kept of it."""
    for layer in layers:
        layer.recording, layer.backend = True, backend
    logits = model(**inputs).logits
    embeddings = layers[0].input
    assert embeddings is not None
    outputs = ModelOutputs(logits, embeddings, tuple(layer.outputs for layer in layers))
    for layer in layers:
        layer.recording, layer.backend, layer.input, layer.outputs, layer.known_output = False, None, None, None, None
    return outputs


def masked_linears(model: nn.Module) -> Iterator[tuple[str, MaskedLinear]]:
    """The prunable matrices by name: for BERT the six of every encoder layer."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, MaskedLinear))


def prune(
    model: nn.Module,
    sparsity: float,
    globally: bool = False,
    scores: Mapping[str, Tensor] | None = None,
    pattern: Pattern = SINGLE,
) -> None:
    """One pruning event, in place: every prunable matrix to `sparsity`, or all of them together.

    `scores` by the matrix's name; else magnitudes. What stays or goes together, and where, is the `pattern`'s.
    """
    linears = dict(masked_linears(model))
    ranked = [
        pattern.units(pattern.magnitudes(one.weight) if scores is None else scores[name], one.mask)
        for name, one in linears.items()
    ]
    if globally:
        own, masks = zip(*ranked, strict=True)
        units = global_nested_masks(own, masks, sparsity)
    else:
        units = [nested_mask(own, mask, sparsity) for own, mask in ranked]
    set_masks(linears.values(), [pattern.of_units(unit) for unit in units])


def set_masks(linears: Iterable[MaskedLinear], masks: Iterable[Tensor]) -> None:
    """What each of the `linears` keeps from now on."""
    for linear, mask in zip(linears, masks, strict=True):
        linear.mask.copy_(mask)
        linear.index_kept()


def check_pattern(model: nn.Module, pattern: Pattern, name: str) -> None:
    """Raises UserError where a prunable matrix is not made of whole groups or blocks of the pattern `name`."""
    for matrix, linear in masked_linears(model):
        if not pattern.divides(tuple(linear.weight.shape)):
            rows, columns = linear.weight.shape
            raise UserError(
                f"method.pattern: {name} does not divide {matrix} of {rows} x {columns}: rows must be a multiple of "
                f"{pattern.rows}, columns of {pattern.group * pattern.columns}"
            )


def sparsity(model: nn.Module) -> float:
    """The achieved fraction of zeros over all prunable matrices, by their masks."""
    masks = [linear.mask for _, linear in masked_linears(model)]
    kept = torch.stack([mask.sum() for mask in masks]).sum().item()
    return 1.0 - kept / sum(mask.numel() for mask in masks)


def share_of_zeros(model: nn.Module) -> float:
    """The fraction of the prunable weights that are zero, whatever their masks say."""
    weights = [linear.weight for _, linear in masked_linears(model)]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def deviation(model: nn.Module) -> float:
    """The root mean square of all prunable weights, whose mean is near 0."""
    weights = [linear.weight.detach().double() for _, linear in masked_linears(model)]
    return float(sum(weight.square().sum() for weight in weights) / sum(weight.numel() for weight in weights)) ** 0.5


def remaining_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """What is left of the student without its zeros: parameters of its encoder layers, and of the whole model."""
    pruned = sum(int((~linear.mask).sum()) for _, linear in masked_linears(model))
    layers = grafted_layers(model)
    of_layers = sum(p.numel() for layer in layers for p in (layer.student or nn.Identity()).parameters())
    of_blocks = sum(p.numel() for layer in layers for p in layer.teacher.parameters())
    return of_layers - pruned, sum(p.numel() for p in model.parameters()) - of_blocks - pruned


def student_config(model: PreTrainedModel, student: StudentConfig) -> Any:
    """The configuration of the extracted student: the teacher's, with as many layers as the student has."""
    config = copy.deepcopy(model.config)
    picked = picked_layers(config.num_hidden_layers, student)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in picked]
    config.num_hidden_layers = len(picked)
    config._attn_implementation = None
    return config


def extract_student(model: PreTrainedModel) -> dict[str, Tensor]:
    """The student's state dict on CPU in fp32, zeros baked in, with the keys of the stock model.

    Its zeros are the pruned weights and no others: a kept weight that fp16 rounded to zero is written as the
    smallest number that its type can hold.
    """
    masks = {f"{name}.weight": linear.mask for name, linear in masked_linears(model)}
    grafted = [f"{name}." for name, module in model.named_modules() if isinstance(module, GraftedLayer)]
    of_teacher = tuple(f"{layer}teacher." for layer in grafted)
    buffers = {f"{name}.mask" for name, _ in masked_linears(model)}
    state = {}
    for name, tensor in model.state_dict().items():
        if name in buffers or name.startswith(of_teacher):
            continue
        value = _bake_zeros(tensor, masks[name]) if name in masks else tensor
        dtype = torch.float32 if value.is_floating_point() else value.dtype
        layer = next((layer for layer in grafted if name.startswith(layer)), None)
        stock = name if layer is None else layer + name.removeprefix(f"{layer}student.")
        state[stock] = value.detach().to("cpu", dtype, copy=True)
    return state


def _bake_zeros(weight: Tensor, mask: Tensor) -> Tensor:
    smallest = torch.finfo(weight.dtype).smallest_normal * torch.finfo(weight.dtype).eps
    return torch.where(weight == 0, smallest, weight) * mask
