"""What a student costs in use, for the sweep's records: its packed size, and its latency on one thread."""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spd_ray.base.errors import UserError
from spd_ray.kernels.build import available
from spd_ray.kernels.encoder import load_sparse
from spd_ray.kernels.packed import pack_model
from spd_ray.kernels.timing import cpu_name, inputs_of, least, threads

LENGTH = 128  # tokens of the one sequence that is timed, or as many as the model reads
SECONDS = 1.0  # of timing, both models together


@dataclass(frozen=True, kw_only=True)
class StudentCost:
    """The fields are the trial record's; all None for a student that cannot be packed."""

    packed_bytes: int | None = None  # of its weights, packed as `python -m spd_ray.deploy` does by default
    latency_ms: float | None = None  # None without compiled kernels
    dense_latency_ms: float | None = None
    timed_on: str | None = None  # shape, threads and processor of both latencies


def measure_cost(model: Any) -> StudentCost:
    """Pack `model`, a student on any device, and time it packed and dense on this machine's CPU in fp32."""
    dense = copy.deepcopy(model).to("cpu", torch.float32).eval()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "packed"
        try:
            packed_bytes = pack_model(dense, None, folder).packed
        except UserError:  # another architecture than BERT's
            return StudentCost()
        if not available():
            return StudentCost(packed_bytes=packed_bytes)
        sparse = load_sparse(folder)
    length = min(LENGTH, dense.config.max_position_embeddings)
    functions = {name: lambda inputs, one=one: one(**inputs) for name, one in (("dense", dense), ("sparse", sparse))}
    with threads(1):
        best = least(functions, inputs_of(1, length, dense.config.vocab_size), SECONDS)
    return StudentCost(
        packed_bytes=packed_bytes,
        latency_ms=best["sparse"],
        dense_latency_ms=best["dense"],
        timed_on=f"1 x {length} tokens, 1 thread, {cpu_name()}",
    )
