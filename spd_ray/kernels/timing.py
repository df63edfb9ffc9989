"""Milliseconds of several models on the same inputs, fairly: alternately in one process, the least of many rounds."""

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Candidate = Callable[[Mapping[str, Tensor]], Any]


def inputs_of(batch: int, length: int, vocabulary: int) -> dict[str, Tensor]:
    """Random ids, no padding: each (batch, length)."""
    ids = torch.randint(0, vocabulary, (batch, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}


def least(functions: Mapping[str, Candidate], inputs: Mapping[str, Tensor], seconds: float) -> dict[str, float]:
    """The least milliseconds of each candidate, alternately for about `seconds`, at least three rounds."""
    best = dict.fromkeys(functions, float("inf"))
    end, rounds = time.perf_counter() + seconds, 0
    with torch.inference_mode():
        while rounds < 3 or time.perf_counter() < end:
            for name, function in functions.items():
                begin = time.perf_counter()
                function(inputs)
                best[name] = min(best[name], 1e3 * (time.perf_counter() - begin))
            rounds += 1
    return best


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch on `count` threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
