"""What a driver has a worker compute, with what a rank of a trial gets: on a cluster, and where trials have GPUs.

Why so: docs/decisions.md #the-driver-computes-nothing, #gpus-of-a-process.
"""

import platform
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ray
import torch
from ray.exceptions import RayTaskError

from spd_ray.base.errors import StorageError, UserError
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.trial import TaskConfig
from spd_ray.engine import engine
from spd_ray.equations.patterns import Pattern
from spd_ray.records.schema import PredictionRecord
from spd_ray.records.storage import SweepStorage
from spd_ray.training.checkpoint import Verification, answer_dev, verify_checkpoint
from spd_ray.trials.shared_teacher import worker_teacher


class Worker(NamedTuple):
    """What Ray is asked for: CPUs, GPUs, and how often to try again when a node or process is lost."""

    cpus: int
    gpus: float
    retries: int
    ranks: int = 1  # of a trial: as many such workers fine-tune under one learning rate

    @classmethod
    def of(cls, spec: SweepSpec, address: str | None) -> "Worker | None":
        """One with a rank's resources. None: trials run on the CPUs of this machine alone, and so may the driver."""
        if address is None and not spec.resources.worker_gpus:
            return None
        resources = spec.resources
        return cls(resources.cpus_per_worker, resources.worker_gpus, spec.retries, resources.workers)

    @property
    def bundle(self) -> dict[str, float]:
        """Of one rank, as Ray calls it."""
        return {"CPU": self.cpus, "GPU": self.gpus}

    def remote(self, function: Callable[..., Any], **options: Any) -> Any:
        """`function` as a Ray task of such a worker."""

        def there(*arguments: Any) -> Any:
            check_gpu(self.gpus)
            torch.set_num_threads(self.cpus)
            return function(*arguments)

        there.__qualname__ = function.__qualname__  # what `ps` and Ray's dashboard show
        return ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries, **options)(there)


def check_gpu(gpus: float) -> None:
    """Raises UserError where Ray has given this worker `gpus` and torch sees none: it would train on CPUs, slowly."""
    if gpus and not torch.cuda.is_available():
        raise UserError(
            f"a worker on {platform.node()} got a GPU from Ray, but torch {torch.__version__} sees none there: install "
            f"a CUDA build of torch and the driver (`python -m spd_ray.doctor`), or --set resources.gpus_per_worker=0"
        )


def run_on_worker(worker: Worker, function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns there; raises what it raises. The process is kept for the next call."""
    return answer_of(worker.remote(function, max_calls=0).remote(*arguments))


def answer_of(task: Any) -> Any:
    """What a task returned; of its errors those that are explained in words are raised as they were."""
    try:
        return ray.get(task)
    except RayTaskError as error:
        if isinstance(error.cause, StorageError | ValueError):
            raise error.cause from None
        raise


def read_back(
    place: str,
    checkpoint: str,
    sparsity: float,
    per_matrix: bool,
    pattern: Pattern,
    task: TaskConfig,
    content: Mapping[str, str],
) -> Verification:
    """`verify_checkpoint` of the student `checkpoint` of the sweep in `place`. Raises ValueError as that does."""
    storage = SweepStorage(place, f"read-back-{checkpoint.replace('/', '-')}")
    storage.fetch(storage.folder / checkpoint)
    try:
        student = storage.folder / checkpoint
        return verify_checkpoint(student, sparsity, per_matrix, worker_teacher(place, task, content), pattern)
    finally:
        storage.clear_copy()


def answers_of_teacher(place: str, task: TaskConfig, content: Mapping[str, str]) -> list[PredictionRecord]:
    """What the dense teacher of the sweep in `place` answers on dev."""
    teacher = worker_teacher(place, task, content)
    teacher.model.to(engine.device())
    try:
        return answer_dev(teacher.model, teacher)[1]
    finally:
        teacher.model.to("cpu")
