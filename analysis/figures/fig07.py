"""Figure 7: Stage I with a replacing probability above 0 against Stage I with p = 0 (nothing grafted)."""

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import captions, style
from analysis.numbers import over_steps as overtime
from analysis.numbers.figure_data import Dimension
from analysis.numbers.over_steps import Look, OverTime
from analysis.reading.sweeps import Tables
from analysis.wording import formatting as words

NAME = "fig07"
TITLE = "Stage I with and without grafting (Figure 7)"
GRAFTS = Dimension("whether p₀ is above 0", "p₀ above 0", lambda trial: trial.p0 > 0, ("p0",))
LOOKS = {
    True: Look("$p_0$ > 0", style.SPD, "o"),
    False: Look("$p_0$ = 0", style.INSTEAD, "s", "--"),
}


def compute(sweeps: Sequence[Tables]) -> OverTime:
    """The trials with p0 = 0 and those with p0 > 0. Raises NoData where no sweep has both."""
    return overtime.compute(sweeps, NAME, GRAFTS)


def looks(numbers: OverTime) -> list[Look]:
    """How each group is drawn."""
    return [LOOKS[group.value] for group in numbers.groups]


def draw(numbers: OverTime, axes: Axes) -> None:
    """Two lines with bands over steps."""
    overtime.draw(numbers, axes, looks(numbers))


def caption(numbers: OverTime) -> str:
    """What the picture shows and what the paper shows at this place."""
    return (
        f"{words.capital(words.split_name(numbers.data.setting))} score over steps with grafting in Stage I (p₀ > 0) "
        f"and without (p₀ = 0). {overtime.drawn(numbers.groups)} {overtime.best_scores(numbers, looks(numbers))} "
        f"{captions.tail(numbers.data)} In the paper's Figure 7 (RTE, dev) the run with p₀ > 0, its red curve, is "
        "the better one."
    ).replace("$p_0$", "p₀")


def figure(numbers: OverTime) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        picture, axes = style.picture(numbers.data.setting, 3.7)
        draw(numbers, axes)
        style.legend(picture, 3)
    return picture
