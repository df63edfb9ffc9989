"""A table as data, for the page and for Markdown alike."""

from collections.abc import Sequence
from typing import NamedTuple


class Link(NamedTuple):
    """A cell's text with its address; None where there is nothing to open."""

    text: str
    address: str | None

    @property
    def opens(self) -> bool:
        """Whether a browser opens the address: a path, or a URI of the web; not s3://, for example."""
        return self.address is not None and (
            "://" not in self.address or self.address.startswith(("http://", "https://"))
        )


Cell = str | Link


class Heading(NamedTuple):
    """A column's heading and, where that does not say it all, its explanation."""

    text: str
    note: str = ""
    wraps: bool = False  # a column of running text


class Table(NamedTuple):
    """Headings and rows of cells; the first cell of a row names it."""

    headings: Sequence[Heading]
    rows: Sequence[Sequence[Cell]]
    classes: Sequence[str] = ()  # what the style calls each row; none at all, or one per row
    keys: Sequence[str] = ()  # by which pictures and links find each row; none at all, or one per row

    @property
    def marked_rows(self) -> list[tuple[str, str, Sequence[Cell]]]:
        """The rows, each with its class and its key."""
        none = [""] * len(self.rows)
        return list(zip(self.classes or none, self.keys or none, self.rows, strict=True))

    def without_empty_columns(self, missing: str) -> "Table":
        """The table without the columns in which every cell is `missing`."""
        filled = [index for index in range(len(self.headings)) if any(row[index] != missing for row in self.rows)]
        rows = [[row[index] for index in filled] for row in self.rows]
        return self._replace(headings=[self.headings[index] for index in filled], rows=rows)


def format_markdown(table: Table) -> str:
    """The table in Markdown."""
    lines = [_line([heading.text for heading in table.headings]), _line(["---"] * len(table.headings))]
    lines += [_line([cell if isinstance(cell, str) else cell.text for cell in row]) for row in table.rows]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
