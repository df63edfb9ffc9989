"""By what weights are pruned, and what comes back: sections `criterion` and `regrowth` of a method.

Why so: docs/decisions.md #installed-rows.
"""

from typing import Literal

from pydantic import Field

from spd_ray.base.user_code import installed_rows
from spd_ray.config.section import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, Section
from spd_ray.equations.criterion_table import CRITERIA, Criterion

_PRUNINGS = ("none", "global_magnitude", "lottery", "reweighted_l1")  # beside the criteria
_own_criteria, REFUSED_CRITERIA = installed_rows(
    "spd_ray.criteria", Criterion, (*CRITERIA, *_PRUNINGS), Criterion.wrong
)
ALL_CRITERIA: dict[str, Criterion] = {**CRITERIA, **_own_criteria}
PRUNINGS = (*_PRUNINGS[:1], *ALL_CRITERIA, *_PRUNINGS[1:])


class CriterionConfig(Section):
    """How weights are ranked where they are pruned; the criterion itself is `pruning`."""

    scope: Literal["matrix", "global"] = Field(
        "matrix", description="global: one ranking of all matrices, which so end at different sparsities"
    )
    penalty: NonNegativeFloat = Field(1.0, description="soft_movement: lambda of a matrix's mean of sigma(S)")
    score_lr: PositiveFloat = Field(1e-2, description="soft_movement: the rate of the scores S")
    threshold: Probability = Field(0.1, description="soft_movement: weights with sigma(S) at most this are pruned")
    beta1: Probability = Field(0.85, description="platon: of the moving average of the sensitivity |w g|")
    beta2: Probability = Field(0.95, description="platon: of that of its uncertainty")
    window: PositiveInt = Field(1, description="platon: steps whose mean enters both averages")
    gradients: PositiveInt = Field(16, description="fisher: gradients of batches that it is the mean of, at each event")
    block_size: PositiveInt = Field(
        50, description="fisher: weights of a block, 4 bytes times block_size of memory a weight; 1: the diagonal"
    )
    damping: PositiveFloat = Field(1e-7, description="fisher: what is added to its diagonal")
    compensate: bool = Field(True, description="fisher: kept weights of a block make up for the pruned ones (OBS)")


class RegrowthConfig(Section):
    """What of the pruned weights comes back at pruning events, and begins anew at 0; none: masks are nested."""

    kind: Literal["none", "gradient", "exploration", "partitions"] = Field(
        "none",
        description="gradient: the largest dense gradients give and take places (RigL); exploration: with a bonus for "
        "weights that were seldom in the mask (DST-EE); partitions: of layers, dense in turn (grow-and-prune)",
    )
    share: Probability = Field(0.3, description="gradient, exploration: of the kept weights; it decays to 0")
    gradients: PositiveInt = Field(1, description="gradient, exploration: batches that it is the mean of")
    bonus: NonNegativeFloat = Field(1e-3, description="exploration: its weight c beside the gradient")
    epsilon: PositiveFloat = Field(1.0, description="exploration: what is added to how often a weight was kept")
    partitions: int = Field(2, ge=2, description="partitions: how many; of layers in a row")
