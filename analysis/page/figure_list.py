"""Every figure of the report in the order of the page."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from analysis.beyond import (
    all_curves,
    best_so_far,
    device_hours,
    gap_by_sparsity,
    grafting_by_depth,
    heat_maps,
    importances,
    marginals,
    parallel_coordinates,
    pareto,
    trial_curves,
)
from analysis.figures import fig02, fig04, fig06, fig07, fig08, fig09, fig10, fig11, fig12, fig13_to_16
from analysis.numbers.figure_data import select_sweeps
from analysis.reading.sweeps import Sweep

SEARCH, COST, MORE = "The search", "Sparsity, size and speed", "More about these trials"
PAPER = "The paper's figures"


class ReportFigure(NamedTuple):
    """One figure of the report: numbers from the sweeps, then a picture and a caption from the numbers."""

    section: str
    name: str  # of its files, and its anchor on the page
    title: str
    compute: Callable[[Sequence[Sweep]], Any]
    figure: Callable[[Any], Figure]
    caption: Callable[[Any], str]
    made_for: tuple[str, ...] = ()  # the sweeps, one of which must be there for the figure to be asked for; none: any

    def is_asked_for(self, sweeps: Sequence[Sweep]) -> bool:
        """Whether a reader of these sweeps came for it: one of the paper's only where its own sweep is there."""
        return not self.made_for or any(select_sweeps(sweeps, name) for name in self.made_for)


def list_figures(trial_id: str | None) -> list[ReportFigure]:
    """The figures; those of a single trial show `trial_id`, by default a best one."""
    curves_title = trial_curves.TITLE if trial_id is None else f"Train and dev score of trial {trial_id}"
    in_order = [fig06, fig07, fig08, fig09, fig10, fig11, fig12]
    whole_paper = (*fig02.VARIANTS, *(module.NAME for module in in_order), *fig13_to_16.TASKS)
    return [
        *(_of_module(SEARCH, module) for module in (best_so_far, all_curves, parallel_coordinates)),
        *(_of_module(SEARCH, module) for module in (importances, marginals)),
        *(_by_name(COST, pareto, name, cost.title) for name, cost in pareto.COSTS.items()),
        _of_module(COST, gap_by_sparsity),
        _of_module(MORE, trial_curves, title=curves_title, compute=partial(trial_curves.compute, trial_id=trial_id)),
        *(_by_name(MORE, heat_maps, name, title) for name, title in heat_maps.TITLES.items()),
        *(_of_module(MORE, module) for module in (grafting_by_depth, device_hours)),
        *(_by_name(PAPER, fig02, name, fig02.title(name))._replace(made_for=(name,)) for name in fig02.VARIANTS),
        _of_module(PAPER, fig04, compute=partial(fig04.compute, trial_id=trial_id), made_for=whole_paper),
        *(_of_module(PAPER, module, made_for=(module.NAME,)) for module in in_order),
        *(
            _by_name(PAPER, fig13_to_16, name, fig13_to_16.title(name))._replace(made_for=(name,))
            for name in fig13_to_16.TASKS
        ),
    ]


def _of_module(section: str, module: Any, **changes: Any) -> ReportFigure:
    whole = ReportFigure(section, module.NAME, module.TITLE, module.compute, module.figure, module.caption)
    return whole._replace(**changes)


def _by_name(section: str, module: Any, name: str, title: str) -> ReportFigure:
    """One of the figures of a module that computes several, by name."""
    return ReportFigure(section, name, title, partial(module.compute, name=name), module.figure, module.caption)
