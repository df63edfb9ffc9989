"""What single levers of the step are worth: `python -m benchmarks.levers`.

A trial's steps as they are, and with one thing changed, from the same weights over the same batches and draws,
in one process, in turn; medians over the blocks, the ratio to the unchanged step block by block, and the seconds until
the first step is done (recording, compiling).
"""

import os
import statistics
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.step import SHAPES, Steps, compare, our_run, random_task, random_teacher, step_parser, steps_of
from spd_ray.config.method import MethodConfig
from spd_ray.training import recording
from spd_ray.training.teacher import Teacher


@dataclass(frozen=True)
class Variant:
    memory: int = recording.MEMORY_LIMIT_BYTES
    disk: float = recording.SHARE_OF_FREE
    padding: str = "longest"
    compile_layers: bool = False


VARIANTS = {
    "as trials run": Variant(),
    "teacher's outputs from mapped files": Variant(memory=0),
    "teacher computed in every step": Variant(memory=0, disk=0.0),
    "the same, all padded to 128": Variant(padding="max_length"),
    "layers compiled": Variant(compile_layers=True),
}


def started(
    variant: Variant, teacher: Teacher, method: MethodConfig, precision: str, cache: str
) -> tuple[Steps, float]:
    """The variant's steps after the first, and the seconds until then."""
    begun = time.perf_counter()
    os.environ["SPD_RAY_CACHE"] = tempfile.mkdtemp(dir=cache)
    recording.MEMORY_LIMIT_BYTES, recording.SHARE_OF_FREE = variant.memory, variant.disk
    run = our_run(teacher, method, precision, 0, padding=variant.padding, compile_layers=variant.compile_layers)
    steps = steps_of(run)
    next(steps)
    return steps, time.perf_counter() - begun


def main() -> None:
    options = step_parser(__doc__, blocks=5).parse_args()
    torch.set_num_threads(options.threads)
    method = MethodConfig(p0=options.p0, batch_size=options.batch_size, dropout=0.1)
    for lengths_of in options.lengths:
        data = random_task(lengths_of, np.random.default_rng(0), options.examples)
        teacher = random_teacher(SHAPES[options.shape], data)
        with tempfile.TemporaryDirectory() as cache:
            ready = [started(variant, teacher, method, options.precision, cache) for variant in VARIANTS.values()]
            times = compare([steps for steps, _ in ready], options.block, options.blocks)
        table = Table(
            "step", "ms", "over the unchanged one (smallest to largest)", "s until the first step is done",
            title=f"{options.shape}, {lengths_of}, {options.precision}, batch {options.batch_size}, "
            f"{options.threads} thread(s), torch {torch.__version__}",
        )  # fmt: skip
        for name, mine, (_, first) in zip(VARIANTS, times, ready, strict=True):
            ratios = [one / other for one, other in zip(mine, times[0], strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            table.add_row(name, f"{statistics.median(mine) * 1e3:.1f}", spread, f"{first:.1f}")
        Console(width=130).print(table)


if __name__ == "__main__":
    main()
