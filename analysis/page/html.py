"""The page: one self-contained index.html with the claims, the figures, their captions and tables of the trials."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from analysis.errors import NoData
from analysis.numbers.figure_data import showcase
from analysis.page import result_tables as listings
from analysis.page import table as sheets
from analysis.page.assets import CSS, SCRIPT
from analysis.paper import method_comparison as comparison
from analysis.paper.claims import Result
from analysis.paper.tables_1_and_2 import TITLES, Board
from analysis.reading.sweeps import Tables
from analysis.reading.trials import setting_of, status_counts
from analysis.wording import formatting as words

CLAIMS_NOTE = (
    "Each estimate is above 0 where the claim is true. Interval: 95%, bootstrap over seeds or Student's t, whichever "
    "is wider, each claim on its own. Reproduced: the whole interval is above 0. Not reproduced: all of it is below. "
    "Undecided: it is neither, or there are fewer than 3 seeds; the seeds it would take assume that estimate and "
    "variance stay as they are. Tasks named mini_ are the synthetic miniature's: what holds there is not thereby shown "
    "for BERT on GLUE."
)

METHODS_NOTE = (
    "Each method at the best of the configurations that the sweep gave it, chosen by the mean over seeds on the very "
    "split that is shown: with more configurations the best is the more flattered."
)


class Entry(NamedTuple):
    """A figure of the page: where its SVG lies and its caption, or (svg None) why there is none."""

    section: str
    name: str
    title: str
    svg: Path | None
    text: str


class Contents(NamedTuple):
    """What the page is made of."""

    title: str
    out: Path  # the folder that it will lie in
    sweeps: Sequence[Tables]
    problems: Sequence[str]
    claims: Sequence[Result]
    entries: Sequence[Entry]
    boards: Sequence[tuple[str, Board | str]]  # "table1" or "table2", and the table or why there is none
    mlflow: str | None


def page(contents: Contents) -> str:
    """The whole page as HTML, with nothing outside it."""
    name = escape(contents.title)
    problems = "".join(f'<p class="problem">{escape(problem)}</p>' for problem in contents.problems)
    sections = dict.fromkeys(entry.section for entry in contents.entries)
    figures = "\n".join(_section(section, contents.entries) for section in sections)
    boards = "\n".join(_board(name, board) for name, board in contents.boards)
    compared = "\n".join(_compared(tables) for tables in contents.sweeps)
    trials = "\n".join(_trials(tables, contents) for tables in contents.sweeps)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>{CSS}</style>
</head>
<body>
<header>
<h1>{name}</h1>
{_summary(contents.sweeps)}
{problems}
</header>
<main>
<h2>The paper's claims</h2>
<div class="claims">{sheets.html(listings.claims(contents.claims))}</div>
<p class="note">{escape(CLAIMS_NOTE)}</p>
{figures}
<h2>The paper's tables</h2>
{boards}
<h2>Methods side by side</h2>
<p class="note">{escape(METHODS_NOTE)}</p>
{compared}
<h2>Sweeps</h2>
{sheets.html(listings.sweeps(contents.sweeps))}
<h2>Trials</h2>
{trials}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _summary(sweeps: Sequence[Tables]) -> str:
    """The setting, how many trials stand where, and for one sweep the best student beside teacher and majority."""
    trials = [trial for sweep in sweeps for trial in sweep.trials]
    number = f"{words.plural(len(sweeps), 'sweep')}, " if len(sweeps) != 1 else ""
    lines = [f"<p>{number}{escape(words.plural(len(trials), 'trial'))}: {escape(status_counts(trials))}.</p>"]
    if trials:
        lines.insert(0, f"<p>{escape(words.describe(setting_of(trials)))}</p>")
    if len(sweeps) == 1:
        lines.append(_tiles(sweeps))
    return "\n".join(lines)


def _tiles(sweeps: Sequence[Tables]) -> str:
    try:
        _, best = showcase(sweeps, None)
    except NoData as reason:
        return f"<p>No best trial: {escape(str(reason))}.</p>"
    metric = f"dev {words.metric_name(best.metric)}"
    cells = (
        ("best sparse student", sheets.score(best.best_score), f"{best.selection}, trial {best.trial_id}"),
        ("its sparsity", sheets.number(best.achieved_sparsity, ".4f"), f"target {best.target_sparsity:g}"),
        ("dense teacher", sheets.score(best.teacher_score), metric),
        ("majority class", sheets.score(best.majority_score), metric),
    )
    tiles = "".join(
        f"<div><dt>{escape(label)}</dt><dd><b>{value}</b> <span>{escape(note)}</span></dd></div>"
        for label, value, note in cells
    )
    return f'<dl class="tiles">{tiles}</dl>'


def _compared(tables: Tables) -> str:
    rows = comparison.compute(tables)
    return f"<h3>{escape(tables.name)}</h3>{sheets.html(listings.methods(rows))}" if rows else ""


def _section(section: str, entries: Sequence[Entry]) -> str:
    figures = "\n".join(_figure(entry) for entry in entries if entry.section == section)
    return f'<h2>{escape(section)}</h2>\n<div class="figures">\n{figures}\n</div>'


def _figure(entry: Entry) -> str:
    heading = f"<h3>{escape(entry.title)}</h3>"
    if entry.svg is None:
        return f'<figure id="{entry.name}">{heading}<p class="none">No figure: {escape(entry.text)}.</p></figure>'
    data = base64.b64encode(entry.svg.read_bytes()).decode()
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(entry.title)}">'
    return f'<figure id="{entry.name}">{heading}{image}<figcaption>{escape(entry.text)}</figcaption></figure>'


def _board(name: str, board: Board | str) -> str:
    heading = f'<h3 id="{name}">{escape(TITLES[name])}</h3>'
    paper = (
        f"<details><summary>As printed in the paper</summary>{sheets.html(listings.printed(int(name[-1])))}</details>"
    )
    if isinstance(board, str):
        return f'{heading}<p class="none">No table: {escape(board)}.</p>{paper}'
    note = f"Scores in percent. From sweep {words.listing(board.sweeps)}. {words.omissions(board.left_out)}"
    return f'{heading}{sheets.html(listings.board(board))}<p class="note">{escape(note)}</p>{paper}'


def _trials(tables: Tables, contents: Contents) -> str:
    """A sweep's trials, folded where the page has several sweeps, and its errors."""
    sheet = listings.trials(tables, contents.out, contents.mlflow)
    hidden = len(tables.trials) - len(sheet.rows)
    more = f" {hidden:,} more trials are in trials.parquet." if hidden else ""
    errors = [f"<li><b>{escape(t.trial_id)}</b>: {escape(t.error or '')}</li>" for t in tables.trials if t.error]
    failed = f"<h3>Errors</h3><ul>{''.join(errors[: listings.MOST_TRIALS])}</ul>" if errors else ""
    table = (
        f'{sheets.html(sheet)}<p class="note">Sorted by the best score at the target sparsity. Trials that were not '
        f"finished at their target sparsity (grey) have no part in the figures that compare scores.{more}</p>{failed}"
    )
    is_open = " open" if len(contents.sweeps) == 1 else ""
    return f"<details{is_open}><summary>{escape(tables.name)}</summary>{table}</details>"
