"""Writing of the report: each figure's PNG and SVG, claims.md, tables.md and index.html."""

from collections.abc import Sequence
from pathlib import Path

from analysis.drawing import style
from analysis.errors import AnalysisError, NoData
from analysis.page import html, markdown
from analysis.page.contents import Contents, DrawnFigure, compare_methods, compare_students, compute_tables
from analysis.page.figure_list import ReportFigure
from analysis.paper import claims


def write_report(contents: Contents, figures: Sequence[ReportFigure]) -> list[str]:
    """Write every file of the report into `contents.out`, and print one line for each.

    Returns the problems, those that `contents` has and everything that is broken, once each. The rest is written.
    """
    problems = list(contents.problems)
    contents = contents._replace(
        figures=[_write_figure(contents, figure, problems) for figure in figures],
        claims=claims.examine(contents.sweeps),
        tables=compute_tables(contents.sweeps),
        methods=compare_methods(contents.sweeps),
        students=compare_students(contents.sweeps, problems),
        problems=problems,
    )
    _write(contents.out / "claims.md", markdown.format_claims(contents))
    _write(contents.out / "tables.md", markdown.format_tables(contents))
    _write(contents.out / "index.html", html.render(html.lay_out(contents)))
    return problems


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


def _write_figure(contents: Contents, figure: ReportFigure, problems: list[str]) -> DrawnFigure:
    """The figure's files, or, where there is nothing to draw, none and the reason."""
    stem, is_asked_for = contents.out / figure.name, figure.is_asked_for(contents.sweeps)
    try:
        numbers = figure.compute(contents.sweeps)
    except (NoData, AnalysisError) as reason:
        for stale in (stem.with_suffix(".png"), stem.with_suffix(".svg")):
            stale.unlink(missing_ok=True)
        place = str(reason).partition(": ")[0]  # one line a broken file, however many figures come upon it
        if isinstance(reason, AnalysisError) and not any(line.startswith(f"{place}: ") for line in problems):
            problems.append(str(reason))
        print(f"no {figure.name}: {reason}")
        return DrawnFigure(figure.section, figure.name, figure.title, None, str(reason), is_asked_for)
    caption = figure.caption(numbers)
    png, svg = style.save(figure.figure(numbers), stem, caption)
    print(f"wrote {png}\nwrote {svg}")
    return DrawnFigure(figure.section, figure.name, figure.title, svg, caption, is_asked_for)
