"""The best score against each searched dimension of one sweep, called biased where an adaptive sampler drew it."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.captions import ADAPTIVE, describe_origin
from analysis.drawing.points import draw_points
from analysis.errors import NoData
from analysis.numbers import score_by_value
from analysis.numbers.score_by_value import ScoreByValue
from analysis.numbers.search_space import numeric_dimension, widest_space
from analysis.reading.sweeps import Sweep
from analysis.wording.formatting import join

NAME = "marginals"
TITLE = "Marginals of a sweep's dimensions"
FEWEST = 4  # configurations
_COLUMNS, _MOST = 2, 8


class Marginals(NamedTuple):
    """One marginal per dimension."""

    names: tuple[str, ...]
    panels: tuple[ScoreByValue, ...]

    @property
    def biased(self) -> bool:
        """Whether the sampler favoured regions that scored well, so that values met different settings."""
        data = self.panels[0].data
        return data.sampler in ADAPTIVE and not all(panel.data.balanced for panel in self.panels)


def compute(sweeps: Sequence[Sweep]) -> Marginals:
    """The marginals of the sweep with the most dimensions. Raises NoData where no sweep has two."""
    space = widest_space(sweeps, FEWEST)
    found = [numeric_dimension(space, key) for key in space.keys]
    numeric = [dimension for dimension in found if dimension is not None][:_MOST]
    name = space.sweep.name
    if not numeric:
        raise NoData(f"sweep {name} searches no number")
    return Marginals(
        tuple(dimension.name for dimension in numeric),
        tuple(
            score_by_value.compute([space.sweep], name, dimension, lambda trial: trial.method == space.method)
            for dimension in numeric
        ),
    )


def draw(numbers: Marginals, axes: Sequence[Axes]) -> None:
    """One panel per dimension."""
    for place, (panel, one) in enumerate(zip(axes, numbers.panels, strict=False)):
        draw_points(one, panel)
        if place % _COLUMNS:
            panel.set_ylabel("")
    for panel in axes[len(numbers.panels) :]:
        panel.set_visible(False)


def caption(numbers: Marginals) -> str:
    """What the panels are, and how far they can be trusted."""
    data = numbers.panels[0].data
    if numbers.biased:
        trust = (
            f"Biased: the adaptive sampler ({data.sampler}) tried some settings more often because they scored well, "
            "so a marginal shows what it favoured as much as what the dimension does."
        )
    elif all(panel.data.balanced for panel in numbers.panels):
        trust = "A grid: each value met the same other settings, so the marginals compare like with like."
    else:
        trust = f"Not a grid (sampler: {data.sampler or 'unknown'}): each value met different settings of the rest."
    return (
        f"Best score at the target sparsity against {join(numbers.names)}, one at a time. {trust} "
        f"{describe_origin(data._replace(also_varying=()))} Beyond the paper."
    )


def figure(numbers: Marginals) -> Figure:
    """The picture."""
    rows = -(-len(numbers.panels) // _COLUMNS)
    setting = numbers.panels[0].data.setting
    return style.compose(
        setting, 1.0 + 2.0 * rows, lambda axes: draw(numbers, axes), rows, _COLUMNS, legend=4, sharey=True
    )
