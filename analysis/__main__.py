"""`python -m analysis --sweep runs/demo [--trial ID] [--out DIR]`: the figures and the page of one sweep."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from analysis import curves, fig04, fig08, report, style
from analysis.tables import AnalysisError, NoData, Tables, read_tables


class Panel(NamedTuple):
    """One figure of the report: numbers from the tables, then a picture and a caption from the numbers."""

    name: str
    title: str
    compute: Callable[[Tables], Any]
    figure: Callable[[Any], Figure]
    caption: Callable[[Any], str]


def panels(trial_id: str | None) -> list[Panel]:
    """The figures in the order of the page; those of one trial are of `trial_id`, by default of the best."""
    curves_title = curves.TITLE if trial_id is None else f"Train and dev score of trial {trial_id}"
    return [
        Panel(fig04.NAME, fig04.TITLE, partial(fig04.compute, trial_id=trial_id), fig04.figure, fig04.caption),
        Panel(fig08.NAME, fig08.TITLE, fig08.compute, fig08.figure, fig08.caption),
        Panel(curves.NAME, curves_title, partial(curves.compute, trial_id=trial_id), curves.figure, curves.caption),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the figures and the page, and print what was written and what could not be."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    parser.add_argument("--sweep", type=Path, required=True, help="a sweep's folder, such as runs/demo")
    parser.add_argument("--trial", help="the trial that Figure 4 and the curves show (default: the best)")
    parser.add_argument("--out", type=Path, help="where the report goes (default: <sweep>/report)")
    options = parser.parse_args(arguments)
    tables = read_tables(options.sweep)
    out = options.out or options.sweep / "report"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lines = write_report(tables, panels(options.trial), out)
    except OSError as error:
        raise AnalysisError(f"{out}: the report cannot be written there: {error.strerror}") from error
    print("\n".join(lines))


def write_report(tables: Tables, figures: Sequence[Panel], out: Path) -> list[str]:
    """Write each figure (PNG, SVG) and index.html into the folder `out`; returns the lines to print."""
    entries, lines = [], []
    for panel in figures:
        stem = out / panel.name
        try:
            numbers = panel.compute(tables)
        except NoData as reason:
            for stale in (stem.with_suffix(".png"), stem.with_suffix(".svg")):
                stale.unlink(missing_ok=True)
            entries.append(report.Entry(panel.name, panel.title, None, str(reason)))
            lines.append(f"no {panel.name}: {reason}")
            continue
        caption = panel.caption(numbers)
        png, svg = style.save(panel.figure(numbers), stem, caption)
        entries.append(report.Entry(panel.name, panel.title, svg, caption))
        lines += [f"wrote {png}", f"wrote {svg}"]
    index = out / "index.html"
    index.write_text(report.page(tables, entries), encoding="utf-8")
    return [*lines, f"wrote {index}"]


def run() -> None:
    """The command: an AnalysisError becomes one line on stderr and exit code 2."""
    try:
        main()
    except AnalysisError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
