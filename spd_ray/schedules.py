"""SPD's three schedules (Figure 4) as pure functions of the step.

Symbols of the paper -> arguments [unit]: t -> step [applied optimizer steps], t1, t2, t3 -> the steps at
which Stages I, II and III end, p0 -> p0 [probability], lambda_0, lambda_1 -> stage1_lr, stage23_lr,
theta_t -> target_sparsity [fraction of zeros in [0, 1]].
"""

from typing import Literal

PruningSchedule = Literal["cubic", "linear", "one_shot"]


def stage(step: int, t1: int, t2: int) -> int:
    """The stage of `step`: 1 on [0, t1), 2 on [t1, t2), 3 from t2 on.

    >>> [stage(t, t1=2, t2=4) for t in range(6)]
    [1, 1, 2, 2, 3, 3]
    """
    return 1 + (step >= t1) + (step >= t2)


def replacing_probability(step: int, p0: float, t1: int, t2: int) -> float:
    """Eq. (5), Huang et al. 2022: the probability that a student layer is grafted at `step`.

    p(t) = p0 on [0, t1);  k_p (t - t1) + p0 on [t1, t2) with k_p = (1 - p0) / (t2 - t1);  1 from t2 on.

    >>> [replacing_probability(t, p0=0.6, t1=2, t2=4) for t in (0, 1, 2, 3, 4, 9)]
    [0.6, 0.6, 0.6, 0.8, 1.0, 1.0]
    """
    if step < t1:
        return p0
    if step >= t2:
        return 1.0
    return p0 + (1.0 - p0) * (step - t1) / (t2 - t1)


def learning_rate(step: int, stage1_lr: float, stage23_lr: float, t1: int, t3: int) -> float:
    """Eq. (6), Huang et al. 2022: one linear decay on [0, t1), a second, restarting, on [t1, t3).

    lambda(t) = lambda_0 (1 - t / t1) on [0, t1);  lambda_1 (1 - (t - t1) / (t3 - t1)) on [t1, t3);  0 after.

    The paper prints no slopes; both decays end at 0 here.

    >>> [learning_rate(t, stage1_lr=4.0, stage23_lr=8.0, t1=2, t3=6) for t in range(7)]
    [4.0, 2.0, 8.0, 6.0, 4.0, 2.0, 0.0]
    """
    if step < t1:
        return stage1_lr * (1.0 - step / t1)
    if step < t3:
        return stage23_lr * (1.0 - (step - t1) / (t3 - t1))
    return 0.0


def pruning_rate(
    step: int, target_sparsity: float, pruning_end_step: int, events: int, schedule: PruningSchedule
) -> float:
    """The sparsity theta_j that holds before `step` is taken (Section 3.2; Figure 4 (b)).

    Event j = 1..n is due after max(1, floor(j * end / n)) applied steps, and theta_n = theta_t. With u = j / n:
    cubic (Zhu & Gupta 2018): theta_t (1 - (1 - u)^3);  linear: theta_t u;  one_shot: only event n counts.

    Departs from: the public code drops the last event where the division is exact.

    >>> [round(pruning_rate(t, 0.8, 4, 2, "cubic"), 3) for t in range(6)]
    [0.0, 0.0, 0.7, 0.7, 0.8, 0.8]
    >>> [pruning_rate(t, 0.8, 4, 2, "one_shot") for t in (3, 4)]
    [0.0, 0.8]
    """
    if step >= pruning_end_step:
        return target_sparsity
    events_passed = sum(due <= step for due in pruning_steps(pruning_end_step, events))
    fraction = events_passed / events
    if schedule == "cubic":
        return target_sparsity * (1.0 - (1.0 - fraction) ** 3)
    if schedule == "linear":
        return target_sparsity * fraction
    return 0.0


def pruning_steps(pruning_end_step: int, events: int) -> tuple[int, ...]:
    """The applied steps, at least one, after which the `events` pruning events are due; the last is `pruning_end_step`.

    >>> pruning_steps(10, 4)
    (2, 5, 7, 10)
    """
    return tuple(max(1, event * pruning_end_step // events) for event in range(1, events + 1))
