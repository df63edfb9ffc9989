"""Tables as data, and their two forms: HTML that can be sorted, and Markdown."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from analysis.wording import formatting as words

NONE = "–"
_TEXT = ' class="text"'


class Link(NamedTuple):
    """A cell's text with where it leads; without an address, or to one that no browser opens, it is text."""

    text: str
    address: str | None


Cell = str | Link


class Sheet(NamedTuple):
    """Headings with their explanations, and rows of cells; the first cell of a row names it."""

    headings: tuple[tuple[str, str], ...]  # (text, explanation, "" where the text says it all)
    rows: tuple[tuple[Cell, ...], ...]
    faint: frozenset[int] = frozenset()  # rows that have no part in comparisons
    wraps: frozenset[int] = frozenset()  # columns of running text
    marks: tuple[str, ...] = ()  # a class name a row, or none at all


def number(value: float | None, form: str) -> str:
    """A number in the format `form` with a true minus; a dash where there is none.

    >>> number(-0.25, ".2f"), number(None, ".2f")
    ('−0.25', '–')
    """
    return NONE if value is None else format(value, form).replace("-", "−")


def score(value: float | None) -> str:
    """A score or a difference of scores as a fraction, three digits."""
    return number(value, ".3f")


def signed(value: float | None) -> str:
    """A difference with its sign."""
    return NONE if value is None else words.signed(value)


def html(sheet: Sheet) -> str:
    """The table as HTML; the page's script lets a reader sort it by any column."""
    head = "".join(
        f'<th scope="col"{_title(note)}{_TEXT if column in sheet.wraps else ""}>{escape(text)}</th>'
        for column, (text, note) in enumerate(sheet.headings)
    )
    rows = "\n".join(_row(sheet, index) for index in range(len(sheet.rows)))
    return (
        f'<div class="scroll" tabindex="0"><table class="sortable"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _title(note: str) -> str:
    return f' title="{escape(note)}"' if note else ""


def _row(sheet: Sheet, index: int) -> str:
    first, *rest = sheet.rows[index]
    names = [*(["out"] if index in sheet.faint else []), *([sheet.marks[index]] if sheet.marks else [])]
    kind = f' class="{" ".join(names)}"' if names else ""
    cells = "".join(
        f"<td{_TEXT if column in sheet.wraps else ''}>{_cell(cell)}</td>" for column, cell in enumerate(rest, start=1)
    )
    return f'<tr{kind}><th scope="row">{_cell(first)}</th>{cells}</tr>'


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    if cell.address is None:
        return escape(cell.text)
    if "://" in cell.address and not cell.address.startswith(("http://", "https://")):
        return f"<span{_title(cell.address)}>{escape(cell.text)}</span>"
    return f'<a href="{escape(cell.address)}">{escape(cell.text)}</a>'


def markdown(sheet: Sheet) -> str:
    """The table as Markdown."""
    lines = [_line([text for text, _ in sheet.headings]), _line(["---"] * len(sheet.headings))]
    lines += [_line([cell if isinstance(cell, str) else cell.text for cell in row]) for row in sheet.rows]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
