"""Which sweep a figure is drawn from, and which trials of it belong to one value of what the figure varies."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis.errors import AnalysisError, NoData
from analysis.numbers.statistics import Scores
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Setting, Trial, flat_config, left_out, searched, setting_of, status_counts
from analysis.wording import formatting as words

_DIGITS = 9  # two numbers that agree to so many significant digits are one
SPACES = "search_spaces/paper"


class Dimension(NamedTuple):
    """What a figure varies: a name for texts, a label with its unit for axes, and how a trial has it."""

    name: str
    label: str
    of: Callable[[Trial], Any]
    keys: tuple[str, ...]  # its keys in the configuration, without their sections
    log: bool = False
    whole: bool = False  # a value is a strategy as a whole: other keys of the configuration go with it


def _number(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def number(field: str) -> Callable[[Trial], float]:
    """The trial's number `field`, rounded to nine significant digits."""
    return lambda trial: _number(getattr(trial, field))


P0 = Dimension("p₀", "Replacing probability in Stage I, $p_0$", number("p0"), ("p0",))
PRUNING_END = Dimension("the end of pruning", "End of pruning (multiple of $t_1$)", number("pruning_end"),
                        ("pruning_end",))  # fmt: skip
STAGE1 = Dimension("the length of Stage I", "Stage I (epochs)", number("stage1_epochs"), ("stage1_epochs",))
STAGE2 = Dimension("the length of Stage II", "Stage II (epochs)", number("stage2_epochs"), ("stage2_epochs",))
STAGE1_LR = Dimension("λ₀", "Learning rate of Stage I, $λ_0$", number("stage1_lr"), ("stage1_lr",), log=True)
STAGE23_LR = Dimension("λ₁", "Learning rate of Stages II and III, $λ_1$", number("stage23_lr"), ("stage23_lr",),
                       log=True)  # fmt: skip
SPARSITY = Dimension("the sparsity", "Target sparsity (fraction of zeros)", number("target_sparsity"),
                     ("target_sparsity",))  # fmt: skip
METHOD = Dimension("the method", "Method", lambda trial: trial.method, (), whole=True)
LR_SCHEDULE = Dimension("the learning-rate schedule", "Schedule", lambda trial: trial.lr_schedule, (), whole=True)
NUMERIC = (P0, PRUNING_END, STAGE1, STAGE2, STAGE1_LR, STAGE23_LR, SPARSITY)


class Source(NamedTuple):
    """The sweep that a figure was drawn from, its comparable trials by value, and what was left out."""

    tables: Tables
    own: bool  # whether it is the sweep made for the figure
    also: tuple[str, ...]  # other sweeps that could have been taken
    groups: dict[Any, tuple[Trial, ...]]  # value -> trials, by ascending value
    left_out: tuple[tuple[str, int], ...]
    searched: tuple[str, ...]  # other dimensions in which the trials differ
    balanced: bool  # whether each value was run with the same other settings

    @property
    def trials(self) -> list[Trial]:
        """All trials of the groups."""
        return [trial for group in self.groups.values() for trial in group]

    @property
    def setting(self) -> Setting:
        """What they have in common."""
        return setting_of(self.trials)


def named(sweeps: Sequence[Tables], name: str) -> list[Tables]:
    """The sweeps `name`, and those that go on from it such as `name`_cola or `name`-cola."""
    return [sweep for sweep in sweeps if sweep.name == name or sweep.name.startswith((f"{name}_", f"{name}-"))]


def made_by(name: str) -> str:
    """Which file makes the data of a figure."""
    return f"{SPACES}/{name}.yaml makes the data"


def showcase(sweeps: Sequence[Tables], trial_id: str | None) -> tuple[Tables, Trial]:
    """The one trial that Figure 4 and the curves show: `trial_id` ("ID" or "SWEEP/ID"), by default a best one.

    That is the best eligible trial of the first sweep that has one, fig08 before others, trials with three stages
    before others. Raises NoData where no trial has ended, AnalysisError where `trial_id` is not known.
    """
    if trial_id is not None:
        sweep_name, _, last = trial_id.rpartition("/")
        wanted = [sweep for sweep in sweeps if sweep_name in ("", sweep.name)]
        having = [sweep for sweep in wanted if any(trial.trial_id == last for trial in sweep.trials)]
        if not (having or wanted):
            raise AnalysisError(f"no sweep {sweep_name!r}; there are {', '.join(sweep.name for sweep in sweeps)}")
        tables = (having or wanted)[0]
        return tables, tables.trial(last)
    ordered = sorted(sweeps, key=lambda sweep: (sweep.name != "fig08", sweep.name))
    for staged in (True, False):
        for sweep in ordered:
            trials = [t for t in sweep.trials if t.eligible and (t.grafting == "three_stage" or not staged)]
            if trials:
                return sweep, max(sorted(trials, key=lambda t: t.trial_id), key=lambda t: t.best_score or 0.0)
    every = [trial for sweep in sweeps for trial in sweep.trials]
    raise NoData(f"no trial has ended with a student at its target sparsity yet ({status_counts(every)})")


def is_spd(trial: Trial) -> bool:
    """Whether the trial is SPD itself: its dimensions are varied on it, not by comparing it with other methods."""
    return trial.method == "spd"


def choose(sweeps: Sequence[Tables], name: str, dimension: Dimension,
           keep: Callable[[Trial], bool] = is_spd) -> Source:  # fmt: skip
    """The sweep `name`, else the one with the most trials in which `dimension` varies, in groups of its values.

    Only trials that `keep` wants and that compare are grouped. Raises NoData where no sweep has two values.
    """
    own = named(sweeps, name)
    candidates = own[:1] or list(sweeps)
    grouped = [(sweep, group(filter(keep, sweep.comparable), dimension.of)) for sweep in candidates]
    usable = sorted(((sweep, groups) for sweep, groups in grouped if len(groups) > 1),
                    key=lambda pair: (-sum(map(len, pair[1].values())), pair[0].name))  # fmt: skip
    if not usable:
        raise NoData(_why_not(own, grouped, name, dimension))
    tables, groups = usable[0]
    others, balanced = _other_dimensions(groups, dimension)
    return Source(
        tables, bool(own), tuple(sweep.name for sweep, _ in usable[1:]), groups,
        left_out([trial for trial in tables.trials if keep(trial)]), others, balanced,
    )  # fmt: skip


def _why_not(own: list[Tables], grouped: list[tuple[Tables, dict]], name: str, dimension: Dimension) -> str:
    if not own and len(grouped) != 1:
        return f"there is no sweep {name}, and {dimension.name} varies in no other one; {made_by(name)}"
    tables, groups = grouped[0]
    if not groups:
        counts = status_counts(tables.trials)
        return f"in sweep {tables.name} no trial for it has finished at its target sparsity yet ({counts})" + (
            "" if own else f"; {made_by(name)}"
        )
    (value,) = groups
    return (
        f"in sweep {tables.name} {dimension.name} has only one value among the finished trials, "
        f"{words.short(value)} (n = {len(groups[value])}); {made_by(name)}"
    )


def group(trials: Any, of: Callable[[Trial], Any]) -> dict[Any, tuple[Trial, ...]]:
    """Trials by value, ascending."""
    groups: dict[Any, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[of(trial)].append(trial)
    return {value: tuple(groups[value]) for value in sorted(groups)}


def _other_dimensions(groups: dict[Any, tuple[Trial, ...]], dimension: Dimension) -> tuple[tuple[str, ...], bool]:
    """The keys, the dimension's own apart, in which trials differ; whether each value met the same of their values.

    Of strategies as wholes, only what differs between the trials of one of them counts.
    """
    if dimension.whole:
        within = sorted({key for trials in groups.values() for key in searched(trials)})
        return tuple(key.rsplit(".", 1)[-1] for key in within), not within
    keys = [key for key in searched([trial for trials in groups.values() for trial in trials])
            if not set(key.split(".")) & set(dimension.keys)]  # fmt: skip
    met = set()
    for trials in groups.values():
        met.add(frozenset(tuple(flat_config(trial).get(key) for key in keys) for trial in trials))
    return tuple(key.rsplit(".", 1)[-1] for key in keys), len(met) == 1 or not keys


def by_seed(trials: Sequence[Trial], value: Callable[[Trial], float | None]) -> Scores:
    """Seed -> the mean of what is known of the trials under it."""
    found: dict[int, list[float]] = defaultdict(list)
    for trial in trials:
        known = value(trial)
        if known is not None and np.isfinite(known):
            found[trial.seed].append(known)
    return {seed: float(np.mean(values)) for seed, values in found.items()}


def score(trial: Trial) -> float | None:
    """The score of its best student on the split that students are chosen on."""
    return trial.best_score


def gap(trial: Trial) -> float | None:
    """Train score minus that score."""
    return trial.gap
