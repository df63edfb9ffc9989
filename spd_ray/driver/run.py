"""A sweep from its teacher to its summary."""

import logging
import os
from typing import Any

import ray
from ray import tune
from rich.console import Console

from spd_ray.base.errors import UserError
from spd_ray.base.ray_cluster import join_ray
from spd_ray.base.signals import pass_sigterm_on
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.timeline import Timeline
from spd_ray.config.trial import TrialConfig
from spd_ray.driver import summary as report
from spd_ray.driver.callbacks import SweepWatcher
from spd_ray.driver.display import SweepDisplay
from spd_ray.driver.early_stopping import StageAwareAsha
from spd_ray.driver.searcher import LedgerSearcher
from spd_ray.driver.storage_guard import StorageGuard
from spd_ray.records import layout
from spd_ray.records.provenance import write_sweep_yaml
from spd_ray.records.schema import TrialRecord
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.study.study import create_study
from spd_ray.tracking.missed_points import send_missed_points
from spd_ray.tracking.tracker import Tracker
from spd_ray.training.checkpoint import Verification, verify_checkpoint
from spd_ray.training.sparse import make_kernels_ready
from spd_ray.training.teacher import Teacher, load_teacher
from spd_ray.trials.ranks import SpdTrainable
from spd_ray.trials.request import TrialRequest, requested_trial

RESCORE_TOLERANCE = 0.02  # fp16 and bf16 students are read back in fp32


def train_trials(
    spec: SweepSpec, storage: SweepStorage, command: str, address: str | None, console: Console
) -> TrialRecord | None:
    """Teacher, study, trials, verification, MLflow, summary. Returns the best trial; raises KeyboardInterrupt."""
    folder = storage.folder
    write_sweep_yaml(spec, folder, command)
    teacher = load_teacher(spec.task, spec.model, spec.teacher)
    console.print(report.teacher_line(teacher))
    without_kernels = make_kernels_ready(spec.engine, teacher.model, spec.resources.cpus_per_worker)
    if without_kernels:
        console.print(without_kernels)
    study = create_study(spec, layout.study_journal(folder))
    ledger = Ledger(spec, study, folder)
    with Tracker.open(spec, folder) as tracker:
        try:
            storage.send_files()  # the parent run's id, before it has a child
            send_missed_points(ledger, tracker, storage, len(teacher.data.train))
            start_ray(address)
            with SweepDisplay(ledger, console) as display:
                watcher = SweepWatcher(ledger, tracker, display, storage)
                run_trials(spec, ledger, storage, command, watcher)
            ledger.fold()
            watcher.drop_states(at_once=True)
            if ledger.ended_count < ledger.total:
                raise KeyboardInterrupt  # again, for Tune has taken the first
            verified = verify_retained(spec, ledger, teacher, storage)
            best = best_verified(ledger, verified)
            report.publish(spec, ledger, tracker, storage, verified, best)
            tracker.finish("FINISHED")
            report.print_summary(spec, ledger, teacher, storage, verified, best, tracker, console)
            return best
        finally:
            ray.shutdown()
            ledger.fold()  # last: a storage that is full refuses it
            storage.send_files()


def start_ray(address: str | None) -> None:
    """Join the cluster at `address`, or start one of this machine alone, with the sweep's own display."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    join_ray(address, "ERROR")
    pass_sigterm_on()


def concurrent_trials(spec: SweepSpec) -> int:
    """As many trials at once as the file says, or as the cluster's resources hold."""
    if spec.resources.concurrent is not None:
        return spec.resources.concurrent
    have = ray.cluster_resources()
    slots = spec.resources.slots(have)
    if slots < 1:
        asked = spec.resources.per_trial()
        raise UserError(
            f"resources: a trial wants {asked['CPU']:g} CPUs and {asked['GPU']:g} GPUs, "
            f"but there are {have.get('CPU', 0):g} and {have.get('GPU', 0):g}"
        )
    return slots


def run_trials(spec: SweepSpec, ledger: Ledger, storage: SweepStorage, command: str, watcher: SweepWatcher) -> None:
    """Let Tune run every trial that the ledger has due, until none is left or the user interrupts."""
    bundle = {"CPU": spec.resources.cpus_per_worker, "GPU": spec.resources.gpus_per_worker}

    def tune_config(trial_id: str) -> dict[str, Any]:
        request = TrialRequest(
            trial_id=trial_id,
            config=ledger.config(trial_id),
            place=storage.place,
            command=command,
            state_every_evaluations=spec.checkpoints.state_every_evaluations,
        )
        return {"bundle": bundle, "workers": spec.resources.workers, "request": request.to_dict()}

    stopping = spec.early_stopping
    scheduler = None
    if stopping:
        rungs = layout.rungs_journal(storage.folder)
        scheduler = StageAwareAsha(stopping.rungs, stopping.reduction_factor, rungs)
    bundles = tune.PlacementGroupFactory([bundle] * spec.resources.workers)
    tuner = tune.Tuner(
        tune.with_resources(SpdTrainable, bundles),
        tune_config=tune.TuneConfig(
            search_alg=LedgerSearcher(ledger, tune_config),
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=concurrent_trials(spec),
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


def verify_retained(
    spec: SweepSpec, ledger: Ledger, teacher: Teacher, storage: SweepStorage
) -> dict[str, Verification]:
    """Read every retained student back, count its zeros and score it again, before any is called best.

    One that is not what its trial said is marked failed, with the reason.
    """
    verified = {}
    for trial in ledger.best_first()[: spec.checkpoints.keep]:
        try:
            final, per_matrix = final_sparsity(ledger.config(trial.trial_id), teacher)
            student = storage.folder / str(trial.checkpoint)
            storage.fetch(student)
            found = verify_checkpoint(student, final, per_matrix, teacher)
            if abs(found.score - (trial.best_score or 0.0)) > RESCORE_TOLERANCE:
                raise ValueError(
                    f"{trial.checkpoint}: scores {found.score:.4f} after reading, {trial.best_score} before"
                )
            verified[trial.trial_id] = found
            ledger.update(trial.trial_id, dev_score=found.dev_score)
        except ValueError as error:
            ledger.update(trial.trial_id, status="failed", error=str(error))
    return verified


def best_verified(ledger: Ledger, verified: dict[str, Verification]) -> TrialRecord | None:
    """The best trial whose student was read back and is what its trial said; None where no retained one is."""
    return next((trial for trial in ledger.best_first() if trial.trial_id in verified), None)


def final_sparsity(config: TrialConfig, teacher: Teacher) -> tuple[float, bool]:
    """What the best student's zeros are counted against, and whether in each matrix or in all of them together."""
    timeline = Timeline.of(config.method, len(teacher.data.train))
    return timeline.final_sparsity, not config.method.prunes_globally
