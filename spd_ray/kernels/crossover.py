"""From which sparsity on the sparse kernels win: measured once a machine and shape, kept in the cache.

What is measured is a masked linear in training, forward and backward, beside the dense product with its mask.

Why so: docs/decisions.md #when-training-is-sparse.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spd_ray.base.cache import build_once, content_key
from spd_ray.kernels.build import library_key, unavailable_because
from spd_ray.kernels.masked import KeptLinear, masked_linear
from spd_ray.kernels.products import Pattern
from spd_ray.kernels.timing import cpu_name

SPARSITIES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
TOKENS = 256  # few: a short measurement is seldom disturbed
ROUNDS = 10
GAIN = 1.05  # below it nothing is won that a busy machine would not lose again
FILE = "crossover.json"


def crossover(out: int, inputs: int) -> float | None:
    """The least sparsity of `SPARSITIES` from which on the kernels win for a matrix (out, inputs); None: they never do.

    Measured at the first call on this machine, a second or less; kept by processor, instruction set, threads and torch.
    """
    if unavailable_because() is not None:
        return None
    about = {
        "cpu": cpu_name(),
        "instruction_set": torch.ops.spd_ray.instruction_set(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "kernels": library_key(),
        "shape": [out, inputs],
    }
    folder = build_once("crossover", content_key(about), lambda folder: _measure(folder, about))
    return json.loads((folder / FILE).read_text())["sparse_from"]


def _measure(folder: Path, about: dict[str, Any]) -> None:
    out, inputs = about["shape"]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        milliseconds = measured(out, inputs)
    report = {**about, "tokens": TOKENS, "milliseconds": milliseconds, "sparse_from": least_winning(milliseconds)}
    (folder / FILE).write_text(json.dumps(report, indent=2) + "\n")


def least_winning(milliseconds: dict[str, float]) -> float | None:
    """The first sparsity, in ascending order, at which the kernels win: with every weight less they have less to do.

    >>> least_winning({"dense": 2.1, "0.6": 2.2, "0.7": 2.05, "0.8": 1.0}), least_winning({"dense": 1, "0.9": 1})
    (0.8, None)
    """
    winning = (name for name in milliseconds if name != "dense" and GAIN * milliseconds[name] <= milliseconds["dense"])
    return next(map(float, winning), None)


def measured(out: int, inputs: int) -> dict[str, float]:
    """Milliseconds of forward and backward by "dense" and by sparsity, alternately, the least of `ROUNDS`."""
    x = torch.randn(TOKENS, inputs, requires_grad=True)
    weight, bias = torch.randn(out, inputs, requires_grad=True), torch.randn(out, requires_grad=True)
    up, parameters = torch.randn(TOKENS, out), (x, weight, bias)
    draws = torch.rand(out, inputs)
    mask = draws >= SPARSITIES[0]

    def by_kernels(sparsity: float) -> Callable[[], Tensor]:
        linear = KeptLinear(weight, bias, Pattern.of(draws >= sparsity))
        return lambda: masked_linear(x, linear)

    forwards: dict[str, Callable[[], Tensor]] = {"dense": lambda: F.linear(x, weight * mask, bias)}
    forwards |= {str(sparsity): by_kernels(sparsity) for sparsity in SPARSITIES}
    best = dict.fromkeys(forwards, float("inf"))
    for _ in range(ROUNDS):
        for name, forward in forwards.items():
            begin = time.perf_counter()
            torch.autograd.grad(forward(), parameters, up)
            best[name] = min(best[name], 1e3 * (time.perf_counter() - begin))
    return {name: round(value, 4) for name, value in best.items()}
