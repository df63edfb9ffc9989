"""`python -m analysis --runs runs --out report`, or `--sweep runs/demo`: figures, tables, claims and the page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.errors import AnalysisError, NoData
from analysis.page import html as report
from analysis.page import result_tables as listings
from analysis.page import table as sheets
from analysis.page.figure_list import Panel, panels
from analysis.paper import claims
from analysis.paper import method_comparison as comparison
from analysis.paper import tables_1_and_2 as scoreboard
from analysis.reading.folders import open_folder
from analysis.reading.sweeps import Tables, read_sweeps, read_tables


def main(arguments: Sequence[str] | None = None) -> list[str]:
    """Write the report, print what was written and what could not be; returns the problems, a line each."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--runs", help="a folder or URI that holds sweeps, such as runs or s3://bucket/runs")
    where.add_argument("--sweep", help="one sweep's folder or URI, such as runs/demo")
    parser.add_argument("--trial", help="the trial (ID or SWEEP/ID) of Figure 4 and the curves (default: a best one)")
    parser.add_argument("--out", type=Path, help="where the report goes (default: report in the folder read)")
    parser.add_argument("--mlflow", help="the MLflow server that run links lead to, such as http://localhost:5000")
    options = parser.parse_args(arguments)
    problems: list[str] = []
    if options.sweep is None:
        sweeps, title = read_sweeps(options.runs, problems.append), f"Trial data of {open_folder(options.runs).name}"
    else:
        sweeps = [read_tables(options.sweep)]
        title = f"Sweep {sweeps[0].name}"
    out = _out(options.out, options.sweep or options.runs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        contents = report.Contents(title, out, sweeps, problems, (), (), (), options.mlflow)
        return write_report(contents, panels(options.trial))
    except OSError as error:
        raise AnalysisError(f"{out}: the report cannot be written there: {error.strerror}") from error


def _out(given: Path | None, read: str) -> Path:
    if given is not None:
        return given
    if "://" in read:
        raise AnalysisError("--out is needed where sweeps are read from a URI")
    return Path(read) / "report"


def write_report(contents: report.Contents, figures: Sequence[Panel]) -> list[str]:
    """Write each figure (PNG, SVG), claims.md, tables.md and index.html, and print a line for each.

    Returns the problems, those that `contents` has and each thing that is broken once. The rest is written.
    """
    problems = list(contents.problems)
    entries = [_write_figure(contents, panel, problems) for panel in figures]
    boards = [(name, _board(contents.sweeps, name)) for name in scoreboard.TITLES]
    contents = contents._replace(
        claims=claims.examine(contents.sweeps), entries=entries, boards=boards, problems=problems
    )
    _write(contents.out / "claims.md", _claims_text(contents))
    _write(contents.out / "tables.md", _tables_text(contents))
    _write(contents.out / "index.html", report.page(contents))
    return problems


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


def _write_figure(contents: report.Contents, panel: Panel, problems: list[str]) -> report.Entry:
    """The figure's files, or, where there is nothing to draw, none and the reason."""
    stem = contents.out / panel.name
    try:
        numbers = panel.compute(contents.sweeps)
    except (NoData, AnalysisError) as reason:
        for stale in (stem.with_suffix(".png"), stem.with_suffix(".svg")):
            stale.unlink(missing_ok=True)
        if isinstance(reason, AnalysisError) and str(reason) not in problems:
            problems.append(str(reason))
        print(f"no {panel.name}: {reason}")
        return report.Entry(panel.section, panel.name, panel.title, None, str(reason))
    caption = panel.caption(numbers)
    picture: Figure = panel.figure(numbers)
    png, svg = style.save(picture, stem, caption)
    print(f"wrote {png}\nwrote {svg}")
    return report.Entry(panel.section, panel.name, panel.title, svg, caption)


def _board(sweeps: Sequence[Tables], name: str) -> scoreboard.Board | str:
    try:
        return scoreboard.compute(sweeps, name)
    except NoData as reason:
        return str(reason)


def _claims_text(contents: report.Contents) -> str:
    return f"# The paper's claims\n\n{sheets.markdown(listings.claims(contents.claims))}\n{report.CLAIMS_NOTE}\n"


def _tables_text(contents: report.Contents) -> str:
    parts = ["# The paper's tables, ours beside the printed values\n"]
    for name, board in contents.boards:
        body = f"No table: {board}.\n" if isinstance(board, str) else sheets.markdown(listings.board(board))
        printed = sheets.markdown(listings.printed(int(name[-1])))
        parts.append(f"## {scoreboard.TITLES[name]}\n\n{body}\nAs printed in the paper:\n\n{printed}")
    for tables in contents.sweeps:
        if rows := comparison.compute(tables):
            side_by_side = sheets.markdown(listings.methods(rows))
            parts.append(f"## Methods side by side in {tables.name}\n\n{report.METHODS_NOTE}\n\n{side_by_side}")
    return "\n".join(parts)


def run() -> None:
    """The command: each problem becomes one line on stderr, and exit code 2 where there was any."""
    try:
        problems = main()
    except AnalysisError as error:
        problems = [str(error)]
    for problem in problems:
        print("error: " + " ".join(problem.split()), file=sys.stderr)
    sys.exit(2 if problems else 0)


if __name__ == "__main__":
    run()
