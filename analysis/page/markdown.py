"""claims.md and tables.md."""

from analysis.page.contents import Contents
from analysis.page.result_tables import (
    METHODS_NOTE,
    average_table,
    claims_table,
    methods_table,
    paper_table,
    printed_table,
)
from analysis.page.student_tables import STUDENTS_NOTE, students_table
from analysis.page.table import format_markdown
from analysis.paper.tables_1_and_2 import TITLES
from analysis.paper.verdicts import NOTE as CLAIMS_NOTE


def format_claims(contents: Contents) -> str:
    """The text of claims.md."""
    return f"# The paper's claims\n\n{format_markdown(claims_table(contents.claims))}\n{CLAIMS_NOTE}\n"


def format_tables(contents: Contents) -> str:
    """The text of tables.md: Tables 1 and 2, ours and as printed; methods side by side; retained students."""
    parts = ["# The paper's tables, ours beside the printed values\n"]
    for name, table in contents.tables:
        body = f"No table: {table}.\n"
        if not isinstance(table, str):
            by_task = format_markdown(average_table(table))
            body = f"{format_markdown(paper_table(table))}\nBy task, and on average:\n\n{by_task}"
        printed = format_markdown(printed_table(name))
        parts.append(f"## {TITLES[name]}\n\n{body}\nAs printed in the paper:\n\n{printed}")
    for sweep, rows in contents.methods:
        side_by_side = format_markdown(methods_table(rows))
        parts.append(f"## Methods side by side in {sweep}\n\n{METHODS_NOTE}\n\n{side_by_side}")
    for sweep, students in contents.students:
        examined = format_markdown(students_table(students))
        parts.append(f"## Retained students of {sweep} over dev examples\n\n{STUDENTS_NOTE}\n\n{examined}")
    return "\n".join(parts)
