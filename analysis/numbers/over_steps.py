"""Scores over training steps, a line a group of trials: what Figures 2, 6, 7, 9 to 16 share."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from analysis.drawing import captions, style
from analysis.errors import NoData
from analysis.numbers.figure_data import Dimension, Source, choose, made_by
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Trial
from analysis.wording import formatting as words

MOST_LINES = 10  # more values than that are no longer told apart as lines


class Curve(NamedTuple):
    """A score over the E evaluations that all n trials of a group share: mean, smallest and largest."""

    step: np.ndarray  # (E,) applied optimizer steps
    mean: np.ndarray  # (E,)
    low: np.ndarray  # (E,)
    high: np.ndarray  # (E,)
    n: int


class Group(NamedTuple):
    """The trials of one value of what a figure varies."""

    value: Any
    n: int
    train: Curve
    selected: Curve  # on the split that students are chosen on: "dev" or "holdout"
    mean: float  # of the trials' best scores
    low: float
    high: float


class Ends(NamedTuple):
    """Where the stages end, in steps; None where the trials of a figure do not agree."""

    t1: int | None
    t2: int | None
    t3: int


def curve(tables: Tables, trials: Sequence[Trial], split: str | None, metric: str | None = None) -> Curve:
    """The curve of `trials`; `split` None is the selection split, `metric` None the task's. Empty if none is shared."""
    found = [
        tables.evaluations.of(trial.trial_id, split or trial.selection, metric or trial.metric) for trial in trials
    ]
    found = [(step, value) for step, value in found if len(step)]
    if not found:
        return Curve(np.empty(0), np.empty(0), np.empty(0), np.empty(0), 0)
    shared = found[0][0]
    for step, _ in found[1:]:
        shared = np.intersect1d(shared, step)
    values = np.array([value[np.searchsorted(step, shared)] for step, value in found])
    return Curve(shared, values.mean(axis=0), values.min(axis=0), values.max(axis=0), len(found))


def groups_of(source: Source) -> tuple[Group, ...]:
    """A group for each value of the source."""
    made = []
    for value, trials in source.groups.items():
        scores = np.array([trial.best_score for trial in trials], dtype=float)
        train, selected = curve(source.tables, trials, "train"), curve(source.tables, trials, None)
        made.append(Group(value, len(trials), train, selected, scores.mean(), scores.min(), scores.max()))
    return tuple(made)


def ends_of(trials: Sequence[Trial]) -> Ends:
    """The ends of the stages where all trials agree."""

    def common(values: set[int | None]) -> int | None:
        return values.pop() if len(values) == 1 else None

    return Ends(
        common({trial.t1 for trial in trials}),
        common({trial.t2 for trial in trials}),
        max((trial.t3 or 0 for trial in trials), default=0) or 1,
    )


def draw_curve(axes: Axes, shown: Curve, band: bool = True, **how: Any) -> None:
    """The mean as a line, and from the smallest to the largest as a band where there are several trials."""
    if not len(shown.step):
        return
    axes.plot(shown.step, shown.mean, **{"markersize": 3.0, **how})
    if band and shown.n > 1:
        axes.fill_between(shown.step, shown.low, shown.high, color=how["color"], alpha=0.15, linewidth=0)


def finish(axes: Axes, ends: Ends, label: str, named: bool = True) -> None:
    """The stages' ends and the axes' labels."""
    style.mark_stages(axes, ends.t1, ends.t2, ends.t3, named=named)
    axes.set_xlabel("Step t (applied optimizer steps)")
    axes.set_ylabel(words.capital(label))


def drawn(groups: Sequence[Group]) -> str:
    """What lines and bands are, for a caption, with how many trials each is over."""
    return f"Lines: means over seeds; bands: smallest to largest; {words.counts(group.n for group in groups)}."


class OverTime(NamedTuple):
    """The groups of a figure with the stages' ends and the dense teachers' dev scores."""

    data: captions.Origin
    groups: tuple[Group, ...]
    ends: Ends
    teachers: tuple[float, ...]


class Look(NamedTuple):
    """How a group's line is drawn and named."""

    label: str
    colour: str
    marker: str
    line: str = "-"


def compute(sweeps: Sequence[Tables], name: str, dimension: Dimension) -> OverTime:
    """The groups of sweep `name` by `dimension`. Raises NoData with fewer than two values or without evaluations."""
    return of_source(choose(sweeps, name, dimension), name)


def of_source(source: Source, name: str) -> OverTime:
    """The same of a source already chosen."""
    trials = source.trials
    if len(source.groups) > MOST_LINES:
        raise NoData(f"sweep {source.tables.name} is no grid: {len(source.groups)} values; {made_by(name)}")
    groups = groups_of(source)
    if not any(len(group.selected.step) for group in groups):
        raise NoData(f"sweep {source.tables.name} has no recorded evaluation that the trials of a value share")
    teachers = sorted({trial.teacher_score for trial in trials if trial.teacher_score is not None})
    return OverTime(captions.origin(source, name), groups, ends_of(trials), tuple(teachers))


def ramp_looks(groups: Sequence[Group], symbol: str) -> list[Look]:
    """Ascending values from dark to light, each with its own marker."""
    colours = style.ramp(len(groups))
    return [
        Look(f"{symbol} = {words.short(group.value)}", colours[number], style.MARKERS[number % len(style.MARKERS)])
        for number, group in enumerate(groups)
    ]


def draw(numbers: OverTime, axes: Axes, looks: Sequence[Look]) -> None:
    """A line a group with its band, the teacher's score, the ends of the stages."""
    for group, look in zip(numbers.groups, looks, strict=True):
        draw_curve(
            axes, group.selected, color=look.colour, marker=look.marker, linestyle=look.line,
            label=f"{look.label} (n = {group.n})",
        )  # fmt: skip
    for score in numbers.teachers[:3]:
        style.mark_teacher(axes, score, f"dense teacher, {score:.3f}")
    setting = numbers.data.setting
    finish(axes, numbers.ends, f"{words.split_name(setting)} {words.metric_label(setting.metrics)}")


def best_scores(numbers: OverTime, looks: Sequence[Look]) -> str:
    """The mean best score of each group with its range and n, as a sentence."""
    texts = (
        f"{look.label}: {group.mean:.3f} ({group.low:.3f} to {group.high:.3f}, n = {group.n})"
        for group, look in zip(numbers.groups, looks, strict=True)
    )
    return f"Best scores at the target sparsity, mean and range: {'; '.join(texts)}."
