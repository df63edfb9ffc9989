"""The report's tables: claims, the paper's Tables 1 and 2 beside ours, sweeps, and each sweep's trials."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from analysis.numbers.statistics import Estimate
from analysis.page.table import NONE, Link, Sheet, number, score, signed
from analysis.paper import printed as paper
from analysis.paper.claims import UNDECIDED, Result
from analysis.paper.method_comparison import Row
from analysis.paper.tables_1_and_2 import Board, Cell
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Trial, setting_of, status_counts
from analysis.wording import formatting as words

MOST_TRIALS = 200  # rows of a sweep's table


def claims(results: Sequence[Result]) -> Sheet:
    """A row a claim with its data, estimate, interval and verdict."""
    headings = (
        ("Figure", ""), ("The paper's claim", ""), ("Verdict", "looks at the interval alone"),
        ("Estimate", "above 0 where the claim is true"), ("95% interval", "bootstrap over seeds"),
        ("n", "seeds of the configuration that has the fewest"), ("What the estimate is", ""), ("Data", ""),
        ("Remarks", ""),
    )  # fmt: skip
    rows = tuple(
        (result.figure, result.says, _verdict(result), *_numbers(result.estimate), result.meaning, result.data,
         " ".join(part for part in (_sentence(_remark(result)), result.note) if part))
        for result in results
    )  # fmt: skip
    marks = tuple(result.verdict.replace(" ", "-") for result in results)
    return Sheet(headings, rows, wraps=frozenset({1, 6, 7, 8}), marks=marks)


def _verdict(result: Result) -> str:
    asks = result.verdict == UNDECIDED and result.estimate is not None and result.detail
    return f"{result.verdict} ({result.detail})" if asks else result.verdict


def _remark(result: Result) -> str:
    return "" if result.verdict == UNDECIDED and result.estimate is not None else result.detail


def _sentence(text: str) -> str:
    return words.capital(text) + "." * bool(text and not text.endswith("."))


def _numbers(estimate: Estimate | None) -> tuple[str, str, str]:
    if estimate is None:
        return NONE, NONE, NONE
    ends = f"{signed(estimate.low)} to {signed(estimate.high)}" if math.isfinite(estimate.low) else NONE
    return signed(estimate.value), ends, str(estimate.n)


def board(found: Board) -> Sheet:
    """Our cells beside the paper's printed values; scores in percent, as the paper prints them."""
    headings = (
        ("task", ""), ("method", ""), ("sparsity", "target, of the encoder's prunable weights"),
        ("ours", "mean over seeds"), ("range", "smallest to largest"), ("n", "seeds"),
        ("paper", "as printed; of the task that a miniature task is made after"),
        ("difference", "ours minus paper; none on the miniature, whose scores are no GLUE scores"),
        ("ours − teacher", "our student minus our dense teacher"),
        ("paper − teacher", "the paper's student minus its BERT-base"),
        ("parameters", "that are not zero, embeddings counted, as the paper's #Param"),
        ("metric", ""), ("split", ""), ("model", ""),
    )  # fmt: skip
    return Sheet(headings, tuple(map(_board_row, found.cells)))


def _board_row(cell: Cell) -> tuple[str, ...]:
    like = paper.LIKE.get(cell.task)
    printed = _percent(cell.printed) + (f" ({like})" if like and cell.printed is not None else "")
    return (
        cell.task, words.method_name(cell.method), f"{cell.sparsity:g}", _percent(cell.mean),
        f"{_percent(cell.low)} to {_percent(cell.high)}", str(cell.seeds), printed, _percent(cell.difference, "+"),
        _percent(cell.to_teacher, "+"), _percent(cell.printed_to_teacher, "+"), _parameters(cell),
        words.metric_name(cell.metric), cell.on, cell.model,
    )  # fmt: skip


def _percent(value: float | None, sign: str = "") -> str:
    return number(None if value is None else 100 * value, f"{sign}.1f")


def _parameters(cell: Cell) -> str:
    if cell.parameters is None:
        return NONE
    dense = f" of {_millions(cell.dense_parameters)}" if cell.dense_parameters else ""
    return f"{_millions(cell.parameters)}{dense}"


def _millions(count: float) -> str:
    return f"{count / 1e6:.3g}M" if count >= 1e5 else f"{count / 1e3:.3g}K"


def printed(table: int) -> Sheet:
    """The paper's own table."""
    headings = (("method", ""), ("remains", ""), *((task, "") for task in paper.TASKS))
    rows = paper.TABLE_1 if table == 1 else paper.TABLE_2
    return Sheet(headings, tuple((row.method, row.remains, *(number(s, ".1f") for s in row.scores)) for row in rows))


def methods(rows: Sequence[Row]) -> Sheet:
    """A row a method, each at its best configuration."""
    headings = (
        ("method", ""), ("score", "mean over seeds, on the split that students are chosen on"),
        ("+-", "sample standard deviation over seeds"), ("n", "seeds"), ("gap", "train minus score"),
        ("encoder remains", "parameters of the encoder that are not zero"),
        ("parameters", "of the whole student, zeros not counted"), ("steps", ""),
        ("seconds", "inside training steps times workers, mean of a trial"),
        ("rate", "initial learning rate of the best configuration"),
        ("of", "configurations that it was chosen from, on that split"),
    )  # fmt: skip
    return Sheet(headings, tuple(map(_method_row, rows)))


def _method_row(row: Row) -> tuple[str, ...]:
    remains = number(None if row.remaining is None else 100 * row.remaining, ".1f")
    return (
        words.method_name(row.method), score(row.score), score(row.deviation), str(row.seeds), signed(row.gap),
        f"{remains}%", NONE if row.parameters is None else _millions(row.parameters), number(row.steps, "d"),
        number(row.seconds, ".1f"), words.short_rate(row.rate), str(row.configurations),
    )  # fmt: skip


def sweeps(found: Sequence[Tables]) -> Sheet:
    """A row a sweep: what it is of, where its trials stand, what it cost."""
    headings = (
        ("sweep", ""), ("task", ""), ("model", ""), ("trials", ""), ("seeds", ""), ("sampler", ""),
        ("device hours", "seconds inside training steps times workers"),
    )  # fmt: skip
    return Sheet(headings, tuple(map(_sweep_row, found)))


def _sweep_row(tables: Tables) -> tuple[str, ...]:
    setting = setting_of(tables.trials)
    seconds = [trial.device_seconds for trial in tables.trials if trial.device_seconds is not None]
    return (
        tables.name, words.listing(setting.tasks), words.listing(setting.models), status_counts(tables.trials),
        str(len(setting.seeds)), tables.sampler or NONE, number(sum(seconds) / 3600 if seconds else None, ".3g"),
    )  # fmt: skip


_TRIAL_HEADINGS = (
    ("trial", ""),
    ("status", ""),
    ("feasible", "a student at its target sparsity was scored"),
    ("method", ""),
    ("p₀", "replacing probability in Stage I"),
    ("epochs I", "length of Stage I in epochs"),
    ("II", "length of Stage II in epochs"),
    ("III", "length of Stage III in epochs"),
    ("λ₀", "initial learning rate of Stage I"),
    ("λ₁", "initial learning rate of Stages II and III"),
    ("pruning end", "multiple of the end of Stage I"),
    ("target", "target sparsity"),
    ("sparsity", "achieved by the best student"),
    ("best", "best score at the target sparsity, on the split that students are chosen on"),
    ("train", "train score at the same step"),
    ("gap", "train minus best"),
    ("dev", "of the retained student, read back from disk"),
    ("run", "in MLflow"),
    ("checkpoint", "the retained student"),
)


def trials(tables: Tables, out: Path, mlflow: str | None) -> Sheet:
    """The trials, the best score first, those without one last; at most 200 rows.

    Links go to the MLflow server at `mlflow`, and from the folder `out` to the checkpoints.
    """
    shown = ranked(tables.trials)[:MOST_TRIALS]
    rows = tuple(_trial_row(trial, tables, out, mlflow) for trial in shown)
    return Sheet(_TRIAL_HEADINGS, rows, frozenset(i for i, trial in enumerate(shown) if not trial.comparable))


def ranked(found: Sequence[Trial]) -> list[Trial]:
    """The eligible trials, the best score first, then the others, scored ones first."""

    def rank(trial: Trial) -> tuple[bool, float]:
        return (not trial.eligible, float("inf") if trial.best_score is None else -trial.best_score)

    return sorted(found, key=rank)


def _trial_row(trial: Trial, tables: Tables, out: Path, mlflow: str | None) -> tuple[str | Link, ...]:
    stage3 = trial.total_epochs - trial.stage1_epochs - trial.stage2_epochs
    return (
        trial.trial_id,
        trial.status,
        {True: "yes", False: "no", None: NONE}[trial.feasible],
        trial.method,
        f"{trial.p0:.3g}",
        *(f"{epochs:.3g}" for epochs in (trial.stage1_epochs, trial.stage2_epochs, stage3)),
        words.short_rate(trial.stage1_lr),
        words.short_rate(trial.stage23_lr),
        f"{trial.pruning_end:.3g}",
        f"{trial.target_sparsity:g}",
        number(trial.achieved_sparsity, ".4f"),
        score(trial.best_score),
        score(trial.train_score),
        signed(trial.gap),
        score(trial.dev_score),
        _run(trial, mlflow or tables.tracking_uri),
        _checkpoint(trial, tables, out),
    )


def _run(trial: Trial, server: str | None) -> str | Link:
    if trial.mlflow_run_id is None:
        return NONE
    web = server is not None and server.startswith(("http://", "https://"))
    return Link(
        trial.mlflow_run_id[:8], f"{server.rstrip('/')}/#/runs/{trial.mlflow_run_id}" if web and server else None
    )


def _checkpoint(trial: Trial, tables: Tables, out: Path) -> str | Link:
    """The address of the checkpoint: a URI as it is, a path of this machine as seen from the report's folder."""
    place = trial.checkpoint
    if place is None:
        return NONE
    if "://" in place:
        return Link("open", place)
    if "://" in tables.folder.shown:
        return Link("open", f"{tables.folder.shown}/{place}")
    return Link("open", quote(os.path.relpath(Path(tables.folder.path) / place, out.resolve())))
