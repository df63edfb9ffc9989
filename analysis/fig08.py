"""Figure 8: dev score against the replacing probability p0 of Stage I."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import style
from analysis.tables import NoData, Setting, Tables, Trial, flat_config, setting_of, status_counts

NAME = "fig08"
TITLE = "Dev score against p₀ (Figure 8)"
_P0_DIGITS = 9  # two values of p0 that agree to this many decimals are one
_NOT_SETTINGS = ("seed", "method.p0")  # keys of the configuration that are no other dimension


class ScoreByP0(NamedTuple):
    """Scores of N trials at G values of p0; a score is a trial's best dev score at its target sparsity."""

    setting: Setting
    trial_p0: np.ndarray  # (N,)
    trial_score: np.ndarray  # (N,)
    p0: np.ndarray  # (G,) ascending
    mean: np.ndarray  # (G,)
    low: np.ndarray  # (G,) smallest score
    high: np.ndarray  # (G,) largest score
    n: np.ndarray  # (G,) trials
    teachers: tuple[float, ...]  # distinct dev scores of the dense teachers
    left_out: tuple[tuple[str, int], ...]  # ("stopped", 2), ("infeasible", 1), ...
    searched: tuple[str, ...]  # other dimensions in which the trials differ
    balanced: bool  # whether each p0 was run with the same other settings


def compute(tables: Tables) -> ScoreByP0:
    """Group the finished, feasible trials by p0. Raises NoData where fewer than two values of p0 are left."""
    kept = [trial for trial in tables.trials if trial.comparable]
    if not kept:
        raise NoData(f"no trial has finished at its target sparsity yet ({status_counts(tables.trials)})")
    trial_p0 = np.round([trial.p0 for trial in kept], _P0_DIGITS)
    trial_score = np.array([trial.best_score for trial in kept], dtype=float)
    p0 = np.unique(trial_p0)
    if len(p0) < 2:
        raise NoData(f"only one p0 among the finished trials at their target sparsity: {p0[0]:g} (n = {len(kept)})")
    groups = [trial_score[trial_p0 == value] for value in p0]
    searched, balanced = _other_dimensions(kept, trial_p0)
    return ScoreByP0(
        setting=setting_of(kept),
        trial_p0=trial_p0,
        trial_score=trial_score,
        p0=p0,
        mean=np.array([group.mean() for group in groups]),
        low=np.array([group.min() for group in groups]),
        high=np.array([group.max() for group in groups]),
        n=np.array([len(group) for group in groups]),
        teachers=tuple(sorted({trial.teacher_score for trial in kept if trial.teacher_score is not None})),
        left_out=_left_out(tables.trials),
        searched=searched,
        balanced=balanced,
    )


def _left_out(trials: Sequence[Trial]) -> tuple[tuple[str, int], ...]:
    reasons = ("infeasible" if trial.status == "finished" else trial.status for trial in trials if not trial.comparable)
    return tuple(sorted(Counter(reasons).items()))


def _other_dimensions(trials: Sequence[Trial], trial_p0: np.ndarray) -> tuple[tuple[str, ...], bool]:
    """The keys, p0 and the seed apart, in which `trials` differ; whether each p0 met the same of their values."""
    configs = [flat_config(trial) for trial in trials]
    keys = sorted(set().union(*configs) - set(_NOT_SETTINGS))
    searched = [key for key in keys if len({config.get(key) for config in configs}) > 1]
    settings = defaultdict(list)
    for value, config in zip(trial_p0, configs, strict=True):
        settings[value].append(tuple(str(config.get(key)) for key in searched))
    balanced = len({tuple(sorted(group)) for group in settings.values()}) == 1
    return tuple(key.removeprefix("method.") for key in searched), balanced or not searched


def draw(numbers: ScoreByP0, axes: Axes) -> None:
    """A point a trial; means with a band where the values of p0 compare like with like, else with bars."""
    mean = numbers.mean if numbers.balanced else np.where(numbers.n > 1, numbers.mean, np.nan)
    if numbers.balanced:
        axes.fill_between(
            numbers.p0, numbers.low, numbers.high, color=style.DEV, alpha=0.15, linewidth=0, label="smallest to largest"
        )
    else:
        axes.vlines(numbers.p0, numbers.low, numbers.high, colors=style.DEV, linewidth=1, label="smallest to largest")
    axes.plot(
        numbers.p0, mean, marker="_", markersize=11, markeredgewidth=2.2, linestyle="-" if numbers.balanced else "none",
        color=style.DEV, label="mean",
    )  # fmt: skip
    axes.plot(
        numbers.trial_p0, numbers.trial_score, "o", markersize=4, markerfacecolor="white", markeredgewidth=0.9,
        color=style.DEV, label="trial", zorder=3,
    )  # fmt: skip
    for score in numbers.teachers:
        style.mark_teacher(axes, score, f"dense teacher, {score:.3f}")
    axes.set_xlabel("Replacing probability in Stage I, $p_0$")
    axes.set_ylabel(f"Best dev {style.metric_label(numbers.setting.metrics)}")


def caption(numbers: ScoreByP0) -> str:
    """What the picture shows, of what, what was left out, how far it can be trusted, and the paper's figure."""
    least, most = numbers.n.min(), numbers.n.max()
    n = f"n = {least}" if least == most else f"n = {least} to {most}"
    what = "line and band: mean and smallest to largest" if numbers.balanced else "bars: mean and smallest to largest"
    teachers = style.listing(f"{score:.3f}" for score in numbers.teachers)
    teacher = f" Dash-dotted: the dense teacher's score, {teachers}." if teachers else ""
    return (
        f"Best dev score at the target sparsity against p₀. Circles: {len(numbers.trial_p0)} finished trials; {what} "
        f"of the trials at one p₀, {n}.{teacher} {_omissions(numbers)} {style.describe(numbers.setting)}"
        f"{_warning(numbers)} The paper's Figure 8 (RTE, dev) has its best score at p₀ = 0.6 and the progressive "
        "design above the non-progressive one."
    )


def _omissions(numbers: ScoreByP0) -> str:
    if not numbers.left_out:
        return "No trial was left out."
    total = sum(count for _, count in numbers.left_out)
    return f"Left out: {style.plural(total, 'trial')} ({style.listing(f'{n} {why}' for why, n in numbers.left_out)})."


def _warning(numbers: ScoreByP0) -> str:
    if not numbers.searched:
        return ""
    also = f" These trials also differ in {style.listing(numbers.searched)}, so that this marginal of p₀ mixes them"
    if numbers.balanced:
        return f"{also}, evenly: each p₀ was run with the same of their settings."
    return f"{also}, unevenly; an adaptive sampler biases it further, towards the settings that it favoured."


def figure(numbers: ScoreByP0) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        picture = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
        axes = picture.subplots()
        picture.suptitle(style.title(numbers.setting), fontsize=9)
        draw(numbers, axes)
        picture.legend(loc="outside lower center", ncols=4, handlelength=2.4, columnspacing=1.4)
    return picture
