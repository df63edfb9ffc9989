"""The claims that the paper makes, each held against the trial data there are.

Every claim says that some contrasts of configurations' means over seeds are all above 0. The verdict looks at the 95%
interval of the smallest of them alone: all of it above 0, reproduced; all of it below, contradicted; else undecided.

Why so: docs/decisions.md #verdicts-from-seeds.
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
    prunes_with_kd,
    prunes_without_kd,
)
from analysis.numbers.figure_data import FigureData, choose_data, space_hint
from analysis.numbers.statistics import Estimate, bootstrap
from analysis.paper import claims_of_tables, schedule_check
from analysis.paper.questions import (
    Question,
    ScoresByValue,
    Unanswerable,
    best_gaps,
    best_scores,
    descends,
    final_gaps,
    final_scores,
    is_above,
    is_best,
    progressive_beats_non_progressive,
    rises,
    train_rises_dev_stalls,
)
from analysis.paper.train_rise import STALL_MARGIN, rises_by_seed
from analysis.paper.verdicts import (
    CONTRADICTED,
    NO_DATA,
    REPRODUCED,
    SCHEDULES,
    UNDECIDED,
    Result,
    correct_for_number,
    describe_best,
    describe_data,
    describe_second_look,
    judge,
)
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial
from analysis.wording.formatting import format_rate, join_shortened, pluralize

Measure = Callable[[FigureData], ScoresByValue]


class Measures(NamedTuple):
    """What a claim is asked of: numbers at the end of Stage III, and the same at the best dev evaluation."""

    final: Measure
    best: Measure | None


class Claim(NamedTuple):
    """What the paper says, and how it is asked of trial data."""

    figure: str
    sweep: str  # the sweep, and its space, that makes the data
    says: str
    estimate: str  # what the estimate is; above 0 where the claim is true
    dimension: Dimension
    measures: Measures
    ask: Callable[[ScoresByValue], Question]  # raises Unanswerable
    keep: Callable[[Trial], bool] = is_spd
    note: str = ""
    matters: float = 0.01  # the difference whose cost in seeds is said


SCORES, GAPS, RISES = (
    Measures(final_scores, best_scores),
    Measures(final_gaps, best_gaps),
    Measures(rises_by_seed, None),
)
_SCORE = "mean score at the end"
_STALLS = f"smallest of train's rise over the second half of training and {STALL_MARGIN:g} minus dev's rise or fall"
_SLOPE = "slope of the gap at the end per unit of sparsity"


def _prunes(keep: Callable[[Trial], bool]) -> Callable[[Trial], bool]:
    return lambda trial: keep(trial) and trial.target_sparsity > 0


CLAIMS = (
    Claim("2 (b)", "fig02", "pruning while fine-tuning under KD, the train score keeps rising while the dev score "
          "stays the same", _STALLS, SPARSITY, RISES, train_rises_dev_stalls(STALL_MARGIN), _prunes(prunes_with_kd)),
    Claim("2 (b)", "fig02_without_kd", "the same without KD, which the caption does not say", _STALLS, SPARSITY, RISES,
          train_rises_dev_stalls(STALL_MARGIN), _prunes(prunes_without_kd)),
    Claim("2 (c)", "fig02", "under KD, the train-dev gap widens with the pruning rate", _SLOPE, SPARSITY, GAPS, rises,
          prunes_with_kd, matters=0.02),
    Claim("2 (c)", "fig02_without_kd", "the same without KD, which the caption does not say", _SLOPE, SPARSITY, GAPS,
          rises, prunes_without_kd, matters=0.02),
    Claim("6", "fig06", "the train-dev gap shrinks from (a) neither over (b) progressive and (c) KD to (d) both",
          "smallest fall of the mean gap at the end from one to the next", METHOD, GAPS, descends(*STRATEGIES),
          is_strategy),
    Claim("6", "fig06", "KD matters more than progressive grafting",
          "mean gap at the end of (b) progressive alone minus that of (c) KD alone", METHOD, GAPS,
          is_above("progressive_only", "kd_only"), is_strategy),
    Claim("7", "fig07", "Stage I with p₀ > 0 beats Stage I with p = 0", f"{_SCORE} with p₀ > 0 minus with p₀ = 0",
          GRAFTING, SCORES, is_above(True, False)),
    Claim("8", "fig08", "p₀ = 0.6 is the best of the sweep", f"{_SCORE} at 0.6 minus at the best other p₀", P0, SCORES,
          is_best(0.6)),
    Claim("8", "fig08", "progressive beats non-progressive at every p₀",
          f"{_SCORE} at the worst p₀ below 1 minus at p₀ = 1", P0, SCORES, progressive_beats_non_progressive),
    Claim("9", "fig09", "two independent learning-rate schedules beat one",
          f"{_SCORE} with two decays minus with one", LR_SCHEDULE, SCORES, is_above("two_decays", "one_decay")),
    Claim("10", "fig10", "pruning that ends with Stage I beats other ends",
          f"{_SCORE} at end 1 × t₁ minus at the best other end", PRUNING_END, SCORES, is_best(1.0)),
    Claim("11", "fig11", "of eight learning rates 3.2e-4 is best (RTE)",
          f"{_SCORE} at 3.2e-4 minus at the best other rate", STAGE23_LR, SCORES, is_best(3.2e-4),
          is_spd_on_classification,
          "The paper's appendix gives 3.0e-5 for RTE, which contradicts it."),
    Claim("12", "fig12", "4.0e-4 is the best learning rate on a similarity task (STS-B)",
          f"{_SCORE} at 4.0e-4 minus at the best other rate", STAGE23_LR, SCORES, is_best(4.0e-4),
          is_spd_on_similarity),
)  # fmt: skip
_FIGURE_2 = sum(claim.figure.startswith("2") for claim in CLAIMS)


def examine(sweeps: Sequence[Sweep]) -> list[Result]:
    """Every claim's row: figures, then tables. A broken file leaves its claims without data, and says so."""
    results = [_result(claim, sweeps) for claim in CLAIMS]
    figures = [*results[:_FIGURE_2], _schedules(sweeps), *results[_FIGURE_2:]]
    return correct_for_number([*figures, *claims_of_tables.examine(sweeps)])


def _result(claim: Claim, sweeps: Sequence[Sweep]) -> Result:
    def row(origin: str, estimate: Estimate | None, verdict: str, detail: str, *remarks: str) -> Result:
        note = " ".join(filter(None, [*remarks, claim.note]))
        return Result(claim.figure, claim.says, origin, claim.estimate, estimate, verdict, detail, note)

    try:
        data = choose_data(sweeps, claim.sweep, claim.dimension, claim.keep)
        groups = _in_paper_rates(claim, data, claim.measures.final(data))
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
    remarks = [_at_best(claim, data), describe_best(question), _rates_remark(claim, data)]
    return row(f"{origin}{pairing}", estimate, *judge(estimate, claim.matters), *remarks)


def _at_best(claim: Claim, data: FigureData) -> str:
    """The claim at the best dev evaluation, as a remark."""
    if claim.measures.best is None:
        return ""
    try:
        question = claim.ask(_in_paper_rates(claim, data, claim.measures.best(data)))
    except Unanswerable:
        return ""
    return describe_second_look("At the best dev evaluation", question)


def _in_paper_rates(claim: Claim, data: FigureData, groups: ScoresByValue) -> ScoresByValue:
    """The groups, where they are learning rates, by the paper's rate that each stands for under a profile."""
    times = data.sweep.description.rates_times
    if claim.dimension != STAGE23_LR or times == 1:
        return groups
    return {float(f"{value / times:.6g}"): scores for value, scores in groups.items()}


def _rates_remark(claim: Claim, data: FigureData) -> str:
    times = data.sweep.description.rates_times
    if claim.dimension != STAGE23_LR or times == 1:
        return ""
    example = f"{format_rate(1e-4 * times)} stands for 1e-4"
    return f"The rates of this sweep are {times:g} times the paper's: {example}."


def _schedules(sweeps: Sequence[Sweep]) -> Result:
    """Figure 4 has no noise: each recorded step follows its schedule or does not."""
    says = "p, sparsity and learning rate follow the three schedules as drawn"
    meaning = "share of trials whose every recorded step follows them"
    try:
        found = schedule_check.check(sweeps)
    except (NoData, AnalysisError) as reason:
        return Result(SCHEDULES, says, "none", meaning, None, NO_DATA, str(reason), "")
    share = 1 - len(found.departing) / found.trials
    data = f"{found.sweep}: the steps of {pluralize(found.trials, 'trial')}"
    first = f"; first departure: {found.departing[0]}" if found.departing else ""
    return Result(SCHEDULES, says, data, meaning, Estimate(share, share, share, found.trials, False, 0.0),
                  CONTRADICTED if found.departing else REPRODUCED, f"{share:.0%} of them follow{first}",
                  "No sampling: the interval is the value.")  # fmt: skip
