"""Figure 9: two independent learning-rate decays, Eq. (6), against one decay over all of training."""

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import captions, style
from analysis.numbers import over_steps as overtime
from analysis.numbers.figure_data import LR_SCHEDULE
from analysis.numbers.over_steps import Look, OverTime
from analysis.reading.sweeps import Tables
from analysis.wording import formatting as words

NAME = "fig09"
TITLE = "Two learning-rate schedules against one (Figure 9)"
LOOKS = {
    "two_decays": Look("two decays", style.SPD, "o"),
    "one_decay": Look("one decay", style.INSTEAD, "s", "--"),
}


def compute(sweeps: Sequence[Tables]) -> OverTime:
    """The trials by learning-rate schedule. Raises NoData where no sweep has two."""
    return overtime.compute(sweeps, NAME, LR_SCHEDULE)


def looks(numbers: OverTime) -> list[Look]:
    """How each schedule is drawn."""
    return [LOOKS.get(group.value, Look(words.short(group.value), style.INK, "^", ":")) for group in numbers.groups]


def draw(numbers: OverTime, axes: Axes) -> None:
    """A line with its band for each schedule, over steps."""
    overtime.draw(numbers, axes, looks(numbers))


def caption(numbers: OverTime) -> str:
    """What the picture shows and what the paper shows at this place."""
    return (
        f"{words.capital(words.split_name(numbers.data.setting))} score over steps with two learning-rate decays "
        f"(one in Stage I, one over Stages II and III) and with one. {overtime.drawn(numbers.groups)} "
        f"{overtime.best_scores(numbers, looks(numbers))} {captions.tail(numbers.data)} In the paper's Figure 9 "
        "(RTE, dev) two schedules are better than one."
    )


def figure(numbers: OverTime) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        picture, axes = style.picture(numbers.data.setting, 3.7)
        draw(numbers, axes)
        style.legend(picture, 3)
    return picture
