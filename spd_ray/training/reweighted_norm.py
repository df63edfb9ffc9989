"""The reweighted L1 norm of `pruning: reweighted_l1` (RPP, Guo et al. 2019), in units that fit any rate and length."""

from typing import NamedTuple

from torch import nn

from spd_ray.config.timeline import Timeline
from spd_ray.model import surgery

FLOOR = 0.1  # e, in deviations of the weights: what keeps the penalty of a weight near 0 finite


class ReweightedNorm(NamedTuple):
    """What the engine shrinks by until pruning ends: |w| by lr strength / (|w| + floor) a step."""

    strength: float
    floor: float

    @classmethod
    def of(cls, timeline: Timeline, model: nn.Module) -> "ReweightedNorm":
        """The norm of `timeline.method` for the weights that `model` begins with.

        With s = `method.l1`, d the weights' deviation and x = |w| / d, strength = s d^2 / sum of the rates until
        pruning ends. Over all these steps x falls by s / (x + e): what lies within sqrt(e^2 + 2 s) - e deviations
        ends at 0 if no gradient pulls it back, whatever rates and steps are.
        """
        method = timeline.method
        if method.pruning != "reweighted_l1":
            return cls(0.0, 1.0)
        deviation = surgery.deviation(model)
        rates = sum(timeline.learning_rate(step) for step in range(timeline.pruning_end_step))
        return cls(method.l1 * deviation**2 / rates, FLOOR * deviation)

    def at(self, step: int, timeline: Timeline) -> "ReweightedNorm":
        """The norm at `step`: constant until pruning ends, then none."""
        return self if step < timeline.pruning_end_step else self._replace(strength=0.0)
