"""The retained students of a sweep as a table, over the examples of dev."""

from collections.abc import Sequence

from analysis.numbers.retained_students import Difference, Student
from analysis.page.table import Heading, Table
from analysis.wording.formatting import format_number, format_p, format_score, format_signed

STUDENTS_NOTE = (
    "Intervals: 95%, over resampled dev examples, conditional on each trained student: a seed is another student. "
    "p: McNemar's exact test of the two models' errors on the same examples (a regression task: the paired bootstrap), "
    "adjusted for the tests of the table (Holm). Students that were chosen on dev are too good on it, and the best of "
    "them most."
)


def students_table(students: Sequence[Student]) -> Table:
    """A row per student and model that it is compared with."""
    headings = (
        Heading("trial"), Heading("method"), Heading("sparsity"), Heading("dev"), Heading("95%", "over examples"),
        Heading("examples"), Heading("minus"), Heading("difference"), Heading("95%", "paired, over examples"),
        Heading("p"),
    )  # fmt: skip
    rows = [_row(student, difference) for student in students for difference in student.differences]
    return Table(headings, rows)


def _row(student: Student, difference: Difference) -> list[str]:
    trial = student.trial
    return [
        trial.trial_id, trial.method, format_number(trial.achieved_sparsity, ".3f"), format_score(student.score),
        f"{format_score(student.low)} to {format_score(student.high)}", str(student.examples), difference.other,
        format_signed(difference.value), f"{format_signed(difference.low)} to {format_signed(difference.high)}",
        format_p(difference.p),
    ]  # fmt: skip
