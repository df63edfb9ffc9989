"""A trial in steps: the one place where epochs become applied optimizer steps.

Why so: docs/decisions.md #steps-once.
"""

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

from spd_ray.base.errors import UserError
from spd_ray.config.method import MethodConfig, ObjectiveConfig
from spd_ray.equations import schedules


class PruningEvent(NamedTuple):
    """After `step` applied steps the prunable matrices are pruned to `rate`."""

    step: int
    rate: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A trial's schedule in steps (applied optimizer steps). The one place where epochs become steps."""

    steps_per_epoch: int
    t1: int
    t2: int
    t3: int
    pruning_end_step: int
    pruning_events: tuple[PruningEvent, ...]
    eval_steps: tuple[int, ...]
    method: MethodConfig

    @classmethod
    def of(cls, method: MethodConfig, train_examples: int) -> "Timeline":
        """Lay `method` over a training set of `train_examples` examples.

        Evaluations are due every `eval_every_epochs`, at the end of each stage, after the last pruning
        event, at the end of each level of the ladder and at t3.
        """
        steps_per_epoch = math.ceil(train_examples / method.batch_size)
        t1 = max(1, round(method.stage1_epochs * steps_per_epoch))
        t2 = max(t1, round((method.stage1_epochs + method.stage2_epochs) * steps_per_epoch))
        t3 = max(t2, round(method.total_epochs * steps_per_epoch))
        pruning_end_step = min(t2, max(1, round(method.pruning_end * t1)))
        events = _pruning_events(method, pruning_end_step)
        level_ends = {after.step - 1 for event, after in itertools.pairwise(events) if event.rate in method.ladder}
        eval_interval = max(1, round(method.eval_every_epochs * steps_per_epoch))
        eval_steps = {*range(eval_interval, t3, eval_interval), t1, t2, t3, pruning_end_step, *level_ends}
        return cls(
            steps_per_epoch=steps_per_epoch,
            t1=t1,
            t2=t2,
            t3=t3,
            pruning_end_step=pruning_end_step,
            pruning_events=events,
            eval_steps=tuple(sorted(eval_steps)),
            method=method,
        )

    def stage(self, step: int) -> int:
        """1, 2 or 3; the step t3, at which training is over, still belongs to the last stage."""
        return schedules.stage(min(step, self.t3 - 1), self.t1, self.t2)

    def replacing_probability(self, step: int) -> float:
        """Eq. (5), or the method's own."""
        return schedules.replacing_probability(step, self.method.p0, self.t1, self.t2, self.method.grafting)

    def learning_rate(self, step: int) -> float:
        """Eq. (6), or the method's own."""
        method = self.method
        if method.lr_schedule == "two_decays":
            return schedules.learning_rate(step, method.stage1_lr, method.later_lr, self.t1, self.t3)
        if method.lr_schedule == "constant":
            return method.stage1_lr
        if method.lr_schedule == "phases":
            first = self._phases_end()
            return method.stage1_lr if step < first else schedules.decay(step, method.stage1_lr, first, self.t3)
        ends = [0, *(event.step for event in self.pruning_events if method.lr_schedule == "rounds"), self.t3]
        first, end = next(((a, b) for a, b in itertools.pairwise(ends) if a <= step < b), (0, self.t3))
        return schedules.decay(step, method.stage1_lr, first, end)

    def pruning_rate(self, step: int) -> float:
        """theta_j that holds before `step` is taken."""
        return next((event.rate for event in reversed(self.pruning_events) if event.step <= step), 0.0)

    def level(self, step: int) -> float | None:
        """The level of the ladder at which the student is after `step` applied steps; None: at none."""
        rate = self.pruning_rate(step)
        return rate if rate in self.method.ladder else None

    def check_ladder(self) -> None:
        """Raises UserError where no pruning event stops at a level: of several events at one step the last counts."""
        rates = [event.rate for event in self.pruning_events]
        missed = ", ".join(f"{level:g}" for level in self.method.ladder if level not in rates)
        if missed:
            raise UserError(
                f"method.ladder: no pruning event stops at {missed}, for {self.method.pruning_events} events do not "
                f"fit into {self.pruning_end_step} steps; give fewer events or levels, or a longer stage1_epochs"
            )

    @property
    def final_sparsity(self) -> float:
        """The sparsity from the last pruning event on: a student with less is not feasible."""
        return self.pruning_events[-1].rate if self.pruning_events else 0.0

    def pruning_is_over(self, step: int) -> bool:
        """Whether the student has its final sparsity after `step` applied steps, so that it is feasible."""
        if self.method.is_sparse_at_the_end:
            return not self.pruning_events or step >= self.pruning_events[-1].step
        return self.pruning_rate(step) >= self.final_sparsity

    def objective(self, step: int) -> ObjectiveConfig:
        """The objective of `step`: that of its phase."""
        phase = next((phase for phase in self.method.phases if self.budget(step) < phase.until), None)
        return self.method.objective if phase is None else phase.objective

    def budget(self, step: int) -> float:
        """step / t3 in [0, 1]."""
        return step / self.t3

    def phase_share(self, step: int) -> float:
        """How much of its phase is over at `step`, in [0, 1): what comes after the phases is the last."""
        ends = [0.0, *(phase.until for phase in self.method.phases), 1.0]
        budget = self.budget(step)
        return next(((budget - a) / (b - a) for a, b in itertools.pairwise(ends) if budget < b), 1.0)

    def _phases_end(self) -> int:
        """The first step after the phases."""
        return math.ceil(self.t3 * max((phase.until for phase in self.method.phases), default=0.0))


def _pruning_events(method: MethodConfig, end: int) -> tuple[PruningEvent, ...]:
    """The events with their rates; of several that are due after the same step, the last."""
    if method.final_sparsity == 0:
        return ()
    steps = schedules.pruning_steps(end, method.pruning_events)
    rates = dict(zip(steps, method.event_rates(), strict=True))
    if method.drop_last_event and end % method.pruning_events == 0 and len(rates) > 1:
        del rates[end]
    return tuple(PruningEvent(step, rate) for step, rate in rates.items() if rate > 0)
