"""What the driver asks a worker to run, and how Tune's configuration of a trial carries it."""

from dataclasses import dataclass
from typing import Any

from spd_ray.config.trial import TrialConfig


@dataclass(frozen=True, kw_only=True)
class TrialRequest:
    """One trial to run, or to continue."""

    trial_id: str
    config: TrialConfig
    place: str  # the sweep's folder or URI
    content: dict[str, str]  # of the teacher, which lies there: its hash, and those of what it was made from
    gpus: float  # of a rank
    state_seconds: float  # at least, between two states; 0: one at each evaluation

    def to_dict(self) -> dict[str, Any]:
        """The request as JSON values."""
        return {**vars(self), "config": self.config.model_dump(mode="json")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrialRequest":
        """The request that `to_dict` wrote."""
        return cls(**{**values, "config": TrialConfig.model_validate(values["config"])})


def requested_trial(tune_trial: Any) -> str:
    """The id of the trial that a Tune trial runs; Tune's own ids are others."""
    return tune_trial.config["request"]["trial_id"]
