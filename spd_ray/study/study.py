"""The Optuna study that searches a space.

A draw is a function of the study's history alone: trial `n` is the n-th first point (warm starts, grid), or it is
drawn by a sampler seeded with (study seed, n, attempt) until it is possible and was not run before. So a resumed sweep
draws what an undisturbed one would have drawn, and since a trial enters the storage whole, in one write, no kill can
leave half of one.

Why so: docs/decisions.md #impossible-points, #asking-depends-on-history-alone, #tpe-sees-500-trials,
#rivals-have-one-target-sparsity.
"""

import bisect
import copy
import hashlib
import itertools
import logging
import warnings
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from random import Random

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from spd_ray.base.errors import UserError
from spd_ray.base.files import cut_torn_line
from spd_ray.config.dimensions import Choices, Range, Value, tidy
from spd_ray.config.sweep import SweepSpec
from spd_ray.data.tasks import metric_of
from spd_ray.study.sparsity import FEW, has_levels, level_of, rank_in_levels

STARTUP_TRIALS = 4  # TPE draws at random until so many are told; Optuna's 10 would be all of a small sweep
REDRAWS = 50
SHOWN = 500  # trials that TPE is shown at most: what a draw costs grows with them
BEST = 25  # trials that TPE takes for good ones at most
RANDOM_REDRAWS = 10_000  # at random, after the sampler's own attempts, where the points cannot be counted

_JOURNAL_ERRORS = (OSError, ValueError, KeyError, optuna.exceptions.OptunaError)  # also: it holds something else

logging.getLogger("optuna").setLevel(logging.WARNING)


def create_study(spec: SweepSpec, journal: Path) -> optuna.Study:
    """Create or reopen the study of `spec` in the file `journal`.

    The study is called after the sweep and the hash of its space: a changed space is another study.
    Raises UserError if the file cannot be opened.
    """
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        cut_torn_line(journal)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            sampler=optuna.samplers.RandomSampler(),
            study_name=f"{spec.name}-{spec.space_hash()}",
            direction="maximize",
            load_if_exists=True,
        )
        if study.metric_names is None:
            with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                study.set_metric_names([f"best {spec.task.selection} {metric_of(spec.task)}"])
        return study
    except _JOURNAL_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{journal}: cannot be opened as an Optuna journal: {reason[:200]}") from None


class Draws:
    """The draws of one study, at a cost that does not grow with it: what they need is kept as the study grows.

    TPE is shown at most `SHOWN` trials: the best, of those that run the newest half at most, and of the other ended
    ones a sample, by a hash of their numbers. It judges a point by how dense the good trials lie there and how dense
    the others do: a sample leaves the second as it is, where the newest or the next best would crowd around the first.
    Which trials are shown depends on the study's trials alone, not on when they were looked at.

    Where trials may have different target sparsities, a score is shown as its rank among those of its own level, else a
    search for it would end at the least sparse. If a few values of it are searched, they take turns.
    """

    def __init__(self, study: optuna.Study, spec: SweepSpec) -> None:
        self.study = study
        self.spec = spec
        self.first_points = spec.first_points()
        self.distributions = {
            name: _distribution(one, spec.is_integer(name)) for name, one in spec.dimensions().items()
        }
        self.count = 0  # trials of the study
        self._points: set[tuple[tuple[str, Value], ...]] = set()  # that were run, or are
        self._running: list[int] = []  # numbers, ascending
        self._best: dict[float, list[tuple[float, int]]] = {}  # a level's completed: (-value, number), ascending
        self._levels: dict[int, float] = {}  # number -> level, of the completed, where trials have different ones
        self._turns = spec.search.get("target_sparsity") if spec.study.sampler == "tpe" else None
        self._drawn: Counter[Value] = Counter()  # target sparsity -> how many trials have it
        self._sample: list[tuple[bytes, int]] = []  # of the completed and pruned: (hash, number), ascending
        self._look()

    def ask(self) -> tuple[int, dict[str, Value]] | None:
        """Start the next trial: its number in the study and its point (dimension -> value), RUNNING in the storage.

        None: the space is used up.
        """
        shown, number = self._look(), self.count
        point = self.first_points[number] if number < len(self.first_points) else self._draw(shown, number)
        if point is None:
            return None
        self.study.add_trial(
            optuna.trial.create_trial(state=TrialState.RUNNING, params=point, distributions=self.distributions)
        )
        self._take_up(point)
        self._running.append(number)
        self.count += 1
        return number, point

    def _draw(self, shown: Sequence[optuna.trial.FrozenTrial], number: int) -> dict[str, Value] | None:
        """A point that is possible and new: the sampler's, else one of all that are left, else one found at random."""
        history, turn = list(shown), self._turn()
        for attempt in range(REDRAWS):
            point = draw_once(self.spec, self.distributions, history, number, attempt) | turn
            if self._is_new(point):
                return point
            if len(shown) >= STARTUP_TRIALS:  # for the rest of this draw TPE takes it for a bad one
                history.append(refused_trial(point, self.distributions, number + 1 + attempt))
        random = Random(f"{self.spec.study.seed}-{number}")
        if self.spec.is_countable():
            left = [point for point in self.spec.grid() if _key(point) not in self._points]
            return random.choice(left) if left else None
        points = (self.spec.random_point(random) for _ in range(RANDOM_REDRAWS))
        return next((point for point in points if self._is_new(point)), None)

    def _turn(self) -> dict[str, Value]:
        """The target sparsity that is due, where a few of them are searched: the one with the fewest trials so far."""
        if not isinstance(self._turns, Choices) or len(self._turns.choices) > FEW:
            return {}
        return {"target_sparsity": min(self._turns.choices, key=self._drawn.__getitem__)}

    def _take_up(self, point: dict[str, Value]) -> None:
        self._points.add(_key(point))
        if "target_sparsity" in point:
            self._drawn[point["target_sparsity"]] += 1

    def _is_new(self, point: dict[str, Value]) -> bool:
        return _key(point) not in self._points and self.spec.is_possible(point)

    def _look(self) -> list[optuna.trial.FrozenTrial]:
        """Take up what has happened in the study, and return the trials to show, by number."""
        trials = self.study.get_trials(deepcopy=False)
        for trial in trials[self.count :]:
            self._take_up(trial.params)
        running = []
        for number in [*self._running, *range(self.count, len(trials))]:
            trial = trials[number]
            if not trial.state.is_finished():
                running.append(number)
            elif trial.state != TrialState.FAIL:
                bisect.insort(self._sample, (hashlib.sha256(b"%d" % number).digest(), number))
                del self._sample[SHOWN:]
                if trial.state == TrialState.COMPLETE:
                    best = self._best.setdefault(self._find_level(trial), [])
                    bisect.insort(best, (-(trial.value or 0.0), number))
                    del best[BEST:]
        self._running, self.count = running, len(trials)
        if len(trials) > SHOWN:
            each = BEST // len(self._best) or 1 if self._best else 0
            shown = {number for best in self._best.values() for _, number in best[:each]} | set(running[-SHOWN // 2 :])
            others = (number for _, number in self._sample if number not in shown)
            trials = [trials[number] for number in sorted({*shown, *itertools.islice(others, SHOWN - len(shown))})]
        trials = [_without_course(trial) for trial in trials]
        return self._with_ranks(trials) if self._levels else trials

    def _find_level(self, trial: optuna.trial.FrozenTrial) -> float:
        """Of sparsity, the level of a completed trial; 0 for all where there are no different ones."""
        if not has_levels(self.spec):
            return 0.0
        method = self.spec.trial_config(trial.params, seed=0).method
        level = self._levels[trial.number] = level_of(method.final_sparsity, self.spec)
        return level

    def _with_ranks(self, trials: Sequence[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
        """The same trials, a completed one with its rank among its level's in the place of its score."""
        completed = [trial for trial in trials if trial.number in self._levels]
        ranks = rank_in_levels([(self._levels[trial.number], trial.value or 0.0) for trial in completed])
        ranked = dict(zip((trial.number for trial in completed), ranks, strict=True))
        return [_with_value(trial, ranked[trial.number]) if trial.number in ranked else trial for trial in trials]


class _Shown(optuna.storages.InMemoryStorage):
    """A storage for one draw, the trial `number`, that shows `history`: its trials are shared and never written to."""

    def __init__(self, history: Sequence[optuna.trial.FrozenTrial], number: int) -> None:
        super().__init__()
        self._history = history
        self._number = number

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[optuna.trial.FrozenTrial]:
        own = [self._numbered(trial) for trial in super().get_all_trials(study_id, deepcopy, states)]
        return [trial for trial in self._history if states is None or trial.state in states] + own

    def get_trial(self, trial_id: int) -> optuna.trial.FrozenTrial:
        return self._numbered(super().get_trial(trial_id))

    def _numbered(self, trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
        trial = copy.copy(trial)
        trial.number = self._number
        return trial


def _without_course(trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
    """A stopped trial without what it scored on its way, by which TPE would compare trials at other steps."""
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        trial = copy.copy(trial)
        trial.intermediate_values = {}
    return trial


def _with_value(trial: optuna.trial.FrozenTrial, value: float) -> optuna.trial.FrozenTrial:
    trial = copy.copy(trial)
    trial.value = value
    return trial


def refused_trial(
    point: dict[str, Value], distributions: dict[str, BaseDistribution], number: int
) -> optuna.trial.FrozenTrial:
    """A trial at a point that may not be run, as one that was pruned before its first score."""
    trial = optuna.trial.create_trial(state=TrialState.PRUNED, params=point, distributions=distributions)
    trial.number = number
    return trial


def draw_once(
    spec: SweepSpec,
    distributions: dict[str, BaseDistribution],
    history: Sequence[optuna.trial.FrozenTrial],
    number: int,
    attempt: int,
) -> dict[str, Value]:
    """What the sampler draws from `history` for the trial `number`, in a scratch study: perhaps no possible point."""
    storage, sampler = _Shown(history, number), _sampler(spec, number, attempt)
    scratch = optuna.create_study(storage=storage, direction="maximize", sampler=sampler)
    drawn = scratch.ask(fixed_distributions=distributions).params
    return {name: tidy(value) if isinstance(value, float) else value for name, value in drawn.items()}


def _distribution(dimension: Range | Choices, integer: bool) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.choices)
    if integer:
        return IntDistribution(int(dimension.low), int(dimension.high), dimension.log, int(dimension.step or 1))
    low, high = tidy(float(dimension.low)), tidy(float(dimension.high))
    return FloatDistribution(low, high, dimension.log, dimension.step)


def _key(point: dict[str, Value]) -> tuple[tuple[str, Value], ...]:
    return tuple(sorted(point.items()))


def _sampler(spec: SweepSpec, number: int, attempt: int) -> optuna.samplers.BaseSampler:
    seed = int(np.random.SeedSequence([spec.study.seed, number, attempt]).generate_state(1)[0])
    if spec.study.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed, multivariate=True, constant_liar=True)
