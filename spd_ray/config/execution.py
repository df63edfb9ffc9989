"""How a sweep is run: the study, what a trial gets, early stopping, what is kept, and where MLflow is."""

import itertools
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from spd_ray.config.section import NonNegativeFloat, PositiveInt, Section, Seed, refuse

_FRACTION = 1e-6  # of a slot: 1 / 0.1 and Ray's own sums of fractions are not exact in binary


class StudyConfig(Section):
    """How the space is searched."""

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    trials: PositiveInt = Field(8, description="configurations; each is run under every seed")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="Optuna is told the mean")
    seed: Seed = Field(0, description="the sampler's")

    @field_validator("seeds")
    @classmethod
    def _check_seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("seeds must differ")
        return seeds


class ResourcesConfig(Section):
    """What one trial gets."""

    workers: PositiveInt = Field(1, description="ranks of one trial, on one node or several")
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: NonNegativeFloat | Literal["auto"] = Field(
        0.0, description="at most 1; a fraction lets trials share one GPU; auto: 1 where there are GPUs, else 0"
    )
    concurrent: PositiveInt | None = Field(None, description="trials at once, at most; null: as many as fit")

    @model_validator(mode="after")
    def _check_one_gpu_a_rank(self) -> "ResourcesConfig":
        """A rank computes on one GPU, and NCCL refuses two ranks on the same one ("Duplicate GPU detected")."""
        if self.gpus_per_worker == "auto":
            return self
        if self.gpus_per_worker > 1:
            raise refuse("a worker is one rank and uses one GPU; for more, raise workers", "gpus_per_worker")
        if self.workers > 1 and 0 < self.gpus_per_worker < 1:
            raise refuse(
                f"the {self.workers} workers of a trial cannot share a GPU: NCCL wants one each; set it to 1 or 0",
                "gpus_per_worker",
                "workers",
            )
        return self

    @property
    def worker_gpus(self) -> float:
        """`gpus_per_worker` as a number. Raises ValueError where it is `auto`: config/auto.py resolves it first."""
        if self.gpus_per_worker == "auto":
            raise ValueError("resources.gpus_per_worker is auto, and has not been resolved")
        return self.gpus_per_worker

    def per_trial(self) -> dict[str, float]:
        """CPUs and GPUs of one trial, by Ray's names of them."""
        return {"CPU": self.workers * self.cpus_per_worker, "GPU": self.workers * self.worker_gpus}

    def slots(self, have: Mapping[str, float]) -> int:
        """How many trials the resources `have` hold at once.

        >>> ResourcesConfig(gpus_per_worker=0.1).slots({"CPU": 16, "GPU": 1})
        10
        """
        counts = [have.get(name, 0.0) / asked for name, asked in self.per_trial().items() if asked]
        return int(min(counts) + _FRACTION)


class EarlyStoppingConfig(Section):
    """Successive halving at equal budgets (step / t3)."""

    rungs: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field((0.5, 0.75), min_length=1)
    reduction_factor: Annotated[float, Field(gt=1)] = 2.0

    @field_validator("rungs")
    @classmethod
    def _check_rungs_rise(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if any(first >= second for first, second in itertools.pairwise(rungs)):
            raise ValueError("rungs must rise")
        return rungs


class CheckpointsConfig(Section):
    """What is kept."""

    keep: PositiveInt = Field(3, description="the best sparse students of each target sparsity")
    state_seconds: NonNegativeFloat = Field(
        60.0, description="at least, between two states that a trial resumes from; 0: one at each evaluation"
    )


class TrackingConfig(Section):
    """MLflow; what is null: sqlite and a folder beside the sweep, an experiment and a model named after it."""

    uri: str | None = None
    experiment: str | None = None
    registered_model: str | None = None
    report: bool = Field(True, description="the report is drawn at the end, for the page of the sweep's run")

    @field_validator("uri")
    @classmethod
    def _refuse_password(cls, uri: str | None) -> str | None:
        """What a specification says is written to disk and to MLflow."""
        if uri and urlsplit(uri).password:
            raise ValueError("leave the password out; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
        return uri
