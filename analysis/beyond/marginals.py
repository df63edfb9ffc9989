"""The best score against each searched dimension of one sweep; marginals of an adaptive sampler are called biased."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import captions, style
from analysis.errors import NoData
from analysis.numbers import by_value as sensitivity
from analysis.numbers.by_value import ScoreBy
from analysis.numbers.search_space import dimension, widest
from analysis.reading.sweeps import Tables
from analysis.wording import formatting as words

NAME = "marginals"
TITLE = "Marginals of a sweep's dimensions"
FEWEST = 4  # configurations
_COLUMNS, _MOST = 2, 8


class Marginals(NamedTuple):
    """One marginal a dimension."""

    names: tuple[str, ...]
    panels: tuple[ScoreBy, ...]

    @property
    def biased(self) -> bool:
        """Whether the sampler went where scores were good, so that values met different settings."""
        data = self.panels[0].data
        return data.sampler in captions.ADAPTIVE and not all(panel.data.balanced for panel in self.panels)


def compute(sweeps: Sequence[Tables]) -> Marginals:
    """The marginals of the sweep with the most dimensions. Raises NoData where no sweep has two."""
    space = widest(sweeps, FEWEST)
    found = [dimension(space, key) for key in space.keys]
    numeric = [one for one in found if one is not None][:_MOST]
    if not numeric:
        raise NoData(f"sweep {space.tables.name} searches no number")
    name = space.tables.name
    return Marginals(
        tuple(one.name for one in numeric),
        tuple(
            sensitivity.compute([space.tables], name, one, lambda trial: trial.method == space.method)
            for one in numeric
        ),
    )


def draw(numbers: Marginals, axes: Sequence[Axes]) -> None:
    """A panel a dimension."""
    for place, (panel, one) in enumerate(zip(axes, numbers.panels, strict=False)):
        sensitivity.draw(one, panel)
        if place % _COLUMNS:
            panel.set_ylabel("")
    for panel in axes[len(numbers.panels) :]:
        panel.set_visible(False)


def caption(numbers: Marginals) -> str:
    """What the panels are and how far to trust them."""
    data = numbers.panels[0].data
    if numbers.biased:
        trust = (
            f"Biased: the adaptive sampler ({data.sampler}) tried some settings more often because they scored well, "
            "so a marginal shows where it went as much as what the dimension does."
        )
    elif all(panel.data.balanced for panel in numbers.panels):
        trust = "A grid: each value met the same other settings, so that the marginals compare like with like."
    else:
        trust = f"Not a grid (sampler: {data.sampler or 'unknown'}): each value met other settings of the rest."
    return (
        f"Best score at the target sparsity against {words.listing(numbers.names)}, one at a time. {trust} "
        f"{captions.tail(data._replace(searched=()))} Beyond the paper."
    )


def figure(numbers: Marginals) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        rows = -(-len(numbers.panels) // _COLUMNS)
        picture, axes = style.picture(numbers.panels[0].data.setting, 1.0 + 2.0 * rows, rows, _COLUMNS, squeeze=False,
                                      sharey=True)  # fmt: skip
        draw(numbers, list(axes.ravel()))
        style.legend(picture)
    return picture
