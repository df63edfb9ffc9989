"""Results as tables: the claims, Tables 1 and 2 beside the printed ones, methods side by side."""

import math
from collections.abc import Sequence

from analysis.page.table import Heading, Table
from analysis.paper import printed
from analysis.paper.method_comparison import MethodRow
from analysis.paper.tables_1_and_2 import MethodScore, PaperTable, averages
from analysis.paper.verdicts import UNDECIDED, Result
from analysis.reading.tasks import glue_task
from analysis.wording.formatting import MISSING, capitalize, format_number, format_rate, format_score, format_signed
from analysis.wording.names import method_name, metric_name

METHODS_NOTE = (
    "Each method at the best of the configurations that the sweep gave it, chosen by the mean over seeds on the very "
    "split that is shown: the more configurations a method had, the more optimistic its score."
)


def claims_table(results: Sequence[Result]) -> Table:
    """One row per claim with its data, estimate, interval and verdict."""
    headings = (
        Heading("Figure"),
        Heading("The paper's claim", wraps=True),
        Heading("Verdict", "by the interval alone"),
        Heading("Estimate", "above 0 where the claim is true"),
        Heading("95% interval", "bootstrap over seeds"),
        Heading("n", "seeds of the configuration that has the fewest"),
        Heading("What the estimate is", wraps=True),
        Heading("Data", wraps=True),
        Heading("Remarks", wraps=True),
    )
    return Table(headings, list(map(_claim_row, results)), [result.verdict.replace(" ", "-") for result in results])


def _claim_row(result: Result) -> list[str]:
    in_verdict = result.verdict == UNDECIDED and result.estimate is not None  # where the detail, seeds, is said
    verdict = f"{result.verdict} ({result.detail})" if in_verdict and result.detail else result.verdict
    remark = "" if in_verdict else capitalize(result.detail)
    remarks = [remark + "." * bool(remark and not remark.endswith(".")), result.note]
    return [
        result.figure, result.says, verdict, *_estimate_cells(result), result.meaning, result.data,
        " ".join(filter(None, remarks)),
    ]  # fmt: skip


def _estimate_cells(result: Result) -> list[str]:
    estimate = result.estimate
    if estimate is None:
        return [MISSING] * 3
    finite = math.isfinite(estimate.low)
    ends = f"{format_signed(estimate.low)} to {format_signed(estimate.high)}" if finite else MISSING
    return [format_signed(estimate.value), ends, str(estimate.n)]


def paper_table(table: PaperTable) -> Table:
    """Our scores beside the paper's printed ones, in percent, as the paper prints them."""
    headings = (
        Heading("task"),
        Heading("method"),
        Heading("sparsity", "target, of the encoder's prunable weights"),
        Heading("ours", "mean over seeds"),
        Heading("range", "smallest to largest"),
        Heading("end", "at the end of Stage III, which Algorithm 1 returns; ours: of the best evaluation"),
        Heading("n", "seeds"),
        Heading("of", "configurations of which this is the best, by the mean over seeds on that split"),
        Heading("paper", "as printed; for a synthetic task, of the GLUE task that it imitates"),
        Heading("difference", "ours minus paper; none for a synthetic task, whose scores are not GLUE scores"),
        Heading("ours − teacher", "our student minus our dense teacher"),
        Heading("paper − teacher", "the paper's student minus its BERT-base"),
        Heading("parameters", "that are not zero, embeddings counted, as the paper's #Param"),
        Heading("metric"),
        Heading("split"),
        Heading("model"),
    )
    return Table(headings, list(map(_score_row, table.scores)))


def _score_row(score: MethodScore) -> list[str]:
    imitated = f" ({glue_task(score.task)})" if score.synthetic and score.printed is not None else ""
    return [
        score.task, method_name(score.method), f"{score.sparsity:g}", _percent(score.mean),
        f"{_percent(score.low)} to {_percent(score.high)}", _percent(score.final),
        str(score.seeds), str(score.tried), _percent(score.printed) + imitated,
        _percent(score.difference, "+"), _percent(score.to_teacher, "+"), _percent(score.printed_to_teacher, "+"),
        _remaining_parameters(score), metric_name(score.metric), score.on, score.model,
    ]  # fmt: skip


def _percent(fraction: float | None, sign: str = "") -> str:
    return format_number(None if fraction is None else 100 * fraction, f"{sign}.1f")


def _remaining_parameters(score: MethodScore) -> str:
    if score.parameters is None:
        return MISSING
    dense = f" of {_parameters(score.dense_parameters)}" if score.dense_parameters else ""
    return f"{_parameters(score.parameters)}{dense}"


def _parameters(count: float) -> str:
    return f"{count / 1e6:.3g}M" if count >= 1e5 else f"{count / 1e3:.3g}K"


def printed_table(name: str) -> Table:
    """The paper's own "table1" or "table2"."""
    average = Heading("Avg.", "as printed, in Table 1 alone")
    headings = [Heading("method"), Heading("remains"), *map(Heading, printed.TASKS), average]
    cells = ((row.method, row.remains, (*row.scores, row.average)) for row in printed.TABLES[name])
    return Table(
        headings, [[name, remains, *(format_number(s, ".1f") for s in scores)] for name, remains, scores in cells]
    )


def average_table(table: PaperTable) -> Table:
    """Our scores by task and on average, in percent; of synthetic tasks the average is as synthetic as they are."""
    rows = averages(table)
    tasks = sorted({task for row in rows for task in row.scores})
    headings = [
        Heading("method"),
        Heading("sparsity", "target, of the encoder's prunable weights"),
        *map(Heading, tasks),
        Heading("average", "over all tasks of this table; none for a method that lacks one"),
        Heading("paper", "the mean of its printed scores on these tasks, or on those that they imitate"),
    ]
    return Table(headings, [[
        method_name(row.method), f"{row.sparsity:g}", *(_percent(row.scores.get(task)) for task in tasks),
        _percent(row.mean), _percent(row.printed),
    ] for row in rows])  # fmt: skip


def methods_table(rows: Sequence[MethodRow]) -> Table:
    """One row per method, each at its best configuration."""
    headings = (
        Heading("method"),
        Heading("score", "mean over seeds, on the split on which students are chosen"),
        Heading("dev", "mean on dev where a holdout chose, of its only use"),
        Heading("end", "mean at the end of Stage III, on that split"),
        Heading("±", "sample standard deviation over seeds"),
        Heading("n", "seeds"),
        Heading("gap", "train minus score"),
        Heading("gap, end", "the same at the end of Stage III"),
        Heading("encoder remains", "parameters of the encoder that are not zero"),
        Heading("parameters", "of the whole student, zeros not counted"),
        Heading("steps"),
        Heading("seconds", "inside training steps times workers, mean per trial"),
        Heading("rate", "initial learning rate of the best configuration"),
        Heading("of", "configurations from which it was chosen, on that split"),
    )
    return Table(headings, list(map(_method_row, rows)))


def _method_row(row: MethodRow) -> list[str]:
    return [
        method_name(row.method), format_score(row.score), format_score(row.dev), format_score(row.final),
        format_score(row.deviation),
        str(row.seeds), format_signed(row.gap), format_signed(row.final_gap),
        MISSING if row.remaining is None else f"{_percent(row.remaining)}%",
        MISSING if row.parameters is None else _parameters(row.parameters), format_number(row.steps, "d"),
        format_number(row.seconds, ".1f"), format_rate(row.rate), str(row.configurations),
    ]  # fmt: skip
