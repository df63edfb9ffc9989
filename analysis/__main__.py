"""`python -m analysis --runs runs --out report`, or `--sweep runs/demo`: figures, tables, claims and the page."""

import argparse
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from analysis.errors import AnalysisError

NEEDS = {  # module -> package, of the extra `analysis`; optuna and scikit-learn are for the importances alone
    "jinja2": "jinja2",
    "markupsafe": "markupsafe",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "yaml": "pyyaml",
}


def main(arguments: Sequence[str] | None = None) -> list[str]:
    """Write the report, print what was written and what could not be; returns the problems, one line each.

    Raises AnalysisError where nothing can be read, or the report cannot be written.
    """
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--runs", help="a folder or URI that holds sweeps, such as runs or s3://bucket/runs")
    where.add_argument("--sweep", help="one sweep's folder or URI, such as runs/demo")
    parser.add_argument("--trial", help="the trial (ID or SWEEP/ID) of Figure 4 and the curves (default: a best one)")
    parser.add_argument("--out", type=Path, help="where the report goes (default: report in the folder read)")
    parser.add_argument("--mlflow", help="the MLflow server that run links lead to, such as http://localhost:5000")
    parser.add_argument("--version", action="version", version=f"spd_ray {_version()}", help="print it and exit")
    options = parser.parse_args(arguments)

    from analysis.page.contents import Contents  # here, for they import what may be missing and takes seconds
    from analysis.page.figure_list import list_figures
    from analysis.page.report import write_report
    from analysis.reading.folders import open_folder
    from analysis.reading.sweeps import read_sweep, read_sweeps

    problems: list[str] = []
    if options.sweep is None:
        sweeps, title = read_sweeps(options.runs, problems.append), f"Trial data of {open_folder(options.runs).name}"
    else:
        sweeps = [read_sweep(options.sweep)]
        title = f"Sweep {sweeps[0].name}"
    out = _report_folder(options.out, options.sweep or options.runs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return write_report(Contents(title, out, sweeps, options.mlflow, problems), list_figures(options.trial))
    except OSError as error:
        raise AnalysisError(f"{out}: the report cannot be written there: {error.strerror}") from error


def _version() -> str:
    try:
        return metadata.version("spd_ray")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return str(tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"])


def _report_folder(given: Path | None, place: str) -> Path:
    if given is not None:
        return given
    if "://" in place:
        raise AnalysisError("--out is needed where sweeps are read from a URI")
    return Path(place) / "report"


def run() -> None:
    """The command (`spd-analysis` too): a problem becomes one line on stderr, and exit code 2 where there was any."""
    try:
        problems = main()
    except AnalysisError as error:
        problems = [str(error)]
    except ModuleNotFoundError as error:
        if error.name not in NEEDS:
            raise
        problems = [f"analysis needs the package {NEEDS[error.name]}: pip install 'spd_ray[analysis]'"]
    for problem in problems:
        print("error: " + " ".join(problem.split()), file=sys.stderr)
    sys.exit(2 if problems else 0)


if __name__ == "__main__":
    run()
