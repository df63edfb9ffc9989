"""The leaderboard of a sweep, while it runs too, and from any machine that sees it: `python -m spd_ray.show SWEEP`.

`--sparsity 0.95 --path` prints the path of the best checkpoint alone, for scripts.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from spd_ray.base.errors import UserError, run_main
from spd_ray.base.installation import add_version, name_missing_package
from spd_ray.base.network import is_uri, join_place

if TYPE_CHECKING:
    from analysis.numbers.leaderboard import Board, Leaderboard, Row, Student
    from analysis.reading.sweeps import Sweep

NONE_YET = 1  # the exit code where no trial has ended with a student
MISSING = "-"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m spd_ray.show", description=(__doc__ or "").splitlines()[0])
    add_version(parser)
    parser.add_argument("sweep", metavar="SWEEP", help="the sweep's folder or URI, such as runs/demo")
    parser.add_argument("--sparsity", type=float, metavar="S", help="only students of this sparsity, such as 0.95")
    parser.add_argument("--rows", type=int, default=20, metavar="N", help="of each table, at most (default: 20)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--path", action="store_true", help="print the path of the best checkpoint and nothing else")
    form.add_argument("--json", action="store_true", help="print all rows as JSON")
    return parser.parse_args(arguments)


@name_missing_package("analysis", "spd_ray.show")
def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is asked for. Raises UserError where nothing can be read, or nothing is of that sparsity."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.rows < 1:
        raise UserError(f"--rows {options.rows}: at least 1 is needed")
    from analysis.numbers import leaderboard  # here, for it imports what may be missing

    sweep = read_sweep(options.sweep)
    board = select_sparsity(leaderboard.compute(sweep), options.sparsity)
    if options.path:
        return print_path(options.sweep, board)
    if options.json:
        print(json.dumps(as_data(options.sweep, sweep, board), indent=2))
    else:
        print("\n".join(describe(options.sweep, sweep, board, options.rows)))
    return 0 if board.boards else NONE_YET


def read_sweep(place: str) -> "Sweep":
    """The sweep at a path or a URI; of a folder of sweeps, their names are told. Raises UserError."""
    from analysis.errors import AnalysisError
    from analysis.reading import folders, sweeps

    try:
        folder = folders.open_folder(place)
        found = folders.find_sweeps(folder)
        if found and found[0].path != folder.path:
            names = ", ".join(one.name for one in found)
            raise UserError(f"{place}: holds no trials.parquet, but these sweeps: {names}; show one of them")
        return sweeps.read_sweep(folder)
    except AnalysisError as error:
        raise UserError(str(error)) from None


def select_sparsity(board: "Leaderboard", sparsity: float | None) -> "Leaderboard":
    """The board of that sparsity alone; all where it is None. Raises UserError where there is none."""
    if sparsity is None or not board.boards:
        return board
    found = tuple(one for one in board.boards if abs(one.sparsity - sparsity) < 1e-6)
    if not found:
        there = ", ".join(f"{one.sparsity:g}" for one in board.boards)
        raise UserError(f"--sparsity {sparsity:g}: no student was asked for at it; there are {there}")
    return board._replace(boards=found)


def print_path(place: str, board: "Leaderboard") -> int:
    """Print where the best student that was kept is. Raises UserError where students have several sparsities."""
    if not board.boards:
        print("no trial has ended with a student at its sparsity yet", file=sys.stderr)
        return NONE_YET
    if len(board.boards) > 1:
        there = ", ".join(f"{one.sparsity:g}" for one in board.boards)
        raise UserError(f"--path: the students are of several sparsities, {there}; choose one with --sparsity")
    (only,) = board.boards
    if only.kept is None:
        raise UserError(
            f"--path: no student of sparsity {only.sparsity:g} was kept; checkpoints.keep says how many are"
        )
    if only.kept != only.best:
        print(
            f"warning: {only.best.trial.trial_id} scored {only.best.score:.4f}, but its student was not kept; "
            f"this is {only.kept.trial.trial_id} with {only.kept.score:.4f}", file=sys.stderr,
        )  # fmt: skip
    print(locate(place, only.kept))
    return 0


def locate(place: str, student: "Student") -> str | None:
    """The path or URI of the student's checkpoint; None where it was not kept."""
    checkpoint = student.checkpoint
    return checkpoint if checkpoint is None or is_uri(checkpoint) else join_place(place, checkpoint)


def as_data(place: str, sweep: "Sweep", board: "Leaderboard") -> dict[str, Any]:
    """The leaderboard as JSON holds it."""
    return {
        "sweep": sweep.name,
        "place": place,
        "trials": status_counts(sweep),
        "dimensions": list(board.dimensions),
        "boards": [
            {"sparsity": one.sparsity, "rows": [_row_data(place, row) for row in one.rows]} for one in board.boards
        ],
    }


def status_counts(sweep: "Sweep") -> dict[str, int]:
    """How many trials there are of each status."""
    counts: dict[str, int] = {}
    for trial in sweep.trials:
        counts[trial.status] = counts.get(trial.status, 0) + 1
    return counts


def _row_data(place: str, row: "Row") -> dict[str, Any]:
    return {
        "configuration": row.configuration,
        "values": row.values,
        "method": row.best.trial.method,
        "mean": row.mean,
        "deviation": row.deviation,
        "running": row.running,
        "checkpoint": row.kept and locate(place, row.kept),
        "students": [
            {
                "trial": student.trial.trial_id,
                "seed": student.trial.seed,
                "status": student.trial.status,
                "metric": student.trial.metric,
                "selection": student.trial.selection,
                **{name: getattr(student, name) for name in student._fields if name not in ("trial", "checkpoint")},
                "checkpoint": locate(place, student),
            }
            for student in row.students
        ],
    }


def describe(place: str, sweep: "Sweep", board: "Leaderboard", most: int) -> list[str]:
    """The lines of the terminal: how the trials stand, then for each sparsity a table and its best checkpoint."""
    counts = ", ".join(f"{count} {status}" for status, count in status_counts(sweep).items()) or "none yet"
    lines = [f"sweep {sweep.name}: trials {counts}"]
    lines += _setting(sweep)
    if not board.boards:
        return [*lines, "no trial has ended with a student at its sparsity yet"]
    for one in board.boards:
        lines += ["", f"sparsity {one.sparsity:g}"]
        lines += align(_table(place, one, board.dimensions, most))
        if len(one.rows) > most:
            lines.append(f"{len(one.rows) - most} more: --rows {len(one.rows)}")
        best = MISSING if one.kept is None else locate(place, one.kept)
        lines.append(f"best checkpoint: {best}")
    return lines


def _setting(sweep: "Sweep") -> list[str]:
    """Task, metric and what is to be beaten, where one line can say it."""
    from analysis.wording.names import baseline_name

    known = {
        (trial.task, trial.metric, trial.selection, trial.teacher_score, trial.majority_score, baseline_name(trial))
        for trial in sweep.trials if trial.teacher_score is not None
    }  # fmt: skip
    if len(known) != 1:
        return []
    ((task, metric, selection, teacher, score, baseline),) = known
    return [f"{task}, {selection} {metric}: dense teacher {_score(teacher)}, {baseline} {_score(score)}"]


def _table(place: str, board: "Board", dimensions: Sequence[str], most: int) -> list[list[str]]:
    """The heading and a row a configuration, as text; columns that nothing fills are left out."""
    heading = ["", "trial", "mean", "+-", "n", "best", "dev", "achieved", "MB", "ms", *dimensions, "checkpoint"]
    rows = [
        [
            str(number), row.best.trial.trial_id, _score(row.mean), _score(row.deviation), str(len(row.students)),
            _score(row.best.score), _score(row.best.dev_score), _score(row.best.achieved), _size(row.best.packed_bytes),
            MISSING if row.best.latency_ms is None else f"{row.best.latency_ms:.2f}",
            *(_value(row.values[name]) for name in dimensions),
            (row.kept and locate(place, row.kept)) or MISSING,
        ]
        for number, row in enumerate(board.rows[:most], 1)
    ]  # fmt: skip
    filled = [index for index in range(len(heading)) if any(row[index] != MISSING for row in rows)]
    return [[line[index] for index in filled] for line in [heading, *rows]]


def _score(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4f}"


def _size(packed_bytes: int | None) -> str:
    return MISSING if packed_bytes is None else f"{packed_bytes / 1e6:.2f}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return MISSING if value is None else str(value)


def align(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: numbers to the right, words to the left; a heading of two words stands in two lines.

    >>> align([["a", "long_name"], ["x", "0.5"], ["yy", "10"]])
    ['    long', 'a   name', 'x    0.5', 'yy    10']
    """
    heading, *rows = table
    parts = [name.replace(".", "_").split("_") for name in heading]
    depth = max(map(len, parts))
    lines = [[([""] * (depth - len(part)) + part)[level] for part in parts] for level in range(depth)]
    widths = [max(map(len, column)) for column in zip(*lines, *rows, strict=True)]
    numeric = [all(_is_number(row[index]) for row in rows) for index in range(len(heading))]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [*lines, *rows]
    ]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == MISSING
    return True


def run() -> NoReturn:
    """The command `spd-show`."""
    run_main(main)


if __name__ == "__main__":
    run()
