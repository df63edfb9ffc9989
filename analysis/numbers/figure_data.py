"""Which sweep a figure is drawn from, and which of its trials share a value of what the figure varies."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis.errors import AnalysisError, NoData
from analysis.numbers.dimensions import Dimension, is_spd
from analysis.numbers.statistics import SeedScores
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import (
    Exclusions,
    Setting,
    Trial,
    count_exclusions,
    flat_config,
    setting_of,
    short_key,
    status_counts,
    varying_keys,
)
from analysis.wording.formatting import format_value

SPACES = "search_spaces/paper"

Groups = dict[Any, tuple[Trial, ...]]  # value -> trials, by ascending value


class Origin(NamedTuple):
    """Which data a figure shows, in names and numbers: what its caption says about them."""

    sweep: str
    own: bool  # whether the sweep was made for the figure
    space: str  # the search space that makes the figure's own data
    also: tuple[str, ...]  # other sweeps that could have been taken
    setting: Setting
    exclusions: Exclusions
    also_varying: tuple[str, ...]  # keys of the configuration in which the trials differ, the figure's own excepted
    balanced: bool  # whether every value was run with the same values of those keys
    sampler: str | None


class FigureData(NamedTuple):
    """The sweep that a figure is drawn from, its comparable trials by value, and what was excluded."""

    sweep: Sweep
    own: bool
    also: tuple[str, ...]
    groups: Groups
    exclusions: Exclusions
    also_varying: tuple[str, ...]
    balanced: bool

    @property
    def trials(self) -> list[Trial]:
        """All trials of the groups."""
        return [trial for group in self.groups.values() for trial in group]

    def origin(self, space: str) -> Origin:
        """The origin of a figure drawn from these data, whose own search space is `space`."""
        return Origin(
            self.sweep.name, self.own, space, self.also, setting_of(self.trials), self.exclusions, self.also_varying,
            self.balanced, self.sweep.description.sampler,
        )  # fmt: skip


def take_whole(sweep: Sweep, groups: Groups) -> FigureData:
    """Groups of a sweep's comparable trials as they are, for a figure that does not compare their values."""
    return FigureData(sweep, True, (), groups, count_exclusions(sweep.trials), (), True)


def select_sweeps(sweeps: Sequence[Sweep], name: str) -> list[Sweep]:
    """The sweeps called `name`, or `name` with a suffix such as `name`_cola or `name`-cola."""
    return [sweep for sweep in sweeps if sweep.name == name or sweep.name.startswith((f"{name}_", f"{name}-"))]


def require_sweeps(sweeps: Sequence[Sweep], name: str) -> list[Sweep]:
    """The same. Raises NoData where there is none."""
    own = select_sweeps(sweeps, name)
    if not own:
        raise NoData(f"there is no sweep {name}; {space_hint(name)}")
    return own


def space_hint(name: str) -> str:
    """Which file makes the data of a figure."""
    return f"{SPACES}/{name}.yaml makes the data"


def nothing_finished(name: str, trials: Sequence[Trial]) -> NoData:
    """The reason where the sweep `name` has `trials` but none that can be compared."""
    return NoData(f"in sweep {name} {_none_comparable(trials)}")


def _none_comparable(trials: Sequence[Trial]) -> str:
    finished = sum(trial.status == "finished" for trial in trials)
    if finished:
        return f"no trial has a student at its target sparsity ({status_counts(trials)})"
    return f"no trial for it has finished yet ({status_counts(trials)})"


def choose_trial(sweeps: Sequence[Sweep], trial_id: str | None) -> tuple[Sweep, Trial]:
    """The one trial that Figure 4 and the curves show: `trial_id` ("ID" or "SWEEP/ID"), by default a best one.

    That is the best eligible trial at the highest target sparsity of the first sweep that has one, fig08 before others,
    trials with three stages before others. Raises NoData where no trial has ended, AnalysisError where `trial_id` is
    not known.
    """
    if trial_id is not None:
        sweep_name, _, last = trial_id.rpartition("/")
        named = [sweep for sweep in sweeps if sweep_name in ("", sweep.name)]
        if not named:
            raise AnalysisError(f"no sweep {sweep_name!r}; there are {', '.join(sweep.name for sweep in sweeps)}")
        having = [sweep for sweep in named if any(trial.trial_id == last for trial in sweep.trials)]
        sweep = (having or named)[0]
        return sweep, sweep.trial(last)
    ordered = sorted(sweeps, key=lambda sweep: (sweep.name != "fig08", sweep.name))
    for staged in (True, False):
        for sweep in ordered:
            trials = [t for t in sweep.trials if t.eligible and (t.grafting == "three_stage" or not staged)]
            if trials:
                trials.sort(key=lambda t: t.trial_id)
                return sweep, max(trials, key=lambda t: (t.target_sparsity, t.best_score or 0.0))
    every = [trial for sweep in sweeps for trial in sweep.trials]
    raise NoData(f"no trial has ended with a student at its target sparsity yet ({status_counts(every)})")


def choose_data(sweeps: Sequence[Sweep], name: str, dimension: Dimension,
                keep: Callable[[Trial], bool] = is_spd) -> FigureData:  # fmt: skip
    """The sweep `name`, else the one with the most trials in which `dimension` varies, grouped by its values.

    Only comparable trials that satisfy `keep` are grouped. Raises NoData where no sweep has two values.
    """
    own = select_sweeps(sweeps, name)
    candidates = own or list(sweeps)
    grouped = [(sweep, group_by(filter(keep, sweep.comparable), dimension.of)) for sweep in candidates]
    usable = [(sweep, groups) for sweep, groups in grouped if len(groups) > 1]
    if own:  # the figure's own sweep, then those of other tasks or settings, by name
        usable = usable[:1]
    else:
        usable.sort(key=lambda pair: (-sum(map(len, pair[1].values())), pair[0].name))
    if not usable:
        raise _explain_no_data(bool(own), grouped, name, dimension, keep)
    sweep, groups = usable[0]
    also_varying, balanced = _other_dimensions(groups, dimension)
    return FigureData(
        sweep, bool(own), tuple(other.name for other, _ in usable[1:]), groups,
        count_exclusions([trial for trial in sweep.trials if keep(trial)]), also_varying, balanced,
    )  # fmt: skip


def _explain_no_data(own: bool, grouped: list[tuple[Sweep, Groups]], name: str, dimension: Dimension,
                     keep: Callable[[Trial], bool]) -> NoData:  # fmt: skip
    if own:
        grouped = grouped[:1]
    if len(grouped) != 1:
        return NoData(f"there is no sweep {name}, and {dimension.name} varies in no other sweep; {space_hint(name)}")
    sweep, groups = grouped[0]
    if not groups:
        mine = [trial for trial in sweep.trials if keep(trial)]
        reason = _none_comparable(mine) if mine else "no trial is of the kind that it shows"
        hint = "" if own else f"; {space_hint(name)}"
        return NoData(f"in sweep {sweep.name} {reason}{hint}")
    ((value, trials),) = groups.items()
    return NoData(
        f"in sweep {sweep.name} {dimension.name} has only one value among the finished trials, "
        f"{format_value(value)} (n = {len(trials)}); {space_hint(name)}"
    )


def group_by(trials: Iterable[Trial], of: Callable[[Trial], Any]) -> Groups:
    """Trials by value, ascending."""
    groups: dict[Any, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[of(trial)].append(trial)
    return {value: tuple(groups[value]) for value in sorted(groups)}


def keys_besides(trials: Sequence[Trial], own: Iterable[str]) -> list[str]:
    """The keys of the configuration, those of the dimensions `own` excepted, in which `trials` differ."""
    return [key for key in varying_keys(trials) if not set(key.split(".")) & set(own)]


def _other_dimensions(groups: Groups, dimension: Dimension) -> tuple[tuple[str, ...], bool]:
    """The keys, the dimension's own excepted, in which trials differ; whether every value met the same of their values.

    Between whole strategies nothing else compares: there, only what differs within one of them counts.
    """
    if dimension.whole:
        within = sorted({key for trials in groups.values() for key in varying_keys(trials)})
        return tuple(map(short_key, within)), not within
    keys = keys_besides([trial for trials in groups.values() for trial in trials], dimension.keys)
    met = {
        frozenset(tuple(flat_config(trial).get(key) for key in keys) for trial in trials) for trials in groups.values()
    }
    return tuple(map(short_key, keys)), len(met) == 1


def mean_by_seed(trials: Sequence[Trial], value: Callable[[Trial], float | None]) -> SeedScores:
    """Seed -> the mean of `value` over the trials under it that have one."""
    found: dict[int, list[float]] = defaultdict(list)
    for trial in trials:
        known = value(trial)
        if known is not None and np.isfinite(known):
            found[trial.seed].append(known)
    return {seed: float(np.mean(values)) for seed, values in found.items()}


def best_score(trial: Trial) -> float | None:
    """The score of the trial's best student on the split on which students are chosen."""
    return trial.best_score


def gap(trial: Trial) -> float | None:
    """The best student's train score minus that score."""
    return trial.gap


def final_score(trial: Trial) -> float | None:
    """The score at the end of Stage III, of the student that Algorithm 1 returns, on the same split."""
    return trial.final_score


def dev_score(trial: Trial) -> float | None:
    """The retained student's score on dev, where a holdout has chosen it."""
    return trial.dev_score


def is_dev_unseen(trials: Sequence[Trial]) -> bool:
    """Whether a holdout has chosen these trials' students and all of them were scored on dev."""
    return all(trial.selection != "dev" and trial.dev_score is not None for trial in trials)


def final_gap(sweep: Sweep) -> Callable[[Trial], float | None]:
    """Train minus the selection split's score at the trial's last evaluation; None where a curve is missing."""

    def of(trial: Trial) -> float | None:
        last = []
        for split in ("train", trial.selection):
            steps, values = sweep.evaluations.of(trial.trial_id, split, trial.metric)
            if not len(steps) or (trial.t3 is not None and steps[-1] < trial.t3):
                return None
            last.append(float(values[-1]))
        return last[0] - last[1]

    return of


def best_configuration(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The trials of the configuration with the highest mean best score over seeds."""
    configurations = group_by(trials, lambda trial: trial.configuration)
    return max(configurations.values(), key=lambda seeds: np.mean([trial.best_score for trial in seeds]))
