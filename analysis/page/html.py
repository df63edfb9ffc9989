"""index.html: what the template shows, and its rendering into one self-contained page."""

import base64
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup, escape

from analysis.drawing.captions import describe_exclusions, describe_setting
from analysis.numbers import leaderboard
from analysis.numbers.leaderboard import Board, Leaderboard
from analysis.page.contents import Contents, DrawnFigure
from analysis.page.figure_list import PAPER
from analysis.page.result_tables import (
    METHODS_NOTE,
    average_table,
    claims_table,
    methods_table,
    paper_table,
    printed_table,
)
from analysis.page.student_tables import STUDENTS_NOTE, students_table
from analysis.page.sweep_tables import MOST_TRIALS, checkpoint_cell, leaderboard_table, sweeps_table, trials_table
from analysis.page.table import Cell, Link, Table
from analysis.paper.claims import NO_DATA
from analysis.paper.tables_1_and_2 import TITLES, PaperTable
from analysis.paper.verdicts import NOTE as CLAIMS_NOTE
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import setting_of, status_counts
from analysis.wording.formatting import format_number, format_score, join, pluralize
from analysis.wording.names import baseline_name, metric_name

MOST_TILES = 6  # sparsities in the summary, the highest ones


class Tile(NamedTuple):
    """One number of the summary."""

    label: str
    value: str
    note: str
    link: Cell = ""  # to the checkpoint


class FigureView(NamedTuple):
    """A figure as it is written into the page: SVG whose lines can be pointed at, or an image in base64."""

    name: str
    title: str
    svg: Markup | None
    image: str | None
    text: str


class FigureSection(NamedTuple):
    """Figures under a heading; those that cannot be drawn are a folded list of titles and reasons."""

    anchor: str
    title: str
    figures: Sequence[FigureView]
    absent: Sequence[tuple[str, str]]


class PaperTableView(NamedTuple):
    """Table 1 or 2: ours with a note, or (None) the reason in its place; and the paper's own."""

    name: str
    title: str
    ours: Table | None
    note: str
    printed: Table
    averages: Table | None = None


class PaperView(NamedTuple):
    """What the paper claims, draws and prints; folded unless one of its sweeps is among those read."""

    is_open: bool = False
    claims: Table = Table((), ())
    without_data: Table = Table((), ())  # claims
    figures: Sequence[FigureView] = ()
    other_figures: Sequence[FigureView] = ()  # drawn from sweeps that were not made for them
    absent: Sequence[tuple[str, str]] = ()
    tables: Sequence[PaperTableView] = ()
    note: str = CLAIMS_NOTE


class BoardView(NamedTuple):
    """A sweep's configurations that have students of one sparsity."""

    sparsity: str
    table: Table
    more: int  # configurations that are not shown


class LeaderboardView(NamedTuple):
    """A sweep's boards, folded where there are several sweeps."""

    sweep: str
    boards: Sequence[BoardView]


class TrialsView(NamedTuple):
    """A sweep's trials, folded unless `is_open`, and its failed trials with their errors."""

    sweep: str
    is_open: bool
    table: Table
    more: int  # trials that are not shown
    errors: Sequence[tuple[str, str]]  # trial_id, error


class Page(NamedTuple):
    """Everything that the template shows, as text and tables; it escapes all of it but the pictures."""

    title: str
    summary: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    problems: Sequence[str] = ()
    leaderboards: Sequence[LeaderboardView] = ()
    sections: Sequence[FigureSection] = ()
    paper: PaperView = PaperView()
    paper_first: bool = False
    students: Sequence[tuple[str, Table]] = ()
    students_note: str = STUDENTS_NOTE
    methods: Sequence[tuple[str, Table]] = ()
    methods_note: str = METHODS_NOTE
    sweeps: Table = Table((), ())
    trials: Sequence[TrialsView] = ()


def render(page: Page) -> str:
    """The page as HTML, with nothing outside it."""
    files = resources.files("analysis.page")

    def load(name: str) -> str:
        return (files / name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    template = environment.from_string(load("page.html.j2"))
    return template.render(page=page, css=Markup(load("page.css")), script=Markup(load("page.js")))


def lay_out(contents: Contents) -> Page:
    """The page of these contents."""
    boards = [leaderboard.compute(sweep) for sweep in contents.sweeps]
    summary, tiles = _summarize(contents, boards)
    paper = _paper(contents)
    sections = dict.fromkeys(figure.section for figure in contents.figures if figure.section != PAPER)
    return Page(
        title=contents.title,
        summary=summary,
        tiles=tiles,
        problems=contents.problems,
        leaderboards=[_leaderboard(*pair, contents) for pair in zip(contents.sweeps, boards, strict=True)],
        sections=[_section(contents, section) for section in sections],
        paper=paper,
        paper_first=paper.is_open and len(contents.sweeps) > 1,
        students=[(sweep, students_table(rows)) for sweep, rows in contents.students],
        methods=[(sweep, methods_table(rows)) for sweep, rows in contents.methods],
        sweeps=sweeps_table(contents.sweeps),
        trials=[_trials(sweep, contents) for sweep in contents.sweeps],
    )


def _summarize(contents: Contents, boards: Sequence[Leaderboard]) -> tuple[list[str], list[Tile]]:
    """The setting, how the trials stand, and for a single sweep the best students beside teacher and majority."""
    sweeps = contents.sweeps
    trials = [trial for sweep in sweeps for trial in sweep.trials]
    count = f"{pluralize(len(sweeps), 'sweep')}, " if len(sweeps) != 1 else ""
    summary = [describe_setting(setting_of(trials))] if trials else []
    summary.append(f"{count}{pluralize(len(trials), 'trial')}: {status_counts(trials)}.")
    if len(sweeps) != 1:
        return summary, []
    if not boards[0].boards:
        return [*summary, "No trial has ended with a student at its target sparsity yet."], []
    return summary, _tiles(boards[0], sweeps[0], contents)


def _tiles(board: Leaderboard, sweep: Sweep, contents: Contents) -> list[Tile]:
    """The best student at each sparsity, what it costs, and what it is to be compared with."""
    shown = board.boards[-MOST_TILES:]
    tiles = [_best_tile(one, sweep, contents) for one in shown]
    best = shown[-1].best
    if len(shown) == 1:
        achieved = format_number(best.achieved, ".4f")
        tiles.append(Tile("its sparsity", achieved, f"target {best.sparsity:g}"))
    metric = f"dev {metric_name(best.trial.metric)}"
    return [
        *tiles,
        Tile("dense teacher", format_score(best.trial.teacher_score), metric),
        Tile(baseline_name(best.trial), format_score(best.trial.majority_score), metric),
    ]


def _best_tile(board: Board, sweep: Sweep, contents: Contents) -> Tile:
    best, row = board.best, board.rows[0]
    spread = "" if row.deviation is None else f" ± {format_score(row.deviation)}"
    seeds = f", mean {format_score(row.mean)}{spread}" if len(row.students) > 1 else ""
    cost = [
        None if best.packed_bytes is None else f"{best.packed_bytes / 1e6:.2f} MB",
        None if best.latency_ms is None else f"{best.latency_ms:.2f} ms",
    ]
    note = ", ".join(filter(None, [f"{best.trial.selection}{seeds}", *cost]))
    link = checkpoint_cell(board.kept, sweep, contents.out)
    if isinstance(link, Link):
        link = link._replace(text=f"checkpoint {link.text}")
    return Tile(f"best at sparsity {board.sparsity:g}", format_score(best.score), note, link)


def _leaderboard(sweep: Sweep, board: Leaderboard, contents: Contents) -> LeaderboardView:
    views = []
    for one in board.boards:
        table = leaderboard_table(one, board.dimensions, sweep, contents.out, contents.mlflow)
        views.append(BoardView(f"{one.sparsity:g}", table, len(one.rows) - len(table.rows)))
    return LeaderboardView(sweep.name, views)


def _section(contents: Contents, section: str) -> FigureSection:
    mine = [figure for figure in contents.figures if figure.section == section]
    return FigureSection(re.sub(r"\W+", "-", section.lower()), section, _drawn(mine), _absent(mine))


def _drawn(figures: Iterable[DrawnFigure]) -> list[FigureView]:
    return [_figure(figure, figure.svg) for figure in figures if figure.svg]


def _absent(figures: Iterable[DrawnFigure]) -> list[tuple[str, str]]:
    return [(figure.title, figure.text) for figure in figures if not figure.svg]


def _figure(figure: DrawnFigure, svg: Path) -> FigureView:
    """A picture in which something is marked is written in as it is, so that the script finds the marks."""
    text = svg.read_text(encoding="utf-8")
    if 'id="run:' not in text:
        return FigureView(figure.name, figure.title, None, base64.b64encode(text.encode()).decode(), figure.text)
    inline = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg ") :], flags=re.DOTALL)
    inline = re.sub(r' id="(run:[^"]*)"', r' data-run="\1"', inline)
    inline = inline.replace("<svg ", f'<svg role="img" aria-label="{escape(figure.title)}" ', 1)
    return FigureView(figure.name, figure.title, Markup(inline), None, figure.text)


def _paper(contents: Contents) -> PaperView:
    mine = [figure for figure in contents.figures if figure.section == PAPER]
    asked = [figure for figure in mine if figure.is_asked_for]
    with_data = [result for result in contents.claims if result.verdict != NO_DATA]
    without = [result for result in contents.claims if result.verdict == NO_DATA]
    return PaperView(
        is_open=bool(asked) or any(isinstance(table, PaperTable) for _, table in contents.tables),
        claims=claims_table(with_data),
        without_data=claims_table(without),
        figures=_drawn(asked),
        other_figures=_drawn(figure for figure in mine if not figure.is_asked_for),
        absent=_absent(mine),
        tables=[_paper_table(name, table) for name, table in contents.tables],
    )


def _paper_table(name: str, table: PaperTable | str) -> PaperTableView:
    if isinstance(table, str):
        return PaperTableView(name, TITLES[name], None, table, printed_table(name))
    note = f"Scores in percent. From sweep {join(table.sweeps)}. {describe_exclusions(table.exclusions)}"
    return PaperTableView(name, TITLES[name], paper_table(table), note, printed_table(name), average_table(table))


def _trials(sweep: Sweep, contents: Contents) -> TrialsView:
    table = trials_table(sweep, contents.out, contents.mlflow)
    errors = [(trial.trial_id, trial.error) for trial in sweep.trials if trial.error]
    is_open = len(contents.sweeps) == 1
    return TrialsView(sweep.name, is_open, table, len(sweep.trials) - len(table.rows), errors[:MOST_TRIALS])
