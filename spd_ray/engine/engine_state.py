"""What a trial continues from, whatever its ranks and ZeRO stage were: whole fp32 tensors, and numbers as JSON.

DeepSpeed's own checkpoints are pickles, cut by rank. Here nothing is unpickled, and the number of ranks may change.

Why so: docs/decisions.md #a-trials-state.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import deepspeed
import torch
from deepspeed.runtime.engine import DeepSpeedEngine
from deepspeed.utils import (
    lazy_init_hp_params_optimizer_state,
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spd_ray.base.cache import check_sums, write_sums
from spd_ray.engine.optimizer import FlatOptimizer
from spd_ray.model.surgery import masked_linears

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's
STATISTIC = "statistic."  # what the names of a criterion's tensors begin with
TENSORS, NUMBERS = "state.safetensors", "state.json"
COUNTERS = ("global_steps", "global_samples", "micro_steps", "skipped_steps")
SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")  # of the fp16 loss scale
Own = tuple[Tensor, dict[str, Tensor]]  # of a parameter: what AdamW steps in fp32, and its moments by name


def whole_parameters(engine: DeepSpeedEngine, change: bool = False) -> AbstractContextManager[Any]:
    """Every parameter whole inside the block, on all ranks: ZeRO 3 keeps parts. What is changed is kept if asked."""
    if engine.zero_optimization_stage() < 3:
        return nullcontext()
    return deepspeed.zero.GatheredParameters(list(engine.module.parameters()), modifier_rank=0 if change else None)


@torch.no_grad()
def rewind(engine: DeepSpeedEngine, values: dict[str, Tensor]) -> None:
    """Set the parameters named in `values` and forget the optimizer's moments; the step count goes on."""
    with whole_parameters(engine, change=True):
        for name, parameter in engine.module.named_parameters():
            if name in values:
                parameter.copy_(values[name])
    if hasattr(engine.optimizer, "refresh_fp32_params"):
        engine.optimizer.refresh_fp32_params()
    for state in _base(engine).state.values():
        for moment in state.values():
            if isinstance(moment, torch.Tensor):
                moment.zero_()


class Change(NamedTuple):
    """What happens to a parameter outside of the optimizer's steps."""

    added: Tensor | None = None  # to its weights
    fresh: Tensor | None = None  # bool: weights that begin anew, at 0 and with moments of 0


@torch.no_grad()
def change_weights(engine: DeepSpeedEngine, changes: Mapping[str, Change]) -> None:
    """Apply `changes`, by the parameter's name, to weights, masters and moments. All ranks call it; not for ZeRO 3."""
    _link_moments(engine)
    for name, parameter, own in _stepped(engine):
        if name not in changes:
            continue
        added, fresh = changes[name]
        weight = safe_get_full_fp32_param(parameter).clone() if own is None else own[0]
        if added is not None:
            weight += added
        if fresh is not None:
            weight.masked_fill_(fresh, 0.0)
        parameter.data.copy_(weight)
        if own is None:
            safe_set_full_fp32_param(parameter, weight)
        if fresh is None:
            continue
        for moment in MOMENTS:
            found = safe_get_full_optimizer_state(parameter, moment).clone() if own is None else own[1][moment]
            found.masked_fill_(fresh, 0.0)
            if own is None:
                safe_set_full_optimizer_state(parameter, found, moment)


class StateCopy(NamedTuple):
    """A state in host memory, of which training changes nothing."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write it into `folder`, with its sums."""
        save_file(self.tensors, folder / TENSORS)
        (folder / NUMBERS).write_text(json.dumps(self.numbers))
        write_sums(folder)


@torch.no_grad()
def copy_state(engine: DeepSpeedEngine, keep: bool = True, earlier: StateCopy | None = None) -> StateCopy | None:
    """Gather everything the next step depends on and copy it; without `keep`, help to gather, and return None.

    All ranks call it, one of them to keep: student, masks, optimizer, loss scaler, counters. The tensors of an
    `earlier` copy of the same trial, which nobody reads any more, are overwritten: there is one copy in memory.
    """
    _link_moments(engine)
    tensors = {} if earlier is None else earlier.tensors

    def put(name: str, tensor: Tensor) -> None:
        if keep and name in tensors:
            tensors[name].copy_(tensor)
        elif keep:
            tensors[name] = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)

    for name, linear in masked_linears(engine.module):
        put(f"mask.{name}", linear.mask)
        for statistic, tensor in linear.statistics.items():
            put(f"{STATISTIC}{statistic}.{name}", tensor)
    for name, parameter, own in _stepped(engine):
        put(f"weight.{name}", safe_get_full_fp32_param(parameter) if own is None else own[0])
        for moment in MOMENTS:
            found = safe_get_full_optimizer_state(parameter, moment) if own is None else own[1][moment]
            put(f"{moment}.{name}", found)
    if not keep:
        return None
    numbers: dict[str, Any] = {name: getattr(engine, name) for name in COUNTERS}
    numbers["sparse_from"] = {name: linear.sparse_from for name, linear in masked_linears(engine.module)}
    numbers["scaler"] = {name: getattr(_scaler(engine), name) for name in SCALER if hasattr(_scaler(engine), name)}
    numbers["optimizer_steps"] = float(next(iter(_base(engine).state.values()))["step"])
    return StateCopy(tensors, numbers)


def load_state(engine: DeepSpeedEngine, folder: Path) -> None:
    """Continue from a state that was written. Raises ValueError if a file is not as it was."""
    check_sums(folder)
    tensors, numbers = load_file(folder / TENSORS), json.loads((folder / NUMBERS).read_text())
    for name, linear in masked_linears(engine.module):
        linear.mask.copy_(tensors[f"mask.{name}"])
        linear.statistics = _statistics_of(name, tensors, linear.mask.device)
        linear.sparse_from = numbers["sparse_from"][name]
        linear.index_kept()
    _make_moments(engine, numbers["optimizer_steps"])
    _link_moments(engine)
    with whole_parameters(engine, change=True):
        for name, parameter, _ in _stepped(engine):
            parameter.data.copy_(tensors[f"weight.{name}"])
    for name, parameter, own in _stepped(engine):
        weight = tensors[f"weight.{name}"].to(parameter.device)
        if own is None:
            safe_set_full_fp32_param(parameter, weight)
            for moment in MOMENTS:
                safe_set_full_optimizer_state(parameter, tensors[f"{moment}.{name}"].to(parameter.device), moment)
        else:
            master, moments = own
            master.copy_(weight)
            for moment in MOMENTS:
                moments[moment].copy_(tensors[f"{moment}.{name}"])
    for name in COUNTERS:
        setattr(engine, name, numbers[name])
    for name, value in numbers["scaler"].items():
        setattr(_scaler(engine), name, value)


def _statistics_of(linear: str, tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The criterion's statistics of the matrix `linear`, by their names."""
    keys = {key: key.removeprefix(STATISTIC).partition(".") for key in tensors if key.startswith(STATISTIC)}
    return {name: tensors[key].to(device) for key, (name, _, of) in keys.items() if of == linear}


def _base(engine: DeepSpeedEngine) -> torch.optim.Optimizer:
    """The AdamW inside DeepSpeed's wrappers."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def _scaler(engine: DeepSpeedEngine) -> Any:
    """What holds the loss scale: ZeRO keeps it in one attribute, the unfused optimizer in another, fp32 has none."""
    wrapped = engine.optimizer
    return getattr(wrapped, "loss_scaler", None) or getattr(wrapped, "loss_scale_config", None)


def _stepped(engine: DeepSpeedEngine) -> list[tuple[str, nn.Parameter, Own | None]]:
    """The trained parameters by name, each with what AdamW steps of it; None where ZeRO partitions it."""
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    return [(names[id(parameter)], parameter, own) for parameter, own in _pairs(engine)]


def _pairs(engine: DeepSpeedEngine) -> Iterator[tuple[nn.Parameter, Own | None]]:
    wrapped, flat = engine.optimizer, itertools.chain.from_iterable
    if engine.zero_optimization():
        groups = wrapped.fp16_groups if engine.zero_optimization_stage() == 3 else wrapped.bit16_groups
        return ((parameter, None) for parameter in flat(groups))
    if isinstance(wrapped, FlatOptimizer):
        return wrapped.masters()
    stepped = flat(group["params"] for group in wrapped.param_groups)
    return ((parameter, (parameter.data, wrapped.state[parameter])) for parameter in stepped)


def _make_moments(engine: DeepSpeedEngine, steps: float) -> None:
    """What AdamW makes at its first step, zeros as yet."""
    base = _base(engine)
    stepped = [parameter for group in base.param_groups for parameter in group["params"]]
    if engine.zero_optimization_stage() == 3:
        stepped = engine.optimizer.fp32_partitioned_groups_flat
    for parameter in stepped:
        moments = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
        base.state[parameter] = {"step": torch.tensor(steps, device=parameter.device), **moments}


def _link_moments(engine: DeepSpeedEngine) -> None:
    """Tell ZeRO's parameters where their moments are: DeepSpeed 0.19 does it for the first parameter group alone."""
    if engine.zero_optimization_stage() in (1, 2):
        wrapped = engine.optimizer
        for parameters, partition in zip(wrapped.bit16_groups, wrapped.single_partition_of_fp32_groups, strict=True):
            lazy_init_hp_params_optimizer_state(parameters, partition, _base(engine).state)
