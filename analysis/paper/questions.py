"""What a claim asks of the data: which groups' means it compares, by which contrasts."""

from collections.abc import Callable
from typing import Any, NamedTuple

from analysis.numbers.contrasts import (
    descents,
    difference,
    first_above_others,
    others_above_first,
    rise_and_stall,
    slope_over,
)
from analysis.numbers.figure_data import FigureData, best_score, final_gap, final_score, gap, mean_by_seed
from analysis.numbers.statistics import Contrasts, SeedScores
from analysis.wording.formatting import format_value, join, join_shortened

ScoresByValue = dict[Any, SeedScores]  # value -> seed -> score


class Unanswerable(Exception):
    """The data lack what the claim is about; the message says what they have."""


class Question(NamedTuple):
    """The configurations that a claim compares, and the contrasts of their means."""

    groups: list[SeedScores]
    contrasts: Contrasts
    values: tuple[Any, ...] = ()  # of the groups, the claimed one first, where the claim is of the best of a grid


def final_scores(data: FigureData) -> ScoresByValue:
    """Scores at the end of Stage III by value and seed."""
    return {value: mean_by_seed(trials, final_score) for value, trials in data.groups.items()}


def best_scores(data: FigureData) -> ScoresByValue:
    """Scores of the best evaluations by value and seed."""
    return {value: mean_by_seed(trials, best_score) for value, trials in data.groups.items()}


def final_gaps(data: FigureData) -> ScoresByValue:
    """Gaps at the end of Stage III by value and seed."""
    return {value: mean_by_seed(trials, final_gap(data.sweep)) for value, trials in data.groups.items()}


def best_gaps(data: FigureData) -> ScoresByValue:
    """Gaps of the best evaluations by value and seed."""
    return {value: mean_by_seed(trials, gap) for value, trials in data.groups.items()}


def _pick(groups: ScoresByValue, *values: Any) -> list[SeedScores]:
    """The groups of these values, in this order. Raises Unanswerable where one is missing."""
    missing = [value for value in values if not groups.get(value)]
    if missing:
        have = join_shortened(format_value(value) for value, group in groups.items() if group)
        raise Unanswerable(f"the data have no {join(map(format_value, missing))}, only {have or 'nothing'}")
    return [groups[value] for value in values]


def is_best(value: Any) -> Callable[[ScoresByValue], Question]:
    """The claim that `value` is the best of the grid."""

    def ask(groups: ScoresByValue) -> Question:
        (claimed,) = _pick(groups, value)
        others = {other: group for other, group in groups.items() if other != value and group}
        if not others:
            raise Unanswerable(f"the grid has nothing beside {format_value(value)}")
        return Question([claimed, *others.values()], first_above_others, (value, *others))

    return ask


def is_above(better: Any, worse: Any) -> Callable[[ScoresByValue], Question]:
    """The claim that one value's mean is above another's."""
    return lambda groups: Question(_pick(groups, better, worse), difference)


def descends(*values: Any) -> Callable[[ScoresByValue], Question]:
    """The claim that the means fall from each value to the next."""
    return lambda groups: Question(_pick(groups, *values), descents)


def rises(groups: ScoresByValue) -> Question:
    """The claim that the means rise with the value."""
    known = {value: group for value, group in groups.items() if group}
    if len(known) < 2:
        raise Unanswerable("fewer than two values have the numbers that the claim is about")
    return Question(list(known.values()), slope_over(list(known)))


def progressive_beats_non_progressive(groups: ScoresByValue) -> Question:
    """The claim that each p0 below 1 is above p0 = 1."""
    (non_progressive,) = _pick(groups, 1.0)
    others = [group for value, group in groups.items() if 0 < value < 1 and group]
    if not others:
        raise Unanswerable("the grid has no p₀ between 0 and 1")
    return Question([non_progressive, *others], others_above_first)


def train_rises_dev_stalls(margin: float) -> Callable[[ScoresByValue], Question]:
    """The claim that "train" rises, while "dev" rises and falls by less than `margin` (two one-sided tests).

    That dev's rise differs from 0 by nothing that is seen would be no evidence that it stalls.
    """
    return lambda groups: Question(_pick(groups, "train", "dev"), rise_and_stall(margin))
