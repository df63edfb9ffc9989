"""From an estimate to a verdict, one claim alone and all of a report's claims together."""

from collections.abc import Sequence
from typing import NamedTuple

from analysis.numbers.figure_data import FigureData
from analysis.numbers.power import POWER, describe_power
from analysis.numbers.statistics import FEWEST_SEEDS, LEVEL, Estimate, bootstrap, holm
from analysis.numbers.with_the_best import compare_with_the_best
from analysis.paper.questions import Question
from analysis.reading.trials import flat_config, setting_of
from analysis.wording.formatting import format_signed, format_value, join, join_shortened, pluralize

REPRODUCED, CONTRADICTED, UNDECIDED, NO_DATA = "reproduced", "contradicted", "undecided", "no data"
SCHEDULES = "4"  # the figure whose claim rests on no sample
NOTE = (
    "Each estimate is above 0 where the claim is true. Interval: 95%, bootstrap over seeds or Student's t, whichever "
    "is wider. Reproduced: the whole interval is above 0. Contradicted: all of it is below. Undecided: neither, or "
    f"fewer than {FEWEST_SEEDS} seeds; then it is said which difference these seeds find with {POWER:.0%} power, and "
    "how many seeds in all a difference that would matter takes (planned with the upper 80% limit of the spread, and "
    "corrected for the number of contrasts). Each verdict errs with at most 5% on its own, so that of ten up to 40% of "
    "reports would hold a false one: for every verdict it is said whether it stands at a family-wise 5% (Holm). "
    "The seeds of a sweep share one teacher, one pretrained encoder and one dev set: every interval is conditional on "
    "these, and says nothing of another teacher or of other examples. Scores and gaps are those of the student at the "
    "end of Stage III, which Algorithm 1 returns; what the best dev evaluation gives, which is chosen on the split it "
    "is scored on, stands in the remarks. Tasks named mini_ are the synthetic miniature's: what holds there is not "
    "thereby shown for BERT on GLUE."
)


class Result(NamedTuple):
    """A claim's row: the data, the estimate, the verdict."""

    figure: str
    says: str
    data: str
    meaning: str
    estimate: Estimate | None
    verdict: str  # one of the four
    detail: str  # what the study can find, whether the verdict stands family-wise, or why there is none
    note: str


def describe_data(data: FigureData) -> str:
    """The sweep, its task, how many trials, seeds and teachers."""
    setting = setting_of(data.trials)
    left = sum(n for _, n in data.exclusions)
    teachers = len({flat_config(trial).get("teacher.seed") for trial in data.trials})
    parts = [
        f"{data.sweep.name}: {join(setting.tasks)}",
        pluralize(len(data.trials), "trial"),
        pluralize(len(setting.seeds), "seed"),
        *([f"{teachers} teachers"] if teachers > 1 else []),
        *([f"{left} left out"] if left else []),
    ]
    return ", ".join(parts)


def judge(estimate: Estimate, stated: float) -> tuple[str, str]:
    """The verdict and, where it is undecided, what this study finds and what the difference `stated` takes."""
    if estimate.n >= FEWEST_SEEDS and estimate.low > 0:
        return REPRODUCED, ""
    if estimate.n >= FEWEST_SEEDS and estimate.high < 0:
        return CONTRADICTED, ""
    return UNDECIDED, describe_power(estimate, stated)


def correct_for_number(results: Sequence[Result]) -> list[Result]:
    """The results, each verdict with whether it stands at a family-wise 5% among all that were estimated (Holm)."""
    estimated = [index for index, result in enumerate(results) if _is_sampled(result)]
    adjusted = dict(zip(estimated, holm([_p(results[index]) for index in estimated]), strict=True))
    corrected = []
    for index, result in enumerate(results):
        if index in adjusted and result.verdict in (REPRODUCED, CONTRADICTED):
            stands = "stands" if adjusted[index] <= 1 - LEVEL else "does not stand"
            result = result._replace(detail=f"{stands} at a family-wise 5% (Holm over {len(estimated)} claims)")
        corrected.append(result)
    return corrected


def _is_sampled(result: Result) -> bool:
    """Whether the verdict rests on seeds that vary."""
    return result.estimate is not None and result.estimate.n >= FEWEST_SEEDS and result.figure != SCHEDULES


def _p(result: Result) -> float:
    return 1.0 if result.estimate is None else result.estimate.p


def describe_second_look(what: str, question: Question) -> str:
    """The same question asked of other numbers, as a remark."""
    estimate = bootstrap(question.groups, question.contrasts)
    verdict = judge(estimate, 0.0)[0]
    if estimate.n < FEWEST_SEEDS:
        return f"{what}: {format_signed(estimate.value)}."
    ends = f"{format_signed(estimate.low)} to {format_signed(estimate.high)}"
    return f"{what}: {format_signed(estimate.value)} ({ends}), {verdict}."


def describe_best(question: Question) -> str:
    """Which values could be the best of a grid, and how far below the best the claimed one, the first, may lie."""
    standings = compare_with_the_best(question.groups) if question.values else None
    if standings is None:
        return ""
    ranked = zip(question.values, standings, strict=True)
    could_be = [value for value, standing in sorted(ranked, key=lambda pair: pair[0]) if standing.may_be_best]
    return (
        f"Could be the best, all values taken together at 95% (Hsu): {join_shortened(map(format_value, could_be))}; "
        f"{format_value(question.values[0])} is at most {-standings[0].low:.3f} below the best other."
    )
