"""How a sweep is run: the study, what a trial gets, early stopping, what is kept, and where MLflow is."""

import itertools
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from spd_ray.config.section import NonNegativeFloat, PositiveInt, Section, Seed


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
    gpus_per_worker: NonNegativeFloat = Field(0.0, description="a fraction lets trials share one GPU")
    concurrent: PositiveInt | None = Field(None, description="trials at once, at most; null: as many as fit")

    @field_validator("gpus_per_worker")
    @classmethod
    def _check_whole_above_1(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("above 1, GPUs must be a whole number")
        return gpus


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

    keep: PositiveInt = Field(3, description="the best sparse students of the sweep")
    state_every_evaluations: PositiveInt = Field(1, description="how often a trial saves what it resumes from")


class TrackingConfig(Section):
    """MLflow; all null: sqlite and a folder beside the sweep, an experiment and a model named after it."""

    uri: str | None = None
    experiment: str | None = None
    registered_model: str | None = None

    @field_validator("uri")
    @classmethod
    def _refuse_password(cls, uri: str | None) -> str | None:
        """What a specification says is written to disk and to MLflow."""
        if uri and urlsplit(uri).password:
            raise ValueError("leave the password out; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
        return uri
