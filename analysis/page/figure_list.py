"""Every figure of the report in the order of the page."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from analysis.beyond import device_hours as hours
from analysis.beyond import gap_by_sparsity as gaps
from analysis.beyond import grafting_by_depth as depth
from analysis.beyond import heat_maps as heat
from analysis.beyond import importances, marginals, pareto
from analysis.beyond import trial_curves as curves
from analysis.figures import fig02, fig04, fig06, fig07, fig08, fig09, fig10, fig11, fig12, fig13_to_16
from analysis.reading.sweeps import Tables

PAPER, BEYOND = "The paper's figures", "Beyond the paper"


class Panel(NamedTuple):
    """One figure of the report: numbers from the sweeps, then a picture and a caption from the numbers."""

    section: str
    name: str
    title: str
    compute: Callable[[Sequence[Tables]], Any]
    figure: Callable[[Any], Figure]
    caption: Callable[[Any], str]


def panels(trial_id: str | None) -> list[Panel]:
    """The figures; those of one trial are of `trial_id`, by default of a best one."""
    curves_title = curves.TITLE if trial_id is None else f"Train and dev score of trial {trial_id}"
    drawn = Panel(PAPER, fig04.NAME, fig04.TITLE, partial(fig04.compute, trial_id=trial_id), fig04.figure,
                  fig04.caption)  # fmt: skip
    one = Panel(BEYOND, curves.NAME, curves_title, partial(curves.compute, trial_id=trial_id), curves.figure,
                curves.caption)  # fmt: skip
    evaluations = [
        Panel(PAPER, name, fig13_to_16.title(name), partial(fig13_to_16.compute, name=name), fig13_to_16.figure,
              fig13_to_16.caption)
        for name in fig13_to_16.TASKS
    ]  # fmt: skip
    heats = [
        Panel(BEYOND, name, title, partial(heat.compute, name=name), heat.figure, heat.caption)
        for name, title in heat.TITLES.items()
    ]
    return [
        _panel(PAPER, fig02), drawn, *(_panel(PAPER, figure) for figure in (fig06, fig07, fig08, fig09, fig10, fig11,
                                                                           fig12)),
        *evaluations, one, _panel(BEYOND, gaps), _panel(BEYOND, pareto), _panel(BEYOND, depth), *heats,
        _panel(BEYOND, importances), _panel(BEYOND, marginals), _panel(BEYOND, hours),
    ]  # fmt: skip


def _panel(section: str, figure: Any) -> Panel:
    return Panel(section, figure.NAME, figure.TITLE, figure.compute, figure.figure, figure.caption)
