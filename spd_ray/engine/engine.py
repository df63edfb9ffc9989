"""The DeepSpeed engine that takes the training steps.

A step that overflows in fp16 is skipped by DeepSpeed: `applied_steps` counts the steps that were applied.

Why so: docs/decisions.md #gpus-of-a-process, #empty-draws, #loss-scale-at-zero-0, #flinear-after-zero-3,
#zero-buckets, #stale-gradients-in-zero-3, #fp16-on-any-cpu, #nothing-compiled-for-one-rank, #a-rank-that-fails.
"""

import gc
import inspect
import io
import logging
import math
import os
import resource
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import nn

from spd_ray.base.imports import as_if_missing

# In each process anew: a worker inherits the driver's variables, and may have a GPU where the driver has none.
os.environ["DS_ACCELERATOR"] = "cuda" if torch.cuda.is_available() else "cpu"
os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "ERROR")

with as_if_missing("mlflow"):  # its autotuner, which nobody calls here, loads MLflow: a second of each worker's start
    import deepspeed
    from deepspeed.accelerator import get_accelerator
    from deepspeed.comm.torch import build_shm_op
    from deepspeed.ops.op_builder.all_ops import ALL_OPS
    from deepspeed.runtime.config import DeepSpeedConfig
    from deepspeed.runtime.zero import parameter_offload
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

from spd_ray.base.network import collective_interfaces, free_port
from spd_ray.config.trial import EngineConfig
from spd_ray.engine.optimizer import FlatOptimizer, ProximalAdamW, Zeros, clip_gradients
from spd_ray.engine.precision import set_tf32
from spd_ray.model.surgery import masked_linears

logging.getLogger("DeepSpeed").setLevel(logging.ERROR)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BUCKET_ELEMENTS = 2**24  # of ZeRO's buffer for gradients; DeepSpeed's own of 5e8 is larger than the models here
ZERO_3 = {  # each draw is another graph; weights that were gathered go when their layer has run
    "stage3_param_persistence_threshold": 0,
    "stage3_prefetch_bucket_size": 0,
    "stage3_max_live_parameters": 0,
    "stage3_max_reuse_distance": 0,
}
LINEAR = torch.nn.functional.linear
NCCL = {  # torch's own watch over a collective: it ends a process that fails in one, or hangs where it watches
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "3",  # without cleaning up, which may hang
    "TORCH_NCCL_ENABLE_MONITORING": "1",
    "TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC": "120",
}
LOOPBACK = "127.0.0.1"
ADAM_BETAS = (0.9, 0.999)


class Engine(deepspeed.DeepSpeedEngine):
    """DeepSpeed's engine with what of its step at ZeRO 0 is replaced because it works parameter by parameter.

    `finite` () says whether all gradients have been finite so far, where no step is skipped that has others.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, settings: dict[str, Any]) -> None:
        checked = DeepSpeedConfig(settings)
        super().__init__(
            None, model, optimizer=optimizer, config=settings, config_class=checked, dist_init_required=False
        )
        self.finite = getattr(self.optimizer, "finite", torch.ones((), dtype=torch.bool, device=self.device))
        self._clip_norm = torch.tensor([self.gradient_clipping()], device=self.device)
        self._zeros: Zeros | None = None
        if world_size() == 1 and not self.zero_optimization():
            self.enable_backward_allreduce = False  # a sum over one rank: an eighth of a small model's step
            if isinstance(self.optimizer, ProximalAdamW):  # in fp32
                self._zeros = Zeros(p for group in self.optimizer.param_groups for p in group["params"])

    def _configure_fp16_optimizer(self, optimizer: torch.optim.Optimizer, low_precision_dtype: torch.dtype) -> Any:
        return FlatOptimizer(
            optimizer,
            low_precision_dtype=low_precision_dtype,
            dynamic_loss_scale=self.dynamic_loss_scale(),
            dynamic_loss_args=self.dynamic_loss_scale_args(),
            clip_grad=self.gradient_clipping(),
        )

    def clip_fp32_gradients(self) -> None:
        norm = clip_gradients(self.module.parameters(), self._clip_norm)
        self.finite.logical_and_(norm.isfinite())

    def fill_gradients(self) -> None:
        """Zeros for what has no gradient (a student layer that the draw leaves out), where nothing else sees to it.

        As DeepSpeed's sum over ranks gives it: AdamW's moments decay there too.
        """
        if self._zeros is None:
            return
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = self._zeros.like(parameter)


def device() -> torch.device:
    """The first visible GPU, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def join_group(rank: int, size: int, head: str, port: int, own: str) -> None:
    """Become `rank` of a process group of `size`; returns when all have joined.

    `head` is the address at which rank 0 listens, `own` this rank's. DeepSpeed would look for MPI if the variables were
    not set, and Gloo would take the host name's interface, often a loopback.
    """
    if torch.distributed.is_initialized():
        return
    group = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": size, "MASTER_ADDR": head, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in group.items()})
    for name, value in {**collective_interfaces(own), **NCCL}.items():
        os.environ.setdefault(name, value)
    if size == 1:
        _skip_shared_memory_op()
    else:
        _load_shared_memory_op()
    deepspeed.init_distributed(verbose=False)


def _skip_shared_memory_op() -> None:
    """One rank talks to nobody, so nothing need be compiled: DeepSpeed leaves out what it takes for incompatible."""
    deepspeed.ops.__compatible_ops__ = dict.fromkeys(ALL_OPS, False)


def _load_shared_memory_op() -> None:
    """Compile or load what DeepSpeed's ranks on CPUs of one machine talk by, one process at a time.

    torch guards that by a file that a killed process leaves behind, and every later process would wait for it forever.
    """
    from torch.utils import cpp_extension  # here, for one rank needs none of it

    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is None:
        return
    folder = Path(cpp_extension._get_build_directory(builder.name, verbose=False))
    with FileLock(folder / "spd_ray.lock"), redirect_stdout(io.StringIO()):
        (folder / "lock").unlink(missing_ok=True)
        build_shm_op()


def ensure_group() -> None:
    """A process group of one, unless this process has joined another."""
    join_group(0, 1, LOOPBACK, free_port(), LOOPBACK)


def rank() -> int:
    """This process's rank; 0 where it has joined no group."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """How many ranks compute together: a trial's, or a teacher's; 1 where this process has joined no group."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def waits_for_the_dead() -> bool:
    """Whether a collective waits for a rank that is dead: NCCL's kernel does, where gloo sees the connection break."""
    return torch.distributed.is_initialized() and "nccl" in torch.distributed.get_backend()


def mean_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The mean of each element over all ranks, the same on all of them."""
    if world_size() > 1:
        sum_over_ranks(values)
        values /= world_size()
    return values


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The sum of each element over all ranks, the same on all of them."""
    if world_size() > 1:
        torch.distributed.all_reduce(values)
    return values


def take_from_rank_0(values: torch.Tensor) -> None:
    """Overwrite `values` by rank 0's."""
    if world_size() > 1:
        torch.distributed.broadcast(values, 0)


def gather_over_ranks(value: Any) -> list[Any]:
    """The `value` of each rank, by rank, on all of them."""
    values = [value] * world_size()
    if world_size() > 1:
        torch.distributed.all_gather_object(values, value)
    return values


def _allow_fp16_on_any_cpu() -> None:
    """DeepSpeed refuses fp16 on CPUs without fp16 instructions, where torch computes it all the same, slowly."""
    if device().type == "cpu":
        get_accelerator().is_fp16_supported = lambda: True


def make_engine(
    model: nn.Module,
    trained: Sequence[nn.Parameter],
    config: EngineConfig,
    *,
    batch_size: int,
    clip_norm: float,
    weight_decay: float,
) -> Engine:
    """Wrap `model` with AdamW over `trained`; it is cast to the precision and moved to the device.

    Weight decay applies to matrices only. The learning rate is the trainer's, set before each step.
    """
    ensure_group()
    _allow_fp16_on_any_cpu()
    set_tf32(config.tf32)
    prunable = {id(linear.weight) for _, linear in masked_linears(model)}
    groups = [
        {"params": [p for p in trained if id(p) in prunable], "weight_decay": weight_decay, "prunable": True},
        {"params": [p for p in trained if id(p) not in prunable and p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [{"prunable": False, "l1": 0.0, "l1_floor": 1.0, **group} for group in groups if group["params"]]
    optimizer = ProximalAdamW(groups, lr=0.0, betas=ADAM_BETAS, fused=True)
    zero = {"stage": config.zero_stage, "reduce_bucket_size": max(BUCKET_ELEMENTS, *(p.numel() for p in trained))}
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": math.ceil(batch_size / world_size() / config.gradient_accumulation_steps),
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "gradient_clipping": clip_norm,
        "zero_optimization": zero | (ZERO_3 if config.zero_stage == 3 else {}),
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
        "timers": {"throughput": {"enabled": False}},  # it waits for the device, twice a step
    }
    if config.precision == "bf16":
        settings["bf16"] = {"enabled": True}
    if config.precision == "fp16":
        settings["fp16"] = {
            "enabled": True,
            "loss_scale": 0,
            "initial_scale_power": config.initial_scale_power,
            "loss_scale_window": config.loss_scale_window,
            "hysteresis": 1,
        }
    torch.nn.functional.linear = LINEAR  # an earlier engine of ZeRO 3 leaves its own behind: other last bits
    return Engine(model.to(device()), optimizer, settings)


def set_rates(engine: Engine, learning_rate: float, l1: float, l1_floor: float) -> None:
    """The learning rate of the next step, for every parameter group, and the L1 norm for the prunable one."""
    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate
        group["l1"], group["l1_floor"] = (l1 if group["prunable"] else 0.0), l1_floor


def apply_part(engine: Engine, loss: torch.Tensor) -> None:
    """Add the gradient of `loss`, of a part of a batch; with its last part, clip and take one optimizer step.

    The step is skipped where fp16 overflows. In fp16 at ZeRO 0, DeepSpeed 0.19 divides the gradients by a loss scale
    that it has not multiplied with; at ZeRO 3 it takes the last step's gradient of what has none now.
    """
    if engine.fp16_enabled() and not engine.zero_optimization():
        loss = loss * engine.optimizer.loss_scale
    if engine.zero_optimization_stage() == 3 and engine.micro_steps % engine.gradient_accumulation_steps() == 0:
        engine.optimizer.grad_partitions_flat_buffer.zero_()
    engine.backward(loss, scale_wrt_gas=engine.gradient_accumulation_steps() > 1)
    if engine.is_gradient_accumulation_boundary():
        engine.fill_gradients()
    engine.step()


def applied_steps(engine: Engine) -> int:
    """Optimizer steps taken; those skipped for overflow are none."""
    return engine.global_steps - engine.skipped_steps


def loss_scale(engine: Engine) -> float:
    """The current fp16 loss scale; 1.0 in fp32 and bf16."""
    return float(engine.optimizer.loss_scale) if engine.fp16_enabled() else 1.0


def release(engine: Engine) -> None:
    """Undo what DeepSpeed did to the model and to the process; `collect_memory` frees both once nobody holds them."""
    engine.destroy()
    if engine.zero_optimization_stage() == 3:
        _forget_zero_3(engine.module)


def _forget_zero_3(model: nn.Module) -> None:
    """DeepSpeed 0.19 keeps every model of ZeRO 3: in a list of a module's, and in the cache of a class's method."""
    models = parameter_offload.FWD_MODULE_STACK
    models[:] = [one for one in models if one is not model]
    cached = vars(PartitionedParameterCoordinator)["_PartitionedParameterCoordinator__params_to_release"]
    inspect.getclosurevars(cached).nonlocals["func"].cache_clear()


def collect_memory() -> None:
    """Give back what nothing refers to any more, so that the worker's next trial starts from the same memory.

    Engine, optimizer and model refer to each other: only the garbage collector frees them.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory_bytes() -> int:
    """The largest GPU allocation since `collect_memory`, or on CPU the largest resident set of the process so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
