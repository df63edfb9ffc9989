"""A sweep from its teacher to its summary.

Why so: docs/decisions.md #auto-is-resolved-once, #a-sweep-that-fails-ends-its-parent-run, #the-sweeps-teacher,
#the-driver-computes-nothing.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from ray import tune
from rich.console import Console

from spd_ray.base.cache import remove_unused
from spd_ray.base.ray_cluster import capacity, gpu_names, leave_ray
from spd_ray.config import auto
from spd_ray.config.sweep import SweepSpec
from spd_ray.driver import summary as report
from spd_ray.driver.display import SweepDisplay
from spd_ray.driver.early_stopping import StageAwareAsha
from spd_ray.driver.first_checks import start_ray
from spd_ray.driver.place import begun_content, check_content
from spd_ray.driver.storage_guard import StorageGuard
from spd_ray.driver.students import publish, read_students_back
from spd_ray.driver.tune import LedgerSearcher, SweepWatcher
from spd_ray.records import layout
from spd_ray.records.provenance import TEACHER_FILES, read_sweep_yaml, write_sweep_yaml
from spd_ray.records.schema import TrialRecord
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.study.study import create_study
from spd_ray.tracking.missed_points import send_missed_points
from spd_ray.tracking.sweep_page import SweepPage
from spd_ray.tracking.tracker import Tracker
from spd_ray.training.sparse import make_kernels_ready
from spd_ray.training.teacher import Teacher, build_teacher, make_teacher, open_teacher, read_origin
from spd_ray.trials.on_worker import Worker
from spd_ray.trials.request import TrialRequest, requested_trial
from spd_ray.trials.shared_teacher import fetch_teacher, has_teacher, send_teacher
from spd_ray.trials.trainable import SpdTrainable
from spd_ray.trials.tuning import make_on_workers
from spd_ray.trials.tuning_states import drop_tuning_states, states_of


def train_trials(
    spec: SweepSpec, storage: SweepStorage, command: str, address: str | None, console: Console
) -> TrialRecord | None:
    """Teacher, study, trials, verification, MLflow, summary. Returns the best trial; raises KeyboardInterrupt."""
    with joined_ray(address) as have:
        spec = auto.resolve(spec, have)
        console.print(devices_line(spec, have), soft_wrap=True)
        return train_on(have, Worker.of(spec, address), spec, storage, command, console)


def train_on(
    have: Mapping[str, float],
    worker: Worker | None,
    spec: SweepSpec,
    storage: SweepStorage,
    command: str,
    console: Console,
) -> TrialRecord | None:
    """`train_trials` on a cluster with the CPUs and GPUs `have`, where no key of `spec` is `auto`.

    Where there is a `worker` this process computes nothing: such ones do.
    """
    began, folder = time.monotonic(), storage.folder
    teacher = find_teacher(spec, storage, worker)
    write_sweep_yaml(spec, folder, command, gpu_names(), teacher.content)
    console.print(report.teacher_line(teacher), soft_wrap=True, markup=False)
    console.print(report.labels_line(teacher.data), soft_wrap=True, markup=False)
    if worker is None:
        without_kernels = make_kernels_ready(spec.engine, teacher.model, spec.resources.cpus_per_worker)
        if without_kernels:
            console.print(without_kernels)
    study = create_study(spec, layout.study_journal(folder))
    ledger = Ledger(spec, study, folder, storage.fetch)
    with Tracker.open(spec, folder) as tracker:
        try:
            storage.send_files()  # the parent run's id, before it has a child
            send_missed_points(ledger, tracker, storage, len(teacher.data.train))
            page = SweepPage(spec, ledger, tracker, teacher, read_sweep_yaml(folder))
            page.begin()
            with SweepDisplay(ledger, console) as display:
                watcher = SweepWatcher(ledger, tracker, page, display, storage)
                run_trials(spec, teacher.content, concurrent_trials(spec, have), ledger, storage, watcher)
            ledger.fold()
            watcher.drop_states(at_once=True)
            if ledger.ended_count < ledger.total:
                raise KeyboardInterrupt  # again, for Tune has taken the first
            students = read_students_back(ledger, teacher, storage, worker)
            models = publish(spec, storage, teacher, students, page)
            tracker.finish("FINISHED")
            seconds = time.monotonic() - began
            report.print_summary(spec, ledger, teacher, storage, students, models, tracker, console, seconds)
            return students[0].trial if students else None
        finally:
            leave_ray()
            remove_unused()  # what workers that were killed had in this machine's shared memory
            ledger.fold()  # last: a storage that is full refuses it
            storage.send_files()


@contextmanager
def joined_ray(address: str | None) -> Iterator[dict[str, float]]:
    """In the cluster at `address` (None: one of this machine alone) for the block, with its CPUs and GPUs at most."""
    start_ray(address)
    try:
        yield capacity(address)
    finally:
        leave_ray()


def devices_line(spec: SweepSpec, have: Mapping[str, float]) -> str:
    """What trials train on, and how many CPUs and GPUs the cluster has for them."""
    return f"trains on {auto.describe(spec)}; the cluster: {have['CPU']:g} CPUs and {have['GPU']:g} GPUs at most"


def find_teacher(spec: SweepSpec, storage: SweepStorage, worker: Worker | None) -> Teacher:
    """The teacher that lies in the sweep's storage; a sweep that begins puts it there.

    It comes from the cache; where it is not there it is fine-tuned, by such workers if there is a `worker`, from the
    last epoch of which an earlier try has left a state. Raises UserError where the sweep was begun with other data,
    another pretrained model or another teacher under the same names.
    """
    begun, origin = begun_content(storage), read_origin(spec.task, spec.model, spec.teacher)
    check_content(storage.place, begun, origin.content)
    if TEACHER_FILES in begun and has_teacher(storage, begun[TEACHER_FILES]):
        return open_teacher(origin, fetch_teacher(storage, begun[TEACHER_FILES]), spec.teacher.gate)
    states = partial(states_of, storage.place, origin.content["teacher"], worker)
    make = partial(make_on_workers, worker, states) if worker else partial(make_teacher, states_of=states)
    folder = build_teacher(origin, spec.teacher, make)
    drop_tuning_states(storage)
    teacher = open_teacher(origin, folder, spec.teacher.gate)
    check_content(storage.place, begun, teacher.content)
    send_teacher(teacher, storage)
    return teacher


def concurrent_trials(spec: SweepSpec, have: Mapping[str, float]) -> int:
    """As many trials at once as the file says, or as the resources `have` of the cluster hold."""
    if spec.resources.concurrent is not None:
        return spec.resources.concurrent
    return spec.resources.slots(have)


def run_trials(
    spec: SweepSpec,
    content: dict[str, str],
    concurrent: int,
    ledger: Ledger,
    storage: SweepStorage,
    watcher: SweepWatcher,
) -> None:
    """Let Tune run every trial that the ledger has due, until none is left or the user interrupts."""
    bundle = {"CPU": spec.resources.cpus_per_worker, "GPU": spec.resources.worker_gpus}

    def tune_config(trial_id: str) -> dict[str, Any]:
        request = TrialRequest(
            trial_id=trial_id,
            config=ledger.config(trial_id),
            place=storage.place,
            content=content,
            gpus=bundle["GPU"],
            state_seconds=spec.checkpoints.state_seconds,
        )
        return {"bundle": bundle, "workers": spec.resources.workers, "request": request.to_dict()}

    stopping = spec.early_stopping
    scheduler = None
    if stopping:
        rungs = layout.rungs_journal(storage.folder)
        scheduler = StageAwareAsha(stopping.rungs, stopping.reduction_factor, rungs, ledger.level)
    bundles = tune.PlacementGroupFactory([bundle] * spec.resources.workers)
    tuner = tune.Tuner(
        tune.with_resources(SpdTrainable, bundles),
        tune_config=tune.TuneConfig(
            search_alg=LedgerSearcher(ledger, tune_config),
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_dirname_creator=requested_trial,
        ),
        run_config=tune.RunConfig(
            name=layout.RAY,
            storage_path=str(storage.folder),
            verbose=0,
            callbacks=[StorageGuard(watcher)],
            failure_config=tune.FailureConfig(max_failures=spec.retries),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()
