"""What a training step asks of the device's queue, counted on any machine: `python -m benchmarks.counts`.

A GPU's step is bound by launches where there are many calls, and waits where the host reads a value. Both can be
counted without one: the steps of a 12-layer encoder on RTE's lengths in stage I, by precision and ZeRO stage, one rank.
A call is an operator that makes or writes a tensor (views are none); a host read is a value that Python asks for
(`_local_scalar_dense`, `tolist`, a boolean index); a copy is data that comes from the host (`from_numpy`, a tensor of
Python numbers, an index that is an array, `.to` of what came from there). Dropout is counted as on a GPU, one call.
The table has the most of any counted step, the number of calls also on average; the steps are those after the first
few, within one epoch.

`--compiled`: with `engine.compile_layers`. What a layer's graph launches is then calculated: the kernels that inductor
leaves after fusing, and the products that it calls. It does so for this machine's device: for a GPU by the same rules,
but not always with the same end.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch._inductor.compile_fx import compile_fx, compile_fx_inner
from torch._inductor.scheduler import BaseSchedulerNode, NopKernelSchedulerNode
from torch.overrides import TorchFunctionMode, _pop_mode_temporarily
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from benchmarks.step import SPARSITY, our_run, random_task, random_teacher
from spd_ray.config.method import MethodConfig
from spd_ray.engine import engine as engines
from spd_ray.model import attention, compiled, dropout
from spd_ray.training.teacher import Teacher
from spd_ray.training.trainer import batches_from, training_step

SHAPE = (12, 32, 2)  # layers, hidden size, heads
BATCH_SIZE = 8
EXAMPLES = 128
ZERO_STAGES = (0, 1, 2)
WARM_UP, COUNTED = 3, 10  # steps, of the 16 of an epoch
RUN_COMPILED_LAYER = compiled.run_compiled_layer
HOST_READS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "_nested_tensor_size"}
VIEWS = {"_unsafe_view"}  # by what it does, not by its schema
FROM_PYTHON = ("from_numpy", "as_tensor", "tensor")  # functions of torch that make a tensor of what the host has


@dataclass
class Counts:
    """Of one step."""

    calls: int = 0
    host_reads: int = 0
    copies: int = 0


class _Calls(TorchDispatchMode):
    """Counts operators below autograd, those of its backward pass too."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.counts.calls += not func.is_view and name not in VIEWS
        self.counts.host_reads += name in HOST_READS
        self.counts.copies += name == "lift_fresh"
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    """Counts what the dispatcher does not show: `tolist`, and `to` of tensors that the host has made."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        self.counts.host_reads += name in ("tolist", "numpy")
        of_host = any(getattr(one, "from_host", False) for one in tree_leaves(args))
        made = func(*args, **(kwargs or {}))
        if of_host and isinstance(made, torch.Tensor):
            self.counts.copies += name == "to"
            made.from_host = name != "to"  # type: ignore[attr-defined]
        return made


@contextmanager
def counting() -> Iterator[Counts]:
    """Counts all that is done in the block."""
    counts = Counts()

    def from_python(make: Any) -> Any:
        def counted(data: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            made = make(data, *args, **kwargs)
            if not isinstance(data, torch.Tensor):
                counts.copies += 1
                made.from_host = True
            return made

        return counted

    with ExitStack() as stack:
        for name in FROM_PYTHON:
            stack.enter_context(mock.patch.object(torch, name, from_python(getattr(torch, name))))
        stack.enter_context(_Methods(counts))
        stack.enter_context(_Calls(counts))
        yield counts


@contextmanager
def dropout_of_a_gpu() -> Iterator[None]:
    """One call, as F.dropout is there."""

    def drop(input: torch.Tensor, p: float, training: bool) -> torch.Tensor:
        return torch.native_dropout(input, p, True)[0] if training and p > 0.0 else input

    with mock.patch.object(dropout, "drop", drop), mock.patch.object(attention, "drop", drop):
        yield


class LaunchesOfGraphs:
    """A backend of torch.compile, inductor's, whose graphs add what they launch to the counts of the step."""

    def __init__(self) -> None:
        self._counts: Counts | None = None
        self._nodes: list[BaseSchedulerNode] = []

    def __call__(self, graph: Any, inputs: Any) -> Any:
        def see(nodes: list[BaseSchedulerNode]) -> list[BaseSchedulerNode]:  # torch copies it, a method's object too
            self._nodes = nodes
            return nodes

        settings = {"_post_fusion_custom_pass": see, "force_disable_caches": True}
        return compile_fx(graph, inputs, inner_compile=self._compile, config_patches=settings)

    def _compile(self, graph: Any, inputs: Any, **settings: Any) -> Any:
        run: Any = compile_fx_inner(graph, inputs, **settings)
        launches = sum(not isinstance(node, NopKernelSchedulerNode) for node in self._nodes)

        def counted(inputs: list[Any]) -> Any:
            if self._counts is not None:
                self._counts.calls += launches
            with _disable_current_modes():
                return run(inputs)

        counted._boxed_call = True  # type: ignore[attr-defined]
        return counted

    @contextmanager
    def in_trials(self) -> Iterator[None]:
        """Trials of the block are compiled by this backend."""
        with (
            mock.patch.object(compiled, "BACKEND", self),
            mock.patch.object(compiled, "run_compiled_layer", self._run_layer),
        ):
            yield

    @contextmanager
    def counted_in(self, counts: Counts) -> Iterator[None]:
        """What is launched in the block, under the modes of `counting`, is added to `counts`."""
        self._counts = counts
        yield
        self._counts = None

    def _run_layer(self, *args: Any, **kwargs: Any) -> Any:
        if self._counts is None:
            return RUN_COMPILED_LAYER(*args, **kwargs)
        with _disable_current_modes(), _pop_mode_temporarily():  # under them torch compiles nothing
            return RUN_COMPILED_LAYER(*args, **kwargs)


def counts_of_steps(
    teacher: Teacher, method: MethodConfig, precision: str, zero_stage: int, graphs: LaunchesOfGraphs | None = None
) -> list[Counts]:
    """What each of the counted steps asked for; with `graphs` its layers are compiled."""
    with graphs.in_trials() if graphs else nullcontext():
        run = our_run(teacher, method, precision, 0, "never", zero_stage, compile_layers=graphs is not None)
        for tensor in vars(teacher.data.train).values():
            if isinstance(tensor, torch.Tensor):
                tensor.from_host = True  # type: ignore[attr-defined]
        found = []
        with dropout_of_a_gpu():
            batches = batches_from(run, 0)
            for step in range(WARM_UP):
                training_step(run, step, next(batches), SPARSITY)
            for step in range(WARM_UP, WARM_UP + COUNTED):
                with counting() as counts, graphs.counted_in(counts) if graphs else nullcontext():
                    training_step(run, step, next(batches), SPARSITY)
                found.append(counts)
        engines.release(run.engine)
    return found


def table_of_counts(
    teacher: Teacher, precisions: list[str], zero_stages: list[int], graphs: LaunchesOfGraphs | None = None
) -> dict[str, dict[str, Any]]:
    """The largest counts of a step, by precision and ZeRO stage; `mean_calls` beside them."""
    method = MethodConfig(p0=0.6, batch_size=BATCH_SIZE, dropout=0.1)
    table: dict[str, dict[str, Any]] = {}
    for precision in precisions:
        for stage in zero_stages:
            steps = counts_of_steps(teacher, method, precision, stage, graphs)
            largest = {name: max(getattr(one, name) for one in steps) for name in ("calls", "host_reads", "copies")}
            mean = round(statistics.mean(one.calls for one in steps))
            table.setdefault(precision, {})[str(stage)] = {**largest, "mean_calls": mean}
    return table


def small_encoder() -> Teacher:
    """The 12-layer encoder whose steps are counted, and its data."""
    return random_teacher(SHAPE, random_task("rte", np.random.default_rng(0), EXAMPLES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=engines.DTYPES, nargs="+", default=["fp16", "bf16", "fp32"])
    parser.add_argument("--zero-stage", type=int, choices=ZERO_STAGES, nargs="+", default=list(ZERO_STAGES))
    parser.add_argument("--compiled", action="store_true", help="with engine.compile_layers, launches calculated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    graphs = LaunchesOfGraphs() if options.compiled else None
    counts = table_of_counts(small_encoder(), options.precision, options.zero_stage, graphs)
    table = Table(
        "precision", "ZeRO", "calls a step (mean)", "host reads", "copies from the host",
        title=f"{SHAPE[0]} layers, RTE's lengths, batch {BATCH_SIZE}, p0 0.6, the most of {COUNTED} steps"
        + ", layers compiled" * options.compiled,
    )  # fmt: skip
    for precision, stages in counts.items():
        for stage, one in stages.items():
            calls = f"{one['calls']:,} ({one['mean_calls']:,})"
            table.add_row(precision, stage, calls, str(one["host_reads"]), str(one["copies"]))
    Console(width=100).print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    main()
