"""The claims that the paper's text makes about Tables 1 and 2 (Section 4.3), one row a task."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from analysis.numbers.contrasts import first_above_others, identity
from analysis.numbers.figure_data import (
    FigureData,
    best_configuration,
    best_score,
    dev_score,
    final_score,
    group_by,
    is_dev_unseen,
    mean_by_seed,
    select_sweeps,
    space_hint,
    take_whole,
)
from analysis.numbers.statistics import SeedScores, bootstrap
from analysis.paper.printed import exceeded_in_table_1
from analysis.paper.questions import Question, Unanswerable
from analysis.paper.verdicts import NO_DATA, Result, describe_data, describe_second_look, judge
from analysis.reading.sweeps import Sweep
from analysis.reading.tasks import glue_task
from analysis.reading.trials import Trial
from analysis.wording.formatting import join
from analysis.wording.names import method_name

MATTERS = 0.01
TEACHER_MARGIN = 0.01  # on RTE, where the paper's student has "exactly the full accuracy of the teacher"
Score = Callable[[Trial], float | None]


class TableClaim(NamedTuple):
    """What the text says of a table, and how it is asked of one task's methods, each at its best configuration."""

    table: str  # "table1" or "table2", the sweeps that make the data
    says: str
    estimate: str
    sparsity: float  # SPD's, and that of what else is pruned unless `theirs` says another
    ask: Callable[[dict[str, tuple[Trial, ...]], Score], Question]  # raises Unanswerable
    theirs: float | None = None
    fallback: bool = False  # whether any sweep that compares methods at that sparsity will do

    def is_about(self, trial: Trial) -> bool:
        """Whether the trial is of a sparsity that the claim speaks of; what prunes nothing has none."""
        theirs = self.sparsity if self.theirs is None else self.theirs
        return trial.target_sparsity in (0.0, self.sparsity if trial.method == "spd" else theirs)


def examine(sweeps: Sequence[Sweep]) -> list[Result]:
    """A row for each claim and each sweep that can answer it; one that says what is missing where there is none."""
    return [result for claim in CLAIMS for result in _examine_claim(claim, sweeps)]


def _examine_claim(claim: TableClaim, sweeps: Sequence[Sweep]) -> list[Result]:
    own = select_sweeps(sweeps, claim.table) or (list(sweeps) if claim.fallback else [])
    answers = [_answer(claim, sweep) for sweep in own]
    known = [answer for answer in answers if answer.estimate is not None]
    if known:
        return known
    reason = answers[0].detail if answers and select_sweeps(sweeps, claim.table) else f"there is no sweep {claim.table}"
    hint = "" if space_hint(claim.table) in reason else f"; {space_hint(claim.table)}"
    return [Result(_figure(claim), claim.says, "none", claim.estimate, None, NO_DATA, f"{reason}{hint}", "")]


def _figure(claim: TableClaim) -> str:
    return f"Table {claim.table[-1]}"


def _answer(claim: TableClaim, sweep: Sweep) -> Result:
    """The claim's row from one sweep, each method at its best configuration of those tried."""
    trials = [trial for trial in sweep.comparable if claim.is_about(trial)]
    tried = group_by(trials, lambda trial: trial.method)
    methods = {method: best_configuration(group) for method, group in tried.items()}
    unseen = is_dev_unseen([trial for group in methods.values() for trial in group])
    try:
        question = claim.ask(methods, dev_score if unseen else final_score)
    except Unanswerable as reason:
        return Result(_figure(claim), claim.says, "none", claim.estimate, None, NO_DATA,
                      f"in sweep {sweep.name} {reason}", "")  # fmt: skip
    estimate = bootstrap(question.groups, question.contrasts)
    data: FigureData = take_whole(sweep, methods)._replace(exclusions=())
    if unseen:
        remark = "The best students' scores on dev, which a holdout has not chosen by."
    else:
        remark = describe_second_look("At the best dev evaluation", claim.ask(methods, best_score))
    counts = {len(group_by(group, lambda trial: trial.configuration)) for group in tried.values()}
    chosen = f"Each method at the best of {join(sorted(counts))} configurations." if counts != {1} else ""
    return Result(_figure(claim), claim.says, describe_data(data), claim.estimate, estimate,
                  *judge(estimate, MATTERS), " ".join(filter(None, [remark, chosen])))  # fmt: skip


def _scores(methods: dict[str, tuple[Trial, ...]], method: str, score: Score) -> SeedScores:
    scores = mean_by_seed(methods.get(method, ()), score)
    if not scores:
        raise Unanswerable(f"{method_name(method)} has no finished trial at that sparsity")
    return scores


def _spd_above(others: Callable[[str], Sequence[str]]) -> Callable[[dict[str, tuple[Trial, ...]], Score], Question]:
    """SPD's mean above that of every method of `others(task)` that was run."""

    def ask(methods: dict[str, tuple[Trial, ...]], score: Score) -> Question:
        spd = _scores(methods, "spd", score)
        wanted = others(methods["spd"][0].task)
        known = [_scores(methods, method, score) for method in wanted if method in methods]
        if not known:
            raise Unanswerable(f"none of {join(map(method_name, wanted))} has finished")
        return Question([spd, *known], first_above_others)

    return ask


def _at_least_the_teacher(methods: dict[str, tuple[Trial, ...]], score: Score) -> Question:
    """SPD's mean minus the dense teacher's score, plus the margin on RTE."""
    spd = _scores(methods, "spd", score)
    teachers = mean_by_seed(methods["spd"], lambda trial: trial.teacher_score)
    if set(teachers) != set(spd):
        raise Unanswerable("the teacher has no score")
    margin = TEACHER_MARGIN if glue_task(methods["spd"][0].task) == "rte" else 0.0
    return Question([{seed: spd[seed] - teachers[seed] + margin for seed in spd}], identity)


CLAIMS = (
    TableClaim("table1", "at half of the weights SPD beats every compared method, but TinyBERT6 on RTE",
               "mean score of SPD minus that of the best other", 0.5, _spd_above(exceeded_in_table_1), fallback=True),
    TableClaim("table1", "at half of the weights SPD beats its teacher; on RTE it is as good",
               f"mean score of SPD minus its teacher's, on RTE plus {TEACHER_MARGIN:g}", 0.5, _at_least_the_teacher,
               fallback=True),
    TableClaim("table2", "at 10% of the weights SPD beats TinyBERT4",
               "mean score of SPD minus that of TinyBERT4", 0.9, _spd_above(lambda task: ("tinybert4",))),
    TableClaim("table2", "at 10% of the weights SPD beats RPP at 11.6%",
               "mean score of SPD minus that of RPP", 0.9, _spd_above(lambda task: ("rpp",)), theirs=0.884),
    TableClaim("table2", "at 5% of the weights SPD beats SparseBERT",
               "mean score of SPD minus that of SparseBERT", 0.95, _spd_above(lambda task: ("sparsebert",))),
    TableClaim("table2", "at 5% of the weights SPD beats TinyBERT4",
               "mean score of SPD minus that of TinyBERT4", 0.95, _spd_above(lambda task: ("tinybert4",))),
)  # fmt: skip
