"""The teacher made by workers: each learning rate is a Ray task, and the best one's files come to the driver.

What they need, the pretrained model's files and the tokenised data, is sent to them by Ray: no path of the driver's
machine need be there.

Why so: docs/decisions.md #the-driver-computes-nothing.
"""

import tempfile
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import ray

from spd_ray.base.progress import progress_bar
from spd_ray.config.trial import TeacherConfig
from spd_ray.data.batches import EncodedTask
from spd_ray.model.classifier import model_files
from spd_ray.training.fine_tuning import StatesOf, tuning_steps
from spd_ray.training.teacher import Origin, Report, make_teacher
from spd_ray.trials.on_worker import Worker, answer_of
from spd_ray.trials.signs import StepCounter, read_counts

SECONDS_BETWEEN_LOOKS = 1.0

Files = dict[str, bytes]


def make_on_workers(worker: Worker, states_of: StatesOf, origin: Origin, config: TeacherConfig, folder: Path) -> Report:
    """`make_teacher` by workers, as many learning rates at once as the cluster holds; the first of equals is kept.

    A task whose node is lost goes on from its last state, on another.
    """
    alone = [config.model_copy(update={"learning_rates": (rate,)}) for rate in config.learning_rates]
    source, data = ray.put(_read_files(model_files(origin.folder))), ray.put(origin.data)
    names = [uuid.uuid4().hex for _ in (alone[:1] if config.is_given else alone)]
    make = worker.remote(make_alone, num_returns=2)
    tasks = [make.remote(source, data, one, name, states_of) for one, name in zip(alone, names, strict=False)]
    try:
        _follow([report for report, _ in tasks], names, origin.data, config)
        reports: list[Report] = [answer_of(report) for report, _ in tasks]
        best = max(range(len(reports)), key=lambda n: reports[n].score)
        _write_files(answer_of(tasks[best][1]), folder)
    finally:
        for report, _ in tasks:
            with suppress(Exception):  # the cluster may be gone
                ray.cancel(report)
    return replace(reports[best], tried=[pair for report in reports for pair in report.tried])


def make_alone(
    source: Files, data: EncodedTask, config: TeacherConfig, name: str, states_of: StatesOf
) -> tuple[Report, Files]:
    """Runs on a worker: the report on one learning rate, or on the user's own teacher, and the teacher's files."""
    with tempfile.TemporaryDirectory(prefix="spd-") as temporary:
        before, made = Path(temporary) / "source", Path(temporary) / "teacher"
        _write_files(source, before)
        made.mkdir()
        report = make_teacher(Origin(before, None, data, {}), config, made, StepCounter(name), states_of)
        return report, _read_files(made.iterdir())


def _follow(reports: list[ray.ObjectRef], names: list[str], data: EncodedTask, config: TeacherConfig) -> None:
    """Show how many steps have been taken until all reports are there, or one of the tasks has failed."""
    shown, waiting = 0, reports
    with progress_bar(f"teacher of {data.task.name}, on workers", tuning_steps(config, data)) as advance:
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=SECONDS_BETWEEN_LOOKS)
            for report in ready:
                answer_of(report)
            counts = read_counts(names)
            now = sum(counts.values()) if waiting else tuning_steps(config, data)
            advance(max(0, now - shown), note=f"{len(counts)} of {len(names)} begun")
            shown = max(shown, now)


def _read_files(files: Iterable[Path]) -> Files:
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def _write_files(files: Files, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
