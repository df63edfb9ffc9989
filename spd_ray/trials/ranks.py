"""A trial's ranks: rank 0 in the process that Tune has started for the trial, and the others, which are its actors.

Why so: docs/decisions.md #rank-0-owns-the-others, #a-rank-that-fails.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from spd_ray.base.errors import UserError, storage_refusal
from spd_ray.base.network import free_port
from spd_ray.engine import engine
from spd_ray.training.trainer import TrainingError
from spd_ray.trials.on_worker import check_gpu
from spd_ray.trials.request import TrialRequest
from spd_ray.trials.runner import TrialRunner
from spd_ray.trials.signs import tell_last_words
from spd_ray.trials.standing import Standing

EXIT_SECONDS = 2  # between a rank's error and the end of its process
PATIENCE_SECONDS = 6.0  # in which rank 0 fails by itself after another rank, where it may wait for the dead


class FirstRank:
    """Rank 0 of one trial after another: its `TrialRunner`, and the other ranks, which do the same at the same time."""

    runner: TrialRunner | None  # of the trial under way; its first step begins it

    def __init__(self, config: dict[str, Any]) -> None:
        """`config` is what Tune hands over: the trial's `request`, its `workers`, each one's `bundle` of resources."""
        check_gpu(config["bundle"]["GPU"])
        torch.set_num_threads(max(1, int(config["bundle"]["CPU"])))
        self.request, self.runner = config["request"], None
        self.others = start_ranks(config["workers"], config["bundle"], self._tell)

    def reset(self, config: dict[str, Any]) -> None:
        """Give the memory of the trial that has ended back; the next one's `config` differs in its request alone."""
        runner, self.runner = self.runner, None
        if runner is not None:
            self._run_with_others(runner.close, [other.close.remote() for other in self.others])
        self.request = config["request"]

    def _start_runner(self) -> TrialRunner:
        if self.others:
            self._tell("")  # what was said in an earlier try
        calls = [other.start.remote(self.request) for other in self.others]
        return self._run_with_others(lambda: TrialRunner(TrialRequest.from_dict(self.request)), calls)

    def _call_on_all_ranks(self, runner: TrialRunner, name: str) -> Any:
        return self._run_with_others(getattr(runner, name), [other.call.remote(name) for other in self.others])

    def _run_with_others(self, own: Callable[[], Any], calls: Sequence[Any]) -> Any:
        return run_with_others(own, calls, patience_with_others(), self._tell)

    def _tell(self, words: str) -> None:
        tell_last_words(self.request["trial_id"], words)

    def step(self) -> dict[str, Any]:
        """Train until the next evaluation. Returns where the trial stands, and what it takes; `done` at its end."""
        try:
            runner = self.runner = self.runner or self._start_runner()
            standing = self._call_on_all_ranks(runner, "advance")
        except (TrainingError, UserError) as error:  # the same would come of every retry
            return {**self._known(), "error": str(error), "done": True}
        except Exception as error:
            refusal = storage_refusal(error)
            if refusal is None:
                raise
            return {**asdict(Standing()), "refusal": refusal, "done": True}
        memory = {"peak_memory_bytes": engine.peak_memory_bytes(), "recorded": runner.recorded}
        return {**asdict(standing), **asdict(runner.facts), **memory, "done": runner.done}

    def _known(self) -> dict[str, Any]:
        """What the trial's record can take from a runner that failed, or failed to begin."""
        if self.runner is None:
            return asdict(Standing())
        return asdict(self.runner.standing) | asdict(self.runner.facts)

    def close(self) -> None:
        """End the other ranks and what the trial has open."""
        for other in self.others:
            ray.kill(other)
        if self.runner is not None:
            self.runner.close()


class Rank:
    """A rank above 0 of a trial: it does what rank 0 asks for, at the same time."""

    def join(self, rank: int, ranks: int, head: str, port: int, threads: int) -> None:
        torch.set_num_threads(threads)
        engine.join_group(rank, ranks, head, port, ray.util.get_node_ip_address())

    def run(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call what is no trial's."""
        with exit_on_error():
            function(*arguments)

    def start(self, request: dict[str, Any]) -> None:
        with exit_on_error():
            self.runner = TrialRunner(TrialRequest.from_dict(request))

    def call(self, name: str) -> None:
        """Call the runner's method; a `TrainingError` is reported by rank 0, where it is raised too."""
        with suppress(TrainingError), exit_on_error():
            getattr(self.runner, name)()

    def close(self) -> None:
        """Give the trial's memory back before the next one begins."""
        with exit_on_error():
            self.runner.close()
            del self.runner


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End this rank's process some seconds after an error of its own: rank 0, which reads the error, waits for it else.

    By a signal, which needs no allocation: there may be no memory left for a thread.
    """
    try:
        yield
    except TrainingError:
        raise
    except Exception:
        signal.alarm(EXIT_SECONDS)
        raise


def patience_with_others() -> float | None:
    """For `run_with_others` once the ranks have joined a group. None: no collective waits for a dead rank."""
    return PATIENCE_SECONDS if engine.waits_for_the_dead() else None


def run_with_others(
    own: Callable[[], Any],
    calls: Sequence[Any],
    patience: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Any:
    """Run `own` while the other ranks answer their `calls`, and return its result.

    The others see a rank that fails as a broken connection: that rank's own error is raised where there is one. With
    `patience` a thread watches the calls, for where `own` may wait for a dead rank for ever: so many seconds after
    another rank has failed it ends this process; what that rank has said goes to `tell` before.
    """
    done = threading.Event()
    if calls and patience is not None:
        threading.Thread(target=_watch, args=(calls, done, patience, tell), daemon=True).start()
    try:
        result = own()
    except TrainingError:
        raise
    except Exception:
        if calls:
            answered, _ = ray.wait(list(calls), num_returns=len(calls), timeout=EXIT_SECONDS)
            ray.get(answered)
        raise
    finally:
        done.set()
    left = list(calls)
    while left:  # one by one: a dead rank's error at once, for those that wait for it do not answer
        answered, left = ray.wait(left)
        ray.get(answered)
    return result


def _watch(calls: Sequence[Any], done: threading.Event, patience: float, tell: Callable[[str], None]) -> None:
    """End this process if one of the `calls` fails and `done` is not set `patience` seconds later."""
    left = list(calls)
    while left and not done.is_set():
        answered, left = ray.wait(left, timeout=1.0)
        try:
            ray.get(answered)
        except TrainingError:
            return  # raised by rank 0, too
        except Exception as error:
            tell(str(error))
            if not done.wait(patience):
                end_process()
            return


def end_process() -> None:
    """Whatever its threads wait for: a collective of NCCL cannot be interrupted."""
    os.kill(os.getpid(), signal.SIGKILL)


def start_ranks(ranks: int, bundle: dict[str, float], tell: Callable[[str], None]) -> list[Any]:
    """The ranks above 0, each in its bundle of the trial's placement group; all ranks have joined one process group.

    They belong to this process: Ray ends them with it, however it ends. One that fails to join would be waited for.
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
    joins = [other.join.remote(rank, ranks, address, port, threads) for rank, other in enumerate(others, start=1)]
    run_with_others(lambda: engine.join_group(0, ranks, address, port, address), joins, PATIENCE_SECONDS, tell)
    return others
