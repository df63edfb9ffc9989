"""What a figure varies: the numbers and the strategies of a configuration that the paper's figures compare."""

from collections.abc import Callable
from typing import Any, NamedTuple

from analysis.reading.trials import Trial

_DIGITS = 9  # two numbers that agree to this many significant digits are one
STRATEGIES = ("finetune_prune", "progressive_only", "kd_only", "spd")  # Figure 6 (a) to (d)


class Dimension(NamedTuple):
    """What a figure varies: a name for texts, a label with its unit for axes, and how to read it off a trial."""

    name: str
    label: str
    of: Callable[[Trial], Any]
    keys: tuple[str, ...]  # its keys in the configuration, without their sections
    log: bool = False
    whole: bool = False  # a value is a whole strategy: other keys of the configuration change with it


def _number(field: str) -> Callable[[Trial], float]:
    """The trial's number `field`, rounded to nine significant digits."""
    return lambda trial: float(f"{getattr(trial, field):.{_DIGITS}g}")


P0 = Dimension("p₀", "Replacing probability in Stage I, $p_0$", _number("p0"), ("p0",))
GRAFTING = Dimension("whether p₀ is above 0", "p₀ above 0", lambda trial: trial.p0 > 0, ("p0",))
PRUNING_END = Dimension("the end of pruning", "End of pruning (multiple of $t_1$)", _number("pruning_end"),
                        ("pruning_end",))  # fmt: skip
STAGE1 = Dimension("the length of Stage I", "Stage I (epochs)", _number("stage1_epochs"), ("stage1_epochs",))
STAGE2 = Dimension("the length of Stage II", "Stage II (epochs)", _number("stage2_epochs"), ("stage2_epochs",))
STAGE1_LR = Dimension("λ₀", "Learning rate of Stage I, $λ_0$", _number("stage1_lr"), ("stage1_lr",), log=True)
STAGE23_LR = Dimension("λ₁", "Learning rate of Stages II and III, $λ_1$", _number("stage23_lr"), ("stage23_lr",),
                       log=True)  # fmt: skip
SPARSITY = Dimension("the sparsity", "Target sparsity (fraction of zeros)", _number("target_sparsity"),
                     ("target_sparsity",))  # fmt: skip
METHOD = Dimension("the method", "Method", lambda trial: trial.method, (), whole=True)
LR_SCHEDULE = Dimension("the learning-rate schedule", "Schedule", lambda trial: trial.lr_schedule, (), whole=True)
NUMERIC = (P0, PRUNING_END, STAGE1, STAGE2, STAGE1_LR, STAGE23_LR, SPARSITY)


def is_spd(trial: Trial) -> bool:
    """Whether the trial is SPD itself: its dimensions are studied within SPD, not across methods."""
    return trial.method == "spd"


def prunes_with_kd(trial: Trial) -> bool:
    """Whether the trial prunes under KD, without grafting: Figure 2, as its caption says."""
    return trial.method == "kd_only"


def prunes_without_kd(trial: Trial) -> bool:
    """Whether the trial prunes on the labels alone, without grafting: Figure 2 without the KD of its caption."""
    return trial.method == "finetune_prune"


def is_spd_on_similarity(trial: Trial) -> bool:
    """Whether it is SPD on a similarity task, or another of regression: Figure 12."""
    return is_spd(trial) and trial.is_regression


def is_spd_on_classification(trial: Trial) -> bool:
    """Whether it is SPD on any other task: Figure 11."""
    return is_spd(trial) and not trial.is_regression


def is_strategy(trial: Trial) -> bool:
    """Whether it is one of the four strategies: Figure 6."""
    return trial.method in STRATEGIES
