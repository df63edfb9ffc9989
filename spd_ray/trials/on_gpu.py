"""What a driver has a worker with a GPU compute, for it sees none itself: the teacher, and students read back.

Why so: docs/decisions.md #gpus-of-a-process.
"""

import platform
from collections.abc import Callable, Mapping
from typing import Any

import ray
import torch
from ray.exceptions import RayTaskError

from spd_ray.base.errors import UserError
from spd_ray.config.trial import ModelConfig, TaskConfig, TeacherConfig
from spd_ray.equations.patterns import Pattern
from spd_ray.records.storage import SweepStorage
from spd_ray.training.checkpoint import Verification, verify_checkpoint
from spd_ray.training.teacher import build_teacher, read_origin
from spd_ray.trials.shared_teacher import worker_teacher


def check_gpu(gpus: float) -> None:
    """Raises UserError where Ray has given this worker `gpus` and torch sees none: it would train on CPUs, slowly."""
    if gpus and not torch.cuda.is_available():
        raise UserError(
            f"a worker on {platform.node()} got a GPU from Ray, but torch {torch.__version__} sees none there: install "
            f"a CUDA build of torch and the driver (`python -m spd_ray.doctor`), or --set resources.gpus_per_worker=0"
        )


def fine_tune(task: TaskConfig, model: ModelConfig, teacher: TeacherConfig) -> None:
    """Put the teacher into the cache. Raises UserError as `read_origin` does."""
    build_teacher(read_origin(task, model, teacher), teacher)


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


def run_on_gpu(function: Callable[..., Any], cpus: int, *arguments: Any) -> Any:
    """What `function` returns in a worker that has one GPU of the cluster and `cpus`; raises what it raises."""

    def there() -> Any:
        check_gpu(1)
        return function(*arguments)

    try:
        return ray.get(ray.remote(num_cpus=cpus, num_gpus=1)(there).remote())
    except RayTaskError as error:
        if isinstance(error.cause, UserError | ValueError):
            raise error.cause from None
        raise
