"""Figure 9: two independent learning-rate decays, Eq. (6), against one decay over all of training."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import lines, style
from analysis.drawing.lines import Look
from analysis.numbers import over_steps
from analysis.numbers.dimensions import LR_SCHEDULE
from analysis.numbers.over_steps import OverSteps
from analysis.reading.sweeps import Sweep
from analysis.wording.formatting import format_value

NAME = "fig09"
TITLE = "Two learning-rate schedules against one (Figure 9)"
LOOKS = {
    "two_decays": Look("two decays", style.SPD, "o"),
    "one_decay": Look("one decay", style.ALTERNATIVE, "s", "--"),
}


def compute(sweeps: Sequence[Sweep]) -> OverSteps:
    """The trials by learning-rate schedule. Raises NoData where no sweep has two."""
    return over_steps.compute(sweeps, NAME, LR_SCHEDULE)


def looks(numbers: OverSteps) -> list[Look]:
    """How each schedule is drawn."""
    return [LOOKS.get(group.value, Look(format_value(group.value), style.INK, "^", ":")) for group in numbers.groups]


def draw(numbers: OverSteps, axes: Axes) -> None:
    """One line with its band per schedule, over steps."""
    lines.draw_groups(numbers, axes, looks(numbers))


def caption(numbers: OverSteps) -> str:
    """What the picture shows, and what the paper's figure shows."""
    return lines.describe_groups(
        numbers, looks(numbers),
        "with two learning-rate decays (one in Stage I, one over Stages II and III) and with one",
        "In the paper's Figure 9 (RTE, dev) two schedules are better than one.",
    )  # fmt: skip


def figure(numbers: OverSteps) -> Figure:
    """The picture."""
    return style.compose(numbers.data.setting, 3.7, lambda axes: draw(numbers, *axes), legend=3)
