"""What a trial takes: memory of its ranks and space on disk, calculated from what is trained.

`python -m benchmarks.memory` measures the engine's part beside this calculation.
"""

from typing import NamedTuple

from spd_ray.config.method import MethodConfig
from spd_ray.config.trial import EngineConfig
from spd_ray.engine import engine as engines
from spd_ray.model.surgery import masked_linears
from spd_ray.training.teacher_outputs import recorded_part
from spd_ray.training.trainer import SpdRun


class Footprint(NamedTuple):
    """Bytes of one trial."""

    engine: int  # weights, masks, moments, gradients of a rank, a criterion's statistics, at their largest
    outputs: int  # the teacher's recorded outputs: of a machine, but on GPUs and with ZeRO 3 of each process
    state: int  # on disk: what it continues from
    student: int  # on disk, at most: a sparse student is stored dense


def footprint(run: SpdRun, ranks: int) -> Footprint:
    """The bytes of `run` on so many ranks; what the batch's activations take is not among them."""
    trained = sum(_numel(parameter) for parameter in run.model.parameters() if parameter.requires_grad)
    masked = sum(_numel(linear.weight) for _, linear in masked_linears(run.model))
    recorded = recorded_part(run.teacher_outputs)
    return Footprint(
        engine=int(trained * bytes_a_parameter(trained, run.config.engine, ranks))
        + masked * bytes_of_criterion(run.config.method),
        outputs=recorded.nbytes if recorded else 0,
        state=state_bytes(trained, masked, run.config.method.floats),
        student=4 * sum(parameter.numel() for parameter in run.teacher.model.parameters()),
    )


def bytes_a_parameter(trained: int, engine: EngineConfig, ranks: int) -> float:
    """Bytes on one rank for each of the `trained` parameters.

    What stays over N ranks: weights of width w (4, or 2 in fp16 and bf16), over N in ZeRO 3; the grafted model's frozen
    teacher layers, as many again, but none in fp32 below ZeRO 3, where they are the teacher's own; masks 1; AdamW's two
    moments 8, and an fp32 master copy of 4 in fp16 and bf16 and wherever ZeRO partitions, over N from ZeRO 1; gradients
    w, over N from ZeRO 1. And the larger of what comes on top for a while: in backward, from ZeRO 1 on the masked
    weights w and the bucket of gradients that are reduced (below, the gradients take the masked weights' place, and to
    reduce them over ranks takes a copy w); in the optimizer's step the gradients in fp32, 4 in fp16 and bf16, over N
    from ZeRO 1.
    """
    plain, stage = engine.precision == "fp32", engine.zero_stage
    width = 4 if plain else 2
    part = 1 / ranks if stage >= 1 else 1.0
    weights = width * (part if stage == 3 else 1.0)
    frozen = 0.0 if plain and stage < 3 else weights
    master = 0 if plain and stage == 0 else 4
    stays = weights + frozen + 1 + (master + 8 + width) * part
    bucket = min(1.0, engines.BUCKET_ELEMENTS / trained)
    backward = width * (1 + bucket) if stage >= 1 else width * (ranks > 1)
    step = 0.0 if plain else 4 * part
    return stays + max(backward, step)


def bytes_of_criterion(method: MethodConfig) -> int:
    """Bytes on each rank for a prunable weight, all in fp32.

    The statistics, and while a step is taken w dL/dw; at an event blocks of the Fisher, a gradient and scores; where
    weights grow again the dense gradient, what it is taken by and the scores.
    """
    row = method.criterion_row
    at_events = method.criterion.block_size + 2 if row.reads == "events" else 0
    regrowth = 3 if method.regrowth.kind in ("gradient", "exploration") else 0
    return 4 * (method.floats + (row.reads == "steps") + max(at_events, regrowth))


def state_bytes(trained: int, masked: int, floats: int) -> int:
    """What a trial continues from: weights and two moments in fp32, masks of a byte a weight, and its statistics."""
    return 12 * trained + masked + 4 * floats * masked


def _numel(parameter: object) -> int:
    """Elements of the whole parameter, also where ZeRO 3 has cut it."""
    return int(getattr(parameter, "ds_numel", None) or parameter.numel())  # type: ignore[attr-defined]
