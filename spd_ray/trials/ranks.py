"""What Ray runs: a trial's ranks, of which rank 0 is Tune's trainable and the others are its actors."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import ray
import torch
from ray import tune
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from spd_ray.base.errors import storage_refusal
from spd_ray.base.network import free_port
from spd_ray.training import engine
from spd_ray.training.trainer import TrainingError
from spd_ray.trials.runner import TrialRunner, order_of
from spd_ray.trials.standing import Standing

LEAVING_SECONDS = 2  # between a rank's error and the end of its process


class SpdTrainable(tune.Trainable):
    """`TrialRunner` as Tune's class Trainable, rank 0 of the trial; with `reuse_actors` it outlives its trials."""

    runner: TrialRunner | None  # of the trial under way; its first step begins it

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(max(1, int(config["bundle"]["CPU"])))
        self.others = start_ranks(config["workers"], config["bundle"])
        self.order, self.runner = config["order"], None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if self.runner is not None:
            self._on_all_ranks(self.runner, "close")
        self.order, self.runner = new_config["order"], None
        return True

    def _started(self) -> TrialRunner:
        begun = [other.start.remote(self.order) for other in self.others]
        return together(lambda: TrialRunner(order_of(self.order)), begun)

    def _on_all_ranks(self, runner: TrialRunner, name: str) -> Any:
        called = [other.call.remote(name) for other in self.others]
        return together(getattr(runner, name), called)

    def step(self) -> dict[str, Any]:
        try:
            runner = self.runner = self.runner or self._started()
            standing = self._on_all_ranks(runner, "advance")
        except TrainingError as error:
            return {**asdict(runner.standing), **runner.facts, "error": str(error), "done": True}
        except Exception as error:
            refusal = storage_refusal(error)
            if refusal is None:
                raise
            return {**asdict(Standing()), "refusal": refusal, "done": True}
        memory = {"peak_memory_bytes": engine.peak_memory_bytes()}
        return {**asdict(standing), **runner.facts, **memory, "done": runner.done}

    def cleanup(self) -> None:
        for other in self.others:
            ray.kill(other)
        if self.runner is not None:
            self.runner.close()


class Rank:
    """A rank above 0 of a trial: it does what rank 0 asks for, at the same time."""

    def join(self, rank: int, ranks: int, head: str, port: int, threads: int) -> None:
        torch.set_num_threads(threads)
        engine.join_group(rank, ranks, head, port, ray.util.get_node_ip_address())

    def start(self, order: dict[str, Any]) -> None:
        with leaving_on_error():
            self.runner = TrialRunner(order_of(order))

    def call(self, name: str) -> None:
        """Call the runner's method; of a `TrainingError` rank 0 tells, for it raises there too."""
        with suppress(TrainingError), leaving_on_error():
            getattr(self.runner, name)()


@contextmanager
def leaving_on_error() -> Iterator[None]:
    """What this rank alone cannot do ends its process, once rank 0 has the error: else rank 0 waits for it for ever.

    By a signal, for which nothing need be allocated: there may be no memory for a thread.
    """
    try:
        yield
    except TrainingError:
        raise
    except Exception:
        signal.alarm(LEAVING_SECONDS)
        raise


def together(own: Callable[[], Any], called: list[Any]) -> Any:
    """`own()`, while the other ranks do what they were `called` for.

    A rank that fails is for the others a connection that breaks: its own error is raised where there is one.
    """
    try:
        result = own()
    except TrainingError:
        raise
    except Exception:
        if called:
            answered, _ = ray.wait(called, num_returns=len(called), timeout=LEAVING_SECONDS)
            ray.get(answered)
        raise
    ray.get(called)
    return result


def start_ranks(ranks: int, bundle: dict[str, float]) -> list[Any]:
    """The ranks above 0, each in its bundle of the trial's placement group; all ranks have joined one process group.

    They belong to this process: they end with it, whatever ends it.
    """
    if ranks == 1:
        return []
    group = ray.util.get_current_placement_group()
    others = [
        ray.remote(Rank)
        .options(
            num_cpus=bundle["CPU"],
            num_gpus=bundle["GPU"],
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
        )
        .remote()
        for rank in range(1, ranks)
    ]
    address, port, threads = ray.util.get_node_ip_address(), free_port(), max(1, int(bundle["CPU"]))
    joined = [other.join.remote(rank, ranks, address, port, threads) for rank, other in enumerate(others, start=1)]
    engine.join_group(0, ranks, address, port, address)
    ray.get(joined)
    return others
