"""Which of a student's matrices are computed by sparse kernels: agreed by all ranks, measured once a machine.

Why so: docs/decisions.md #when-training-is-sparse.
"""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from spd_ray.config.trial import EngineConfig, EngineRequest
from spd_ray.engine import engine as engines
from spd_ray.kernels import timing
from spd_ray.kernels.build import forget_failure, unavailable_because
from spd_ray.kernels.crossover import crossover
from spd_ray.model.surgery import encoder_layers, masked_linears


def may_use_kernels(config: EngineRequest) -> bool:
    """Whether a trial of these settings would use the kernels where they can be built; compiled layers are dense."""
    if config.compile_layers:
        return False
    fits = config.precision == "fp32" and config.zero_stage in (0, 1, 2) and engines.device().type == "cpu"
    return config.sparse_kernels == "auto" and fits


def make_kernels_ready(config: EngineRequest, model: PreTrainedModel, threads: int) -> str | None:
    """Build and measure what trials on `threads` threads would else wait for; why they run without, in one line.

    Where an earlier build has failed it is tried again.
    """
    if not may_use_kernels(config):
        return None
    forget_failure()
    reason = unavailable_because()
    if reason is not None:
        return f"sparse kernels: {reason}; trials compute all products densely"
    with timing.threads(threads):
        _crossovers([one for one in encoder_layers(model).modules() if isinstance(one, nn.Linear)])
    return None


def choose_kernels(model: nn.Module, config: EngineConfig) -> None:
    """Tell every masked linear of `model` from which sparsity on the kernels win; rank 0's measurements count.

    Where they are not wanted, or a rank has none, every product stays dense.
    """
    if not may_use_kernels(config):
        return
    of_ranks = engines.gather_over_ranks(
        None if unavailable_because() else _crossovers([linear for _, linear in masked_linears(model)])
    )
    if None not in of_ranks:
        for _, linear in masked_linears(model):
            linear.sparse_from = of_ranks[0][linear.out_features, linear.in_features]


def _crossovers(linears: Sequence[nn.Linear]) -> dict[tuple[int, int], float | None]:
    """By the shape (out, in) of the linears."""
    return {shape: crossover(*shape) for shape in sorted({(one.out_features, one.in_features) for one in linears})}
