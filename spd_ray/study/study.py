"""The Optuna study that searches a space.

A draw is a function of the study's history alone: trial `n` is the n-th first point (warm starts, grid), or
it is drawn by a sampler seeded with (study seed, n). So a resumed sweep draws what an undisturbed one would
have drawn, and since a trial enters the storage whole, in one write, no kill can leave half of one.
"""

import bisect
import copy
import hashlib
import itertools
import logging
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
import optuna
import sqlalchemy.exc
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from spd_ray.base.errors import UserError
from spd_ray.base.journal import cut_torn_line
from spd_ray.config.dimensions import Choices, Value, tidy
from spd_ray.config.sweep import SweepSpec

STARTUP_TRIALS = 4  # TPE draws at random until so many are told; Optuna's 10 would be all of a small sweep
REDRAWS = 20
SHOWN = 500  # trials that TPE is shown at most: what a draw costs grows with them
BEST = 25  # trials that TPE takes for good ones at most
VALUES = "values"  # the user attribute that holds a trial's point: dimension -> value

_STORAGE_ERRORS = (
    OSError,
    ValueError,  # a journal that holds something else
    KeyError,
    ImportError,  # of a database's driver
    sqlalchemy.exc.SQLAlchemyError,
    optuna.exceptions.OptunaError,
)

logging.getLogger("optuna").setLevel(logging.WARNING)
# A clipped range leaves TPE's joint space and is drawn on its own: as meant, so no warning at each draw.
logging.getLogger("optuna.samplers._tpe.sampler").setLevel(logging.ERROR)


def create_study(spec: SweepSpec, storage: Path | str) -> optuna.Study:
    """Create or reopen the study of `spec` in a journal file, or in a database if `storage` is a URL.

    The study is called after the sweep and the hash of its space: a changed space is another study.
    Raises UserError if the storage cannot be opened.
    """
    try:
        opened: optuna.storages.BaseStorage | str = str(storage)
        if "://" not in str(storage):
            opened = _open_journal(Path(storage))
        return optuna.create_study(
            storage=opened,
            sampler=optuna.samplers.RandomSampler(),
            study_name=f"{spec.name}-{spec.space_hash()}",
            direction="maximize",
            load_if_exists=True,
        )
    except _STORAGE_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{storage}: cannot be opened as an Optuna storage: {reason[:200]}") from None


class Draws:
    """The draws of one study, at a cost that does not grow with it: what they need is kept as the study grows.

    TPE is shown at most `SHOWN` trials: the best, of those that run the newest half at most, and of the other ended
    ones a sample, by a hash of their numbers. It judges a point by how dense the good trials lie there and how dense
    the others do: a sample leaves the second as it is, where the newest or the next best would crowd around the first.
    Which trials are shown depends on the study's trials alone, not on when they were looked at.
    """

    def __init__(self, study: optuna.Study, spec: SweepSpec) -> None:
        self.study = study
        self.spec = spec
        self.first_points = spec.first_points()
        self.count = 0  # trials of the study
        self._points: set[tuple[tuple[str, Value], ...]] = set()  # that were run, or are
        self._running: list[int] = []  # numbers, ascending
        self._best: list[tuple[float, int]] = []  # of the completed: (-value, number), ascending
        self._sample: list[tuple[bytes, int]] = []  # of the completed and pruned: (hash, number), ascending
        self._look()

    def ask(self) -> tuple[int, dict[str, Value]]:
        """Start the next trial: its number in the study and its point (dimension -> value).

        The trial is RUNNING in the storage; its params are what was drawn, its user attribute "values" is the
        point after clipping. A point that was run before is drawn again, up to twenty times, then accepted.
        """
        shown, number = self._look(), self.count
        if number < len(self.first_points):
            drawn = _draw(self.spec, [], number, 0, self.first_points[number])
        else:
            for attempt in range(REDRAWS):
                drawn = _draw(self.spec, shown, number, attempt, None)
                if _key(drawn) not in self._points:
                    break
        self.study.add_trial(drawn)
        self._points.add(_key(drawn))
        self._running.append(number)
        self.count += 1
        return number, drawn.user_attrs[VALUES]

    def _look(self) -> list[optuna.trial.FrozenTrial]:
        """Take up what has happened in the study, and return the trials to show, by number."""
        trials = self.study.get_trials(deepcopy=False)
        self._points.update(_key(trial) for trial in trials[self.count :])
        running = []
        for number in [*self._running, *range(self.count, len(trials))]:
            trial = trials[number]
            if not trial.state.is_finished():
                running.append(number)
            elif trial.state != TrialState.FAIL:
                bisect.insort(self._sample, (hashlib.sha256(b"%d" % number).digest(), number))
                del self._sample[SHOWN:]
                if trial.state == TrialState.COMPLETE:
                    bisect.insort(self._best, (-(trial.value or 0.0), number))
                    del self._best[BEST:]
        self._running, self.count = running, len(trials)
        if len(trials) <= SHOWN:
            return trials
        shown = {number for _, number in self._best} | set(running[-SHOWN // 2 :])
        others = (number for _, number in self._sample if number not in shown)
        return [trials[number] for number in sorted({*shown, *itertools.islice(others, SHOWN - len(shown))})]


def trial_values(trial: optuna.trial.FrozenTrial) -> dict[str, Value]:
    """The point of a trial that `Draws.ask` started, to go on with it after a restart."""
    return trial.user_attrs[VALUES]


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


def _draw(
    spec: SweepSpec,
    history: Sequence[optuna.trial.FrozenTrial],
    number: int,
    attempt: int,
    point: dict[str, Value] | None,
) -> optuna.trial.FrozenTrial:
    """The running trial `number`: at `point`, or as the sampler draws it from `history` (in a scratch study)."""
    storage, sampler = _Shown(history, number), _sampler(spec, number, attempt)
    scratch = optuna.create_study(storage=storage, direction="maximize", sampler=sampler)
    if point is not None:
        scratch.enqueue_trial(point)
    drawn = scratch.ask()
    values = _suggest(drawn, spec)
    return optuna.trial.create_trial(
        state=TrialState.RUNNING, params=drawn.params, distributions=drawn.distributions, user_attrs={VALUES: values}
    )


def _key(trial: optuna.trial.FrozenTrial) -> tuple[tuple[str, Value], ...]:
    return tuple(sorted(trial.user_attrs.get(VALUES, {}).items()))


def _suggest(trial: optuna.Trial, spec: SweepSpec) -> dict[str, Value]:
    """Draw every dimension in order, clipped by those before it (see `spd_ray.config.sweep`)."""
    values: dict[str, Value] = {}
    for name, dimension in spec.dimensions().items():
        end = spec.upper_end(name, values)
        if isinstance(dimension, Choices):
            choice = trial.suggest_categorical(name, list(dimension.choices))
            assert choice is not None
            values[name] = choice if end == float("inf") else min(choice, dimension.last(end))
        elif spec.is_integer(name):
            ends = int(dimension.low), int(dimension.high)
            values[name] = trial.suggest_int(name, *ends, log=dimension.log, step=int(dimension.step or 1))
        else:
            low, clipped, step = tidy(float(dimension.low)), dimension.last(end), dimension.step
            drawn = trial.suggest_float(name, low, clipped, log=dimension.log, step=step)
            values[name] = drawn if step is None else tidy(drawn)
    return values


def _sampler(spec: SweepSpec, number: int, attempt: int) -> optuna.samplers.BaseSampler:
    seed = int(np.random.SeedSequence([spec.study.seed, number, attempt]).generate_state(1)[0])
    if spec.study.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed, multivariate=True, constant_liar=True)


def _open_journal(path: Path) -> JournalStorage:
    path.parent.mkdir(parents=True, exist_ok=True)
    cut_torn_line(path)
    return JournalStorage(JournalFileBackend(str(path)))
