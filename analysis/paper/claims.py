"""The claims that the paper's figures make, each held against the trial data there are.

Every claim says that some contrasts of configurations' means over seeds are all above 0. The verdict looks at the 95%
interval of the least of them alone: all of it above 0, reproduced; all of it below, not reproduced; else undecided.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from analysis.errors import AnalysisError, NoData
from analysis.figures import fig06, fig07
from analysis.numbers.figure_data import (
    LR_SCHEDULE,
    METHOD,
    P0,
    PRUNING_END,
    SPARSITY,
    STAGE23_LR,
    Dimension,
    Source,
    by_seed,
    choose,
    gap,
    is_spd,
    made_by,
    score,
)
from analysis.numbers.statistics import (
    FEWEST_SEEDS,
    MOST_SEEDS,
    Contrasts,
    Estimate,
    Scores,
    bootstrap,
    descents,
    difference,
    first_above_others,
    others_above_first,
    seeds_needed,
    slope_over,
    themselves,
)
from analysis.paper import schedule_check
from analysis.paper.train_rise import late_rises
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Trial
from analysis.wording import formatting as words

REPRODUCED, REFUSED, UNDECIDED, NOTHING = "reproduced", "not reproduced", "undecided", "no data"

Groups = dict[Any, Scores]  # value -> seed -> score


class Question(NamedTuple):
    """The configurations that a claim compares, and the contrasts of their means."""

    groups: list[Scores]
    contrasts: Contrasts


class Claim(NamedTuple):
    """What the paper says, and how it is asked of trial data."""

    figure: str
    sweep: str  # the sweep, and its space, that makes the data
    says: str
    estimate: str  # what the estimate is; above 0 where the claim is true
    dimension: Dimension
    measure: Callable[[Source], Groups]
    ask: Callable[[Groups], Question]  # raises Unanswerable
    keep: Callable[[Trial], bool] = is_spd
    note: str = ""


class Result(NamedTuple):
    """A claim's row: the data, the estimate, the verdict."""

    figure: str
    says: str
    data: str
    meaning: str
    estimate: Estimate | None
    verdict: str  # one of the four
    detail: str  # how many more seeds, or why there is no verdict
    note: str


class Unanswerable(Exception):
    """The data do not hold what the claim is about; the message says what they hold."""


def scores(source: Source) -> Groups:
    """Best scores by value and seed."""
    return {value: by_seed(trials, score) for value, trials in source.groups.items()}


def gaps(source: Source) -> Groups:
    """Gaps of the best students by value and seed."""
    return {value: by_seed(trials, gap) for value, trials in source.groups.items()}


def _present(groups: Groups, *values: Any) -> list[Scores]:
    """The groups of these values, in this order."""
    missing = [value for value in values if not groups.get(value)]
    if missing:
        have = words.many(words.short(value) for value, group in groups.items() if group)
        raise Unanswerable(f"the data have no {words.listing(map(words.short, missing))}, only {have or 'nothing'}")
    return [groups[value] for value in values]


def best_is(value: Any) -> Callable[[Groups], Question]:
    """The claim that `value` is the best of the grid."""

    def ask(groups: Groups) -> Question:
        (claimed,) = _present(groups, value)
        others = [group for other, group in groups.items() if other != value and group]
        if not others:
            raise Unanswerable(f"the grid has nothing beside {words.short(value)}")
        return Question([claimed, *others], first_above_others)

    return ask


def above(better: Any, worse: Any) -> Callable[[Groups], Question]:
    """The claim that one value's mean is above another's."""
    return lambda groups: Question(_present(groups, better, worse), difference)


def descends(*values: Any) -> Callable[[Groups], Question]:
    """The claim that the means fall from each value to the next."""
    return lambda groups: Question(_present(groups, *values), descents)


def rises(groups: Groups) -> Question:
    """The claim that the means rise with the value."""
    known = {value: group for value, group in groups.items() if group}
    if len(known) < 2:
        raise Unanswerable("fewer than two values have the numbers that the claim is about")
    return Question(list(known.values()), slope_over(list(known)))


def progressive_beats_not(groups: Groups) -> Question:
    """The claim that each p0 below 1 is above p0 = 1."""
    (whole,) = _present(groups, 1.0)
    others = [group for value, group in groups.items() if 0 < value < 1 and group]
    if not others:
        raise Unanswerable("the grid has no p₀ between 0 and 1")
    return Question([whole, *others], others_above_first)


def train_goes_on(groups: Groups) -> Question:
    """The claim that train rises late, and by more than dev does; two groups a sparsity, see late_rises."""
    known = [group for group in groups.values() if group]
    if not known:
        raise Unanswerable("no train and dev scores over steps are recorded")
    return Question(known, themselves)


_SCORE = "mean best score"
CLAIMS = (
    Claim("2 (b)", "fig02", "pruning while fine-tuning, the train score keeps rising while the dev score stalls",
          "over the second half of training, the smaller of: train's rise, train's rise minus dev's", SPARSITY,
          late_rises, train_goes_on, lambda trial: trial.method == "finetune_prune" and trial.target_sparsity > 0),
    Claim("2 (c)", "fig02", "the train-dev gap widens with the pruning rate", "slope of the gap a unit of sparsity",
          SPARSITY, gaps, rises, lambda trial: trial.method == "finetune_prune"),
    Claim("6", "fig06", "the train-dev gap shrinks from (a) neither over (b) progressive and (c) KD to (d) both",
          "smallest fall of the mean gap from one to the next", METHOD, gaps, descends(*fig06.ORDER),
          lambda trial: trial.method in fig06.ORDER),
    Claim("6", "fig06", "KD matters more than progressive grafting",
          "mean gap of (b) progressive alone minus that of (c) KD alone", METHOD, gaps,
          above("progressive_only", "kd_only"), lambda trial: trial.method in fig06.ORDER,
          ),
    Claim("7", "fig07", "Stage I with p₀ > 0 beats Stage I with p = 0", f"{_SCORE} with p₀ > 0 minus with p₀ = 0",
          fig07.GRAFTS, scores, above(True, False)),
    Claim("8", "fig08", "p₀ = 0.6 is the best of the sweep", f"{_SCORE} at 0.6 minus at the best other p₀", P0, scores,
          best_is(0.6)),
    Claim("8", "fig08", "progressive beats non-progressive at every p₀",
          f"{_SCORE} at the worst p₀ below 1 minus at p₀ = 1", P0, scores, progressive_beats_not),
    Claim("9", "fig09", "two independent learning-rate schedules beat one",
          f"{_SCORE} with two decays minus with one", LR_SCHEDULE, scores, above("two_decays", "one_decay")),
    Claim("10", "fig10", "pruning that ends with Stage I beats other ends",
          f"{_SCORE} at end 1 × t₁ minus at the best other end", PRUNING_END, scores, best_is(1.0)),
    Claim("11", "fig11", "of eight learning rates 3.2e-4 is best (RTE)",
          f"{_SCORE} at 3.2e-4 minus at the best other rate", STAGE23_LR, scores, best_is(3.2e-4),
          lambda trial: is_spd(trial) and not trial.is_similarity,
          "The paper's appendix gives 3.0e-5 for RTE and so disagrees with it."),
    Claim("12", "fig12", "4.0e-4 is the best learning rate on a similarity task (STS-B)",
          f"{_SCORE} at 4.0e-4 minus at the best other rate", STAGE23_LR, scores, best_is(4.0e-4),
          lambda trial: is_spd(trial) and trial.is_similarity),
)  # fmt: skip


def examine(sweeps: Sequence[Tables]) -> list[Result]:
    """Every claim's row, Figure 4 first after Figure 2. A broken file leaves its claims without data, and says so."""
    results = [_result(claim, sweeps) for claim in CLAIMS]
    return [*results[:2], _schedules(sweeps), *results[2:]]


def _result(claim: Claim, sweeps: Sequence[Tables]) -> Result:
    def row(data: str, estimate: Estimate | None, found: str, detail: str) -> Result:
        return Result(claim.figure, claim.says, data, claim.estimate, estimate, found, detail, claim.note)

    try:
        source = choose(sweeps, claim.sweep, claim.dimension, claim.keep)
        groups = claim.measure(source)
    except (NoData, AnalysisError) as reason:
        return row("none", None, NOTHING, str(reason))
    data = describe(source)
    if not source.balanced:
        return row(data, None, UNDECIDED,
                   f"its values met different {words.many(source.searched, 4)}; {made_by(claim.sweep)}")  # fmt: skip
    try:
        question = claim.ask(groups)
    except Unanswerable as reason:
        return row(data, None, NOTHING, f"{reason}; {made_by(claim.sweep)}")
    estimate = bootstrap(question.groups, question.contrasts)
    pairing = ", paired by seed" if estimate.paired else ", seeds not paired"
    return row(f"{data}{pairing}", estimate, *verdict(estimate))


def describe(source: Source) -> str:
    """The sweep, its task, how many trials and seeds."""
    setting = source.setting
    left = sum(n for _, n in source.left_out)
    parts = [
        f"{source.tables.name}: {words.listing(setting.tasks)}",
        words.plural(len(source.trials), "trial"),
        words.plural(len(setting.seeds), "seed"),
        *([f"{left} left out"] if left else []),
    ]
    return ", ".join(parts)


def verdict(estimate: Estimate) -> tuple[str, str]:
    """The verdict and, where it is undecided, how many more seeds it would take (statistics.seeds_needed)."""
    if estimate.n >= FEWEST_SEEDS and estimate.low > 0:
        return REPRODUCED, ""
    if estimate.n >= FEWEST_SEEDS and estimate.high < 0:
        return REFUSED, ""
    more = seeds_needed(estimate)
    if more is not None:
        return UNDECIDED, f"about {words.plural(more, 'more seed')}"
    if estimate.n == 1:
        return UNDECIDED, f"at least {FEWEST_SEEDS - 1} more seeds"
    return UNDECIDED, f"more than {MOST_SEEDS:,} seeds"


def _schedules(sweeps: Sequence[Tables]) -> Result:
    """Figure 4 has no noise: each recorded step follows its schedule or does not."""
    says = "p, sparsity and learning rate follow the three schedules as drawn"
    meaning = "share of trials whose every recorded step follows them"
    try:
        found = schedule_check.check(sweeps)
    except (NoData, AnalysisError) as reason:
        return Result("4", says, "none", meaning, None, NOTHING, str(reason), "")
    share = 1 - len(found.departing) / found.trials
    data = f"{found.sweep}: the steps of {words.plural(found.trials, 'trial')}"
    first = f"; first departure: {found.departing[0]}" if found.departing else ""
    return Result("4", says, data, meaning, Estimate(share, share, share, found.trials, False, 0.0),
                  REFUSED if found.departing else REPRODUCED, f"{share:.0%} of them follow{first}",
                  "No sampling: the interval is the value.")  # fmt: skip
