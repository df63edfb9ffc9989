"""The claims that the paper's figures make, each held against the trial data there are.

Every claim says that some contrasts of configurations' means over seeds are all above 0. The verdict looks at the 95%
interval of the smallest of them alone: all of it above 0, reproduced; all of it below, not reproduced; else undecided.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from analysis.errors import AnalysisError, NoData
from analysis.numbers.dimensions import (
    GRAFTING,
    LR_SCHEDULE,
    METHOD,
    P0,
    PRUNING_END,
    SPARSITY,
    STAGE23_LR,
    STRATEGIES,
    Dimension,
    is_spd,
    is_spd_on_classification,
    is_spd_on_similarity,
    is_strategy,
    prunes_while_finetuning,
)
from analysis.numbers.figure_data import FigureData, choose_data, space_hint
from analysis.numbers.statistics import FEWEST_SEEDS, MOST_SEEDS, Estimate, bootstrap, seeds_needed
from analysis.paper import schedule_check
from analysis.paper.questions import (
    Question,
    ScoresByValue,
    Unanswerable,
    are_positive,
    descends,
    gaps,
    is_above,
    is_best,
    progressive_beats_non_progressive,
    rises,
    scores,
)
from analysis.paper.train_rise import rises_by_seed
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial, setting_of
from analysis.wording.formatting import join, join_shortened, pluralize

REPRODUCED, NOT_REPRODUCED, UNDECIDED, NO_DATA = "reproduced", "not reproduced", "undecided", "no data"


class Claim(NamedTuple):
    """What the paper says, and how it is asked of trial data."""

    figure: str
    sweep: str  # the sweep, and its space, that makes the data
    says: str
    estimate: str  # what the estimate is; above 0 where the claim is true
    dimension: Dimension
    measure: Callable[[FigureData], ScoresByValue]
    ask: Callable[[ScoresByValue], Question]  # raises Unanswerable
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


_SCORE = "mean best score"
CLAIMS = (
    Claim("2 (b)", "fig02", "pruning while fine-tuning, the train score keeps rising while the dev score stalls",
          "over the second half of training, the smaller of train's rise and train's rise minus dev's", SPARSITY,
          rises_by_seed, are_positive, lambda trial: prunes_while_finetuning(trial) and trial.target_sparsity > 0),
    Claim("2 (c)", "fig02", "the train-dev gap widens with the pruning rate", "slope of the gap per unit of sparsity",
          SPARSITY, gaps, rises, prunes_while_finetuning),
    Claim("6", "fig06", "the train-dev gap shrinks from (a) neither over (b) progressive and (c) KD to (d) both",
          "smallest fall of the mean gap from one to the next", METHOD, gaps, descends(*STRATEGIES),
          is_strategy),
    Claim("6", "fig06", "KD matters more than progressive grafting",
          "mean gap of (b) progressive alone minus that of (c) KD alone", METHOD, gaps,
          is_above("progressive_only", "kd_only"), is_strategy),
    Claim("7", "fig07", "Stage I with p₀ > 0 beats Stage I with p = 0", f"{_SCORE} with p₀ > 0 minus with p₀ = 0",
          GRAFTING, scores, is_above(True, False)),
    Claim("8", "fig08", "p₀ = 0.6 is the best of the sweep", f"{_SCORE} at 0.6 minus at the best other p₀", P0, scores,
          is_best(0.6)),
    Claim("8", "fig08", "progressive beats non-progressive at every p₀",
          f"{_SCORE} at the worst p₀ below 1 minus at p₀ = 1", P0, scores, progressive_beats_non_progressive),
    Claim("9", "fig09", "two independent learning-rate schedules beat one",
          f"{_SCORE} with two decays minus with one", LR_SCHEDULE, scores, is_above("two_decays", "one_decay")),
    Claim("10", "fig10", "pruning that ends with Stage I beats other ends",
          f"{_SCORE} at end 1 × t₁ minus at the best other end", PRUNING_END, scores, is_best(1.0)),
    Claim("11", "fig11", "of eight learning rates 3.2e-4 is best (RTE)",
          f"{_SCORE} at 3.2e-4 minus at the best other rate", STAGE23_LR, scores, is_best(3.2e-4),
          is_spd_on_classification,
          "The paper's appendix gives 3.0e-5 for RTE, which contradicts it."),
    Claim("12", "fig12", "4.0e-4 is the best learning rate on a similarity task (STS-B)",
          f"{_SCORE} at 4.0e-4 minus at the best other rate", STAGE23_LR, scores, is_best(4.0e-4),
          is_spd_on_similarity),
)  # fmt: skip


def examine(sweeps: Sequence[Sweep]) -> list[Result]:
    """Every claim's row, Figure 4 first after Figure 2. A broken file leaves its claims without data, and says so."""
    results = [_result(claim, sweeps) for claim in CLAIMS]
    return [*results[:2], _schedules(sweeps), *results[2:]]


def _result(claim: Claim, sweeps: Sequence[Sweep]) -> Result:
    def row(origin: str, estimate: Estimate | None, verdict: str, detail: str) -> Result:
        return Result(claim.figure, claim.says, origin, claim.estimate, estimate, verdict, detail, claim.note)

    try:
        data = choose_data(sweeps, claim.sweep, claim.dimension, claim.keep)
        groups = claim.measure(data)
    except (NoData, AnalysisError) as reason:
        return row("none", None, NO_DATA, str(reason))
    origin = describe_data(data)
    if not data.balanced:
        others = join_shortened(data.also_varying, 4)
        return row(origin, None, UNDECIDED, f"its values met different {others}; {space_hint(claim.sweep)}")
    try:
        question = claim.ask(groups)
    except Unanswerable as reason:
        return row(origin, None, NO_DATA, f"{reason}; {space_hint(claim.sweep)}")
    estimate = bootstrap(question.groups, question.contrasts)
    pairing = ", paired by seed" if estimate.paired else ", seeds not paired"
    return row(f"{origin}{pairing}", estimate, *judge(estimate))


def describe_data(data: FigureData) -> str:
    """The sweep, its task, how many trials and seeds."""
    setting = setting_of(data.trials)
    left = sum(n for _, n in data.exclusions)
    parts = [
        f"{data.sweep.name}: {join(setting.tasks)}",
        pluralize(len(data.trials), "trial"),
        pluralize(len(setting.seeds), "seed"),
        *([f"{left} left out"] if left else []),
    ]
    return ", ".join(parts)


def judge(estimate: Estimate) -> tuple[str, str]:
    """The verdict and, where it is undecided, how many more seeds it would take (statistics.seeds_needed)."""
    if estimate.n >= FEWEST_SEEDS and estimate.low > 0:
        return REPRODUCED, ""
    if estimate.n >= FEWEST_SEEDS and estimate.high < 0:
        return NOT_REPRODUCED, ""
    more = seeds_needed(estimate)
    if more is not None:
        return UNDECIDED, f"about {pluralize(more, 'more seed')}"
    if estimate.n == 1:
        return UNDECIDED, f"at least {FEWEST_SEEDS - 1} more seeds"
    return UNDECIDED, f"more than {MOST_SEEDS:,} seeds"


def _schedules(sweeps: Sequence[Sweep]) -> Result:
    """Figure 4 has no noise: each recorded step follows its schedule or does not."""
    says = "p, sparsity and learning rate follow the three schedules as drawn"
    meaning = "share of trials whose every recorded step follows them"
    try:
        found = schedule_check.check(sweeps)
    except (NoData, AnalysisError) as reason:
        return Result("4", says, "none", meaning, None, NO_DATA, str(reason), "")
    share = 1 - len(found.departing) / found.trials
    data = f"{found.sweep}: the steps of {pluralize(found.trials, 'trial')}"
    first = f"; first departure: {found.departing[0]}" if found.departing else ""
    return Result("4", says, data, meaning, Estimate(share, share, share, found.trials, False, 0.0),
                  NOT_REPRODUCED if found.departing else REPRODUCED, f"{share:.0%} of them follow{first}",
                  "No sampling: the interval is the value.")  # fmt: skip
