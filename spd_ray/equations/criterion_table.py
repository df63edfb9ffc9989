"""By which score weights are pruned: the one table from which `method.pruning`, the dispatch and the state follow.

A new criterion is a function or two in `criteria` and a row here; one of an installed package is a row there
(`config.pruning.ALL_CRITERIA` has both). This file imports no tensors: the command line reads it, too.

Why so: docs/decisions.md #one-table-of-criteria.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

CriterionReads = Literal["weights", "steps", "events"]
Function = str | Callable[..., Any]  # by its name in `criteria`, or itself


class Criterion(NamedTuple):
    """How a weight is scored; at a pruning event the highest scores of those that are kept stay.

    `score` is a function of `criteria`: (weight, statistics, settings) -> scores. Settings are the keys of
    `method.criterion`. Where `reads` is "steps", `update` (product, statistics, settings) -> statistics is called after
    each training step with weight x gradient, fp32, of the whole batch; what it returns is part of a trial's state.
    Where it is "events", `update` (gradient, statistics, settings) -> statistics is called at each event for
    `criterion.gradients` gradients; it must add to the statistics, for ranks share the gradients and add theirs up.
    `compensate` (weight, gone, statistics, settings) -> what is added to the weights when those `gone` are pruned.
    """

    score: Function
    reads: CriterionReads
    description: str
    update: Function | None = None
    compensate: Function | None = None
    thresholded: bool = False  # before the last event as many go as score at most `criterion.threshold`
    floats: int = 0  # fp32 numbers that are kept of a weight from step to step
    package: str | None = None  # that brings it; None: this one

    def wrong(self) -> str:
        """What an installed package has got wrong in this row of its own; "" if nothing."""
        if self.reads not in get_args(CriterionReads):
            return f"reads {self.reads!r}; it must be one of {', '.join(get_args(CriterionReads))}"
        updates = "no update" if self.reads == "weights" else "an update, a function"
        if (self.update is None) != (self.reads == "weights"):
            return f"reads {self.reads} and needs {updates}"
        functions = [one for one in (self.score, self.update, self.compensate) if one is not None]
        text = next((one for one in functions if not callable(one)), None)
        return "" if text is None else f"has the function {text!r}, where a function is needed"


CRITERIA: dict[str, Criterion] = {
    "magnitude": Criterion("magnitude_score", "weights", "|w|, Eq. (3)"),
    "movement": Criterion(
        "movement_score",
        "steps",
        "minus the sum over steps of w dL/dw (Sanh et al. 2020)",
        update="movement_update",
        floats=1,
    ),
    "soft_movement": Criterion(
        "soft_movement_score",
        "steps",
        "a threshold on scores that a penalty lowers (Sanh et al. 2020)",
        update="soft_movement_update",
        thresholded=True,
        floats=3,
    ),
    "platon": Criterion(
        "platon_score",
        "steps",
        "smoothed |w dL/dw| times its smoothed uncertainty (Zhang et al. 2022)",
        update="platon_update",
        floats=3,
    ),
    "fisher": Criterion(
        "fisher_score",
        "events",
        "w^2 over twice its entry of the inverse empirical Fisher, diagonal or in blocks (Kurtic et al. 2022)",
        update="fisher_update",
        compensate="fisher_compensation",
    ),
}
