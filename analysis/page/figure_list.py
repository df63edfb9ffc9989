"""Every figure of the report in the order of the page."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from analysis.beyond import (
    device_hours,
    gap_by_sparsity,
    grafting_by_depth,
    heat_maps,
    importances,
    marginals,
    pareto,
    trial_curves,
)
from analysis.figures import fig02, fig04, fig06, fig07, fig08, fig09, fig10, fig11, fig12, fig13_to_16
from analysis.reading.sweeps import Sweep

PAPER, BEYOND = "The paper's figures", "Beyond the paper"


class ReportFigure(NamedTuple):
    """One figure of the report: numbers from the sweeps, then a picture and a caption from the numbers."""

    section: str
    name: str  # of its files, and its anchor on the page
    title: str
    compute: Callable[[Sequence[Sweep]], Any]
    figure: Callable[[Any], Figure]
    caption: Callable[[Any], str]


def list_figures(trial_id: str | None) -> list[ReportFigure]:
    """The figures; those of a single trial show `trial_id`, by default a best one."""
    curves_title = trial_curves.TITLE if trial_id is None else f"Train and dev score of trial {trial_id}"
    in_order = [fig06, fig07, fig08, fig09, fig10, fig11, fig12]
    return [
        *(_by_name(PAPER, fig02, name, fig02.title(name)) for name in fig02.VARIANTS),
        _of_module(PAPER, fig04, compute=partial(fig04.compute, trial_id=trial_id)),
        *(_of_module(PAPER, module) for module in in_order),
        *(_by_name(PAPER, fig13_to_16, name, fig13_to_16.title(name)) for name in fig13_to_16.TASKS),
        _of_module(BEYOND, trial_curves, title=curves_title, compute=partial(trial_curves.compute, trial_id=trial_id)),
        *(_of_module(BEYOND, module) for module in (gap_by_sparsity, pareto, grafting_by_depth)),
        *(_by_name(BEYOND, heat_maps, name, title) for name, title in heat_maps.TITLES.items()),
        *(_of_module(BEYOND, module) for module in (importances, marginals, device_hours)),
    ]


def _of_module(section: str, module: Any, **changes: Any) -> ReportFigure:
    whole = ReportFigure(section, module.NAME, module.TITLE, module.compute, module.figure, module.caption)
    return whole._replace(**changes)


def _by_name(section: str, module: Any, name: str, title: str) -> ReportFigure:
    """One of the figures of a module that computes several, by name."""
    return ReportFigure(section, name, title, partial(module.compute, name=name), module.figure, module.caption)
