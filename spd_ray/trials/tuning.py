"""The teacher made by workers: each learning rate is a Ray task, and the best one's files come to the driver.

What they need, the pretrained model's files and the tokenised data, is sent to them by Ray: no path of the driver's
machine need be there.

Why so: docs/decisions.md #the-driver-computes-nothing.
"""

import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from spd_ray.base.errors import StorageError, UserError
from spd_ray.base.progress import progress_bar
from spd_ray.config.trial import TeacherConfig
from spd_ray.data.batches import EncodedTask
from spd_ray.model.classifier import model_files
from spd_ray.training.fine_tuning import StatesOf, fine_tune
from spd_ray.training.teacher import Origin, Report, count_batches, make_teacher
from spd_ray.trials.on_worker import Worker, answer_of
from spd_ray.trials.ranks import EXIT_SECONDS, patience_with_others, run_with_others, start_ranks
from spd_ray.trials.signs import StepCounter, read_counts

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_UNTIL_KNOWN = 60.0  # that a node is lost; Ray's own limit is about half a minute

Files = dict[str, bytes]


class LostRankError(Exception):
    """A rank failed, or the connection to it: Ray tries again. The message is the error."""


def make_on_workers(worker: Worker, states_of: StatesOf, origin: Origin, config: TeacherConfig, folder: Path) -> Report:
    """`make_teacher` by workers, as many learning rates at once as the cluster holds; the first of equals is kept.

    Each learning rate has as many ranks as a trial. A task whose node is lost goes on from its last state, on another.
    """
    worker = worker._replace(ranks=1) if config.is_given else worker
    rates = config.learning_rates[:1] if config.is_given else config.learning_rates
    alone = [config.model_copy(update={"learning_rates": (rate,)}) for rate in rates]
    source, data = ray.put(_read_files(model_files(origin.folder))), ray.put(origin.data)
    names = [uuid.uuid4().hex for _ in alone]
    tasks: list[list[ray.ObjectRef]] = []
    with _placed(worker, len(names)) as places:
        try:
            for one, name, options in zip(alone, names, places, strict=True):
                make = worker.remote(make_alone, num_returns=2, **options)
                tasks.append(make.remote(source, data, one, name, states_of, worker))
            _follow([report for report, _ in tasks], names, origin.data, alone)
            reports: list[Report] = [answer_of(report) for report, _ in tasks]
            best = max(range(len(reports)), key=lambda n: reports[n].score)
            _write_files(answer_of(tasks[best][1]), folder)
        finally:
            for report, _ in tasks:
                with suppress(Exception):  # the cluster may be gone
                    ray.cancel(report)
    return replace(reports[best], tried=[pair for report in reports for pair in report.tried])


@contextmanager
def _placed(worker: Worker, count: int) -> Iterator[list[dict[str, Any]]]:
    """Ray's options of so many tasks: of several ranks each has a group of places for them, and the first is its own.

    Its process ends with it, for a process joins one group of ranks.
    """
    if worker.ranks == 1:
        yield [{}] * count
        return
    bundle = {name: amount for name, amount in worker.bundle.items() if amount}
    groups = [placement_group([bundle] * worker.ranks) for _ in range(count)]
    try:
        strategies = [PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0) for group in groups]
        options = {"max_calls": 1, "retry_exceptions": [LostRankError]}
        yield [{"scheduling_strategy": strategy, **options} for strategy in strategies]
    finally:
        for group in groups:
            with suppress(Exception):  # as above
                remove_placement_group(group)


def make_alone(
    source: Files, data: EncodedTask, config: TeacherConfig, name: str, states_of: StatesOf, worker: Worker
) -> tuple[Report, Files]:
    """Runs on a worker: the report on one learning rate, or on the user's own teacher, and the teacher's files.

    Raises LostRankError for what only several ranks can meet with.
    """
    others: list[Any] = []
    try:
        others += start_ranks(worker.ranks, worker.bundle, lambda _: None)
        with _folder_of(source) as before, tempfile.TemporaryDirectory(prefix="spd-") as made:
            origin = Origin(before, None, data, {})
            own = partial(make_teacher, origin, config, Path(made), StepCounter(name), states_of)
            calls = [other.run.remote(take_part, source, data, config) for other in others]
            report = run_with_others(own, calls, patience_with_others())
            return report, _read_files(Path(made).iterdir())
    except (UserError, StorageError):
        raise
    except Exception as error:
        if worker.ranks == 1:
            raise
        _wait_for_ray(others)
        raise LostRankError(str(error)) from error
    finally:
        for other in others:
            ray.kill(other)


def _wait_for_ray(others: list[Any]) -> None:
    """Until Ray knows of the ranks that are lost that they are: it would try again on a node that is gone."""
    end = time.monotonic() + SECONDS_UNTIL_KNOWN
    for other in others:
        while time.monotonic() < end:
            try:
                ray.get(other.__ray_ready__.remote(), timeout=EXIT_SECONDS)
            except ActorUnavailableError:
                time.sleep(SECONDS_BETWEEN_LOOKS)
                continue
            except (RayActorError, GetTimeoutError):
                pass  # it is known to be dead, or at work on what will fail
            break


def take_part(source: Files, data: EncodedTask, config: TeacherConfig) -> None:
    """Runs on the other ranks: rank 0 has what comes of it."""
    with _folder_of(source) as folder:
        fine_tune(folder, data, config, config.learning_rates[0], lambda steps=1, note="": None)


@contextmanager
def _folder_of(files: Files) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="spd-") as folder:
        _write_files(files, Path(folder))
        yield Path(folder)


def _follow(reports: list[ray.ObjectRef], names: list[str], data: EncodedTask, configs: list[TeacherConfig]) -> None:
    """Show how many batches have been computed until all reports are there, or one of the tasks has failed."""
    shown, waiting, total = 0, reports, sum(count_batches(config, data) for config in configs)
    with progress_bar(f"teacher of {data.task.name}, on workers", total) as advance:
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=SECONDS_BETWEEN_LOOKS)
            for report in ready:
                answer_of(report)
            counts = read_counts(names)
            now = sum(counts.values()) if waiting else total
            advance(max(0, now - shown), note=f"{len(counts)} of {len(names)} begun")
            shown = max(shown, now)


def _read_files(files: Iterable[Path]) -> Files:
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def _write_files(files: Files, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
