"""index.html: what the template shows, and its rendering into one self-contained page."""

import base64
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from analysis.drawing.captions import describe_exclusions, describe_setting
from analysis.errors import NoData
from analysis.numbers.figure_data import choose_trial
from analysis.page.contents import Contents, DrawnFigure
from analysis.page.result_tables import (
    METHODS_NOTE,
    claims_table,
    methods_table,
    paper_table,
    printed_table,
)
from analysis.page.sweep_tables import MOST_TRIALS, sweeps_table, trials_table
from analysis.page.table import Table
from analysis.paper.tables_1_and_2 import TITLES, PaperTable
from analysis.paper.verdicts import NOTE as CLAIMS_NOTE
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Trial, setting_of, status_counts
from analysis.wording.formatting import format_number, format_score, join, pluralize
from analysis.wording.names import metric_name


class Tile(NamedTuple):
    """One number of the summary."""

    label: str
    value: str
    note: str


class FigureView(NamedTuple):
    """A figure; `image` is its SVG in base64, None where there is none and `text` says why."""

    name: str
    title: str
    image: str | None
    text: str


class PaperTableView(NamedTuple):
    """Table 1 or 2: ours with a note, or (None) the reason in its place; and the paper's own."""

    name: str
    title: str
    ours: Table | None
    note: str
    printed: Table


class TrialsView(NamedTuple):
    """A sweep's trials, folded unless `is_open`, and its failed trials with their errors."""

    sweep: str
    is_open: bool
    table: Table
    more: int  # trials that are not shown
    errors: Sequence[tuple[str, str]]  # trial_id, error


class Page(NamedTuple):
    """Everything that the template shows, as text and tables; it escapes all of it."""

    title: str
    summary: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    problems: Sequence[str] = ()
    claims: Table = Table((), ())
    claims_note: str = CLAIMS_NOTE
    sections: Sequence[tuple[str, Sequence[FigureView]]] = ()
    tables: Sequence[PaperTableView] = ()
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
    summary, tiles = _summarize(contents.sweeps)
    sections = dict.fromkeys(figure.section for figure in contents.figures)
    return Page(
        title=contents.title,
        summary=summary,
        tiles=tiles,
        problems=contents.problems,
        claims=claims_table(contents.claims),
        sections=[
            (section, [_figure(figure) for figure in contents.figures if figure.section == section])
            for section in sections
        ],
        tables=[_paper_table(name, table) for name, table in contents.tables],
        methods=[(sweep, methods_table(rows)) for sweep, rows in contents.methods],
        sweeps=sweeps_table(contents.sweeps),
        trials=[_trials(sweep, contents) for sweep in contents.sweeps],
    )


def _summarize(sweeps: Sequence[Sweep]) -> tuple[list[str], list[Tile]]:
    """The setting, how the trials stand, and for a single sweep the best student beside teacher and majority."""
    trials = [trial for sweep in sweeps for trial in sweep.trials]
    count = f"{pluralize(len(sweeps), 'sweep')}, " if len(sweeps) != 1 else ""
    summary = [describe_setting(setting_of(trials))] if trials else []
    summary.append(f"{count}{pluralize(len(trials), 'trial')}: {status_counts(trials)}.")
    if len(sweeps) != 1:
        return summary, []
    try:
        return summary, _tiles(choose_trial(sweeps, None)[1])
    except NoData as reason:
        return [*summary, f"No best trial: {reason}."], []


def _tiles(best: Trial) -> list[Tile]:
    metric = f"dev {metric_name(best.metric)}"
    sparsity = format_number(best.achieved_sparsity, ".4f")
    return [
        Tile("best sparse student", format_score(best.best_score), f"{best.selection}, trial {best.trial_id}"),
        Tile("its sparsity", sparsity, f"target {best.target_sparsity:g}"),
        Tile("dense teacher", format_score(best.teacher_score), metric),
        Tile("majority class", format_score(best.majority_score), metric),
    ]


def _figure(figure: DrawnFigure) -> FigureView:
    image = None if figure.svg is None else base64.b64encode(figure.svg.read_bytes()).decode()
    return FigureView(figure.name, figure.title, image, figure.text)


def _paper_table(name: str, table: PaperTable | str) -> PaperTableView:
    if isinstance(table, str):
        return PaperTableView(name, TITLES[name], None, table, printed_table(name))
    note = f"Scores in percent. From sweep {join(table.sweeps)}. {describe_exclusions(table.exclusions)}"
    return PaperTableView(name, TITLES[name], paper_table(table), note, printed_table(name))


def _trials(sweep: Sweep, contents: Contents) -> TrialsView:
    table = trials_table(sweep, contents.out, contents.mlflow)
    errors = [(trial.trial_id, trial.error) for trial in sweep.trials if trial.error]
    is_open = len(contents.sweeps) == 1
    return TrialsView(sweep.name, is_open, table, len(sweep.trials) - len(table.rows), errors[:MOST_TRIALS])
