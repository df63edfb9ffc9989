"""Figure 7: Stage I with a replacing probability above 0 against Stage I with p = 0 (nothing grafted)."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import lines, style
from analysis.drawing.lines import Look
from analysis.numbers import over_steps
from analysis.numbers.dimensions import GRAFTING
from analysis.numbers.over_steps import OverSteps
from analysis.reading.sweeps import Sweep

NAME = "fig07"
TITLE = "Stage I with and without grafting (Figure 7)"
LOOKS = {
    True: Look("$p_0$ > 0", style.SPD, "o"),
    False: Look("$p_0$ = 0", style.ALTERNATIVE, "s", "--"),
}


def compute(sweeps: Sequence[Sweep]) -> OverSteps:
    """The trials with p0 = 0 and those with p0 > 0. Raises NoData where no sweep has both."""
    return over_steps.compute(sweeps, NAME, GRAFTING)


def looks(numbers: OverSteps) -> list[Look]:
    """How each group is drawn."""
    return [LOOKS[group.value] for group in numbers.groups]


def draw(numbers: OverSteps, axes: Axes) -> None:
    """Two lines with bands over steps."""
    lines.draw_groups(numbers, axes, looks(numbers))


def caption(numbers: OverSteps) -> str:
    """What the picture shows, and what the paper's figure shows."""
    return lines.describe_groups(
        numbers, looks(numbers), "with grafting in Stage I (p₀ > 0) and without (p₀ = 0)",
        "In the paper's Figure 7 (RTE, dev) the run with p₀ > 0, its red curve, is the better one.",
    ).replace("$p_0$", "p₀")  # fmt: skip


def figure(numbers: OverSteps) -> Figure:
    """The picture."""
    return style.compose(numbers.data.setting, 3.7, lambda axes: draw(numbers, *axes), legend=3)
