"""SPD's three schedules (Figure 4) as pure functions of the step.

Symbols of the paper -> arguments [unit]: t -> step [applied optimizer steps], t1, t2, t3 -> the steps at
which Stages I, II and III end, p0 -> p0 [probability], lambda_0, lambda_1 -> stage1_lr, stage23_lr,
theta_t -> target_sparsity [fraction of zeros in [0, 1]].

Why so: docs/decisions.md #decays-end-at-zero, #last-pruning-event.
"""

from collections.abc import Sequence
from typing import Literal

Grafting = Literal["none", "three_stage", "constant", "linear"]
LearningRateSchedule = Literal["two_decays", "one_decay", "rounds", "phases", "constant"]
PruningSchedule = Literal["cubic", "linear", "geometric", "one_shot", "constant"]


def stage(step: int, t1: int, t2: int) -> int:
    """The stage of `step`: 1 on [0, t1), 2 on [t1, t2), 3 from t2 on.

    >>> [stage(t, t1=2, t2=4) for t in range(6)]
    [1, 1, 2, 2, 3, 3]
    """
    return 1 + (step >= t1) + (step >= t2)


def replacing_probability(step: int, p0: float, t1: int, t2: int, grafting: Grafting = "three_stage") -> float:
    """The probability that a student layer is grafted at `step`; 1 from t2 on.

    three_stage, Eq. (5), Huang et al. 2022: p0 on [0, t1);  k_p (t - t1) + p0 on [t1, t2), k_p = (1 - p0) / (t2 - t1).
    constant (Xu et al. 2020, arXiv:2002.02925, Section 3.1): p0 on [0, t2).
    linear (the same, Section 3.3, k = (1 - p0) / t2 and b = p0): p0 + (1 - p0) t / t2 on [0, t2).
    none: 1 throughout.

    >>> [replacing_probability(t, p0=0.6, t1=2, t2=4) for t in (0, 1, 2, 3, 4, 9)]
    [0.6, 0.6, 0.6, 0.8, 1.0, 1.0]
    >>> [replacing_probability(t, 0.5, 2, 4, "linear") for t in range(5)]
    [0.5, 0.625, 0.75, 0.875, 1.0]
    >>> [replacing_probability(t, 0.5, 2, 4, "constant") for t in (0, 3, 4)]
    [0.5, 0.5, 1.0]
    """
    if grafting == "none" or step >= t2:
        return 1.0
    if grafting == "linear":
        return p0 + (1.0 - p0) * step / t2
    if grafting == "constant" or step < t1:
        return p0
    return p0 + (1.0 - p0) * (step - t1) / (t2 - t1)


def learning_rate(step: int, stage1_lr: float, stage23_lr: float, t1: int, t3: int) -> float:
    """Eq. (6), Huang et al. 2022: one linear decay on [0, t1), a second, restarting, on [t1, t3).

    lambda(t) = lambda_0 (1 - t / t1) on [0, t1);  lambda_1 (1 - (t - t1) / (t3 - t1)) on [t1, t3);  0 after.

    The paper prints no slopes; both decays end at 0 here.

    >>> [learning_rate(t, stage1_lr=4.0, stage23_lr=8.0, t1=2, t3=6) for t in range(7)]
    [4.0, 2.0, 8.0, 6.0, 4.0, 2.0, 0.0]
    """
    return decay(step, stage1_lr, 0, t1) if step < t1 else decay(step, stage23_lr, t1, t3)


def decay(step: int, rate: float, first: int, end: int) -> float:
    """One linear decay from `rate` at step `first` to 0 at step `end`, 0 from there on.

    >>> [decay(t, 4.0, 2, 4) for t in (2, 3, 4)]
    [4.0, 2.0, 0.0]
    """
    return rate * (1.0 - (step - first) / (end - first)) if step < end else 0.0


def event_rate(
    event: int, events: int, target_sparsity: float, schedule: PruningSchedule, initial_sparsity: float = 0.0
) -> float:
    """The sparsity theta_j of pruning event j = `event` in 1..n (Section 3.2; Figure 4 (b)); theta_n = theta_t.

    With u = j / n: cubic (Zhu & Gupta 2018): theta_t (1 - (1 - u)^3);  linear: theta_t u;  geometric (each event prunes
    the same share of what is left, Frankle & Carbin 2019): 1 - (1 - theta_t)^u;  one_shot: only event n counts;
    constant: theta_t at every event, for masks that grow again.
    An initial sparsity s_i > 0 is that of event 1, as Zhu & Gupta print it: cubic with v = (j - 1) / (n - 1) is
    theta_t + (s_i - theta_t) (1 - v)^3.

    >>> [round(event_rate(j, 2, 0.8, "cubic"), 3) for j in (1, 2)]
    [0.7, 0.8]
    >>> [round(event_rate(j, 2, 0.75, "geometric"), 3) for j in (1, 2)]
    [0.5, 0.75]
    >>> [event_rate(j, 2, 0.8, "one_shot") for j in (1, 2)]
    [0.0, 0.8]
    >>> [round(event_rate(j, 3, 0.9, "cubic", initial_sparsity=0.5), 3) for j in (1, 2, 3)]
    [0.5, 0.85, 0.9]
    """
    fraction = event / events
    if schedule == "cubic" and initial_sparsity > 0 and event < events:
        after_first = (event - 1) / (events - 1)
        return target_sparsity + (initial_sparsity - target_sparsity) * (1.0 - after_first) ** 3
    if schedule == "cubic":
        return target_sparsity * (1.0 - (1.0 - fraction) ** 3)
    if schedule == "constant":
        return target_sparsity
    if schedule == "linear":
        return target_sparsity * fraction
    if schedule == "geometric":
        return 1.0 - (1.0 - target_sparsity) ** fraction
    return target_sparsity if event == events else 0.0


def pruning_steps(pruning_end_step: int, events: int) -> tuple[int, ...]:
    """The applied steps, at least one, after which the `events` pruning events are due; the last is `pruning_end_step`.

    Departs from: the public code drops the last event where the division is exact.

    >>> pruning_steps(10, 4)
    (2, 5, 7, 10)
    """
    return tuple(max(1, event * pruning_end_step // events) for event in range(1, events + 1))


def with_ladder(rates: Sequence[float], ladder: Sequence[float]) -> list[float]:
    """The rates of the pruning events with each level of `ladder` on the first free event that would reach it.

    The last event keeps its rate, which is the top of the ladder. Raises ValueError where the events are too few.

    >>> with_ladder([0.3, 0.6, 0.8, 0.9], [0.5])
    [0.3, 0.5, 0.8, 0.9]
    """
    placed, free = list(rates), 0
    for level in ladder:
        event = next((j for j in range(free, len(rates) - 1) if rates[j] >= level), None)
        if event is None:
            raise ValueError(
                f"pruning_events: {len(rates)} events leave none for the level {level:g} of ladder; give more"
            )
        placed[event], free = level, event + 1
    return placed
