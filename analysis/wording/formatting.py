"""Numbers, lists and counts as text."""

from collections.abc import Iterable, Sequence

MISSING = "–"  # where a table has no number


def join(values: Iterable[object]) -> str:
    """Values for running text.

    >>> join([0, 1, 2]), join([0.9])
    ('0, 1 and 2', '0.9')
    """
    texts = [str(value) for value in values]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def join_shortened(values: Iterable[object], most: int = 8) -> str:
    """Values for running text, abridged in the middle where there are more than `most`.

    >>> join_shortened(range(20), most=3)
    '0, 1, ..., 19 (20 values)'
    """
    texts = [str(value) for value in values]
    if len(texts) <= most:
        return join(texts)
    return f"{', '.join(texts[: most - 1])}, ..., {texts[-1]} ({len(texts)} values)"


def format_seeds(seeds: Sequence[int]) -> str:
    """Ascending seeds for running text.

    >>> format_seeds([0, 1]), format_seeds([0, 1, 2, 3]), format_seeds([1, 5, 9])
    ('0 and 1', '0 to 3', '1, 5 and 9')
    """
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return join_shortened(seeds)


def pluralize(count: int, noun: str) -> str:
    """The count with its noun.

    >>> pluralize(1, "seed"), pluralize(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def capitalize(text: str) -> str:
    """The text with a capital first letter, the rest as it is.

    >>> capitalize("best dev F1")
    'Best dev F1'
    """
    return text[:1].upper() + text[1:]


def format_counts(counts: Sequence[int]) -> str:
    """How many trials there are per value.

    >>> format_counts([3, 3]), format_counts([2, 5, 3])
    ('n = 3', 'n = 2 to 5')
    """
    least, most = min(counts), max(counts)
    return f"n = {least}" if least == most else f"n = {least} to {most}"


def format_number(value: float | None, form: str) -> str:
    """A number in the format `form` with a true minus sign; a dash where there is none.

    >>> format_number(-0.25, ".2f"), format_number(None, ".2f")
    ('−0.25', '–')
    """
    return MISSING if value is None else format(value, form).replace("-", "−")


def format_score(value: float | None) -> str:
    """A score as a fraction, three digits."""
    return format_number(value, ".3f")


def format_signed(value: float | None) -> str:
    """A difference of scores with its sign, three digits.

    >>> format_signed(0.25), format_signed(-0.1)
    ('+0.250', '−0.100')
    """
    return format_number(value, "+.3f")


def format_p(value: float) -> str:
    """A p-value, three digits; never zero, which no test gives.

    >>> format_p(0.0254), format_p(2e-7)
    ('0.025', '< 0.001')
    """
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_rate(value: float) -> str:
    """A learning rate with as few digits as it has, at most three.

    >>> format_rate(3.2e-4), format_rate(0.003)
    ('3.2e-4', '3e-3')
    """
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def format_value(value: object) -> str:
    """A value of a dimension, short.

    >>> format_value(0.6), format_value(3.2e-4), format_value("two_decays")
    ('0.6', '3.2e-4', 'two decays')
    """
    if isinstance(value, float):
        return format_rate(value) if 0 < abs(value) < 0.01 else f"{value:.4g}"
    return str(value).replace("_", " ")
