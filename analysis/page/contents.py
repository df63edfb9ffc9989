"""What the report is made of, before it becomes files."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from analysis.errors import AnalysisError, NoData
from analysis.numbers import retained_students
from analysis.numbers.retained_students import Student
from analysis.paper import method_comparison, tables_1_and_2
from analysis.paper.method_comparison import MethodRow
from analysis.paper.tables_1_and_2 import PaperTable
from analysis.paper.verdicts import Result
from analysis.reading.sweeps import Sweep


class DrawnFigure(NamedTuple):
    """A figure of the page: where its SVG is and its caption, or (svg None) why there is none."""

    section: str
    name: str
    title: str
    svg: Path | None
    text: str
    is_asked_for: bool = True  # else it is folded


class Contents(NamedTuple):
    """What was read and what was made of it."""

    title: str
    out: Path  # the folder of the report
    sweeps: Sequence[Sweep]
    mlflow: str | None  # the MLflow server to which run links lead; None: each sweep's own
    problems: Sequence[str]  # one line each
    claims: Sequence[Result] = ()
    figures: Sequence[DrawnFigure] = ()
    tables: Sequence[tuple[str, PaperTable | str]] = ()  # "table1" or "table2", and the table or why there is none
    methods: Sequence[tuple[str, Sequence[MethodRow]]] = ()  # a sweep's name and its methods side by side
    students: Sequence[tuple[str, Sequence[Student]]] = ()  # a sweep's name and its retained students


def compute_tables(sweeps: Sequence[Sweep]) -> list[tuple[str, PaperTable | str]]:
    """Tables 1 and 2 by name, or why there is none."""
    return [(name, _table_or_reason(sweeps, name)) for name in tables_1_and_2.TITLES]


def _table_or_reason(sweeps: Sequence[Sweep], name: str) -> PaperTable | str:
    try:
        return tables_1_and_2.compute(sweeps, name)
    except NoData as reason:
        return str(reason)


def compare_methods(sweeps: Sequence[Sweep]) -> list[tuple[str, Sequence[MethodRow]]]:
    """The methods side by side of each sweep that has several."""
    compared = [(sweep.name, method_comparison.compute(sweep)) for sweep in sweeps]
    return [(name, rows) for name, rows in compared if rows]


def compare_students(sweeps: Sequence[Sweep], problems: list[str]) -> list[tuple[str, Sequence[Student]]]:
    """The retained students of each sweep that keeps predictions; a broken file is a line of `problems`."""
    compared: list[tuple[str, Sequence[Student]]] = []
    for sweep in sweeps:
        try:
            students = retained_students.compute(sweep)
        except AnalysisError as error:
            problems.append(str(error))
            continue
        compared += [(sweep.name, students)] if students else []
    return compared
