"""The list of a sweep's trials that MLflow's pages open on: a saved view, kept as a tag of the experiment.

The format is that of MLflow's own "Save & share view": an envelope around the state of the page, deflated.

Why so: docs/decisions.md #mlflow-opens-on-a-saved-view.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spd_ray.config.sweep import SweepSpec
from spd_ray.records.schema import COSTS

TAG_PREFIX = "mlflow.sharedViewState."
NAME, CREATED, DURATION = "attributes.`Run Name`", "runDateAndNestInfo", "duration"  # columns of the page's own
OWN_WIDTHS = {NAME: 110, CREATED: 48}  # pixels: of the second its sign of success is enough


@dataclass(frozen=True, kw_only=True)
class View:
    """The feasible trials of a sweep, best first, under `key`; a name may be there twice, a key may not."""

    key: str
    name: str
    search: str  # MLflow's filter
    order_by: str  # the metric that is to be high
    columns: Sequence[str]  # such as metrics.`best_dev_score`

    @property
    def tag(self) -> str:
        """The experiment's tag that holds the view."""
        return f"{TAG_PREFIX}{self.key}"

    def state(self) -> dict[str, Any]:
        """The page's state: what is listed, in which order, and the columns in theirs."""
        return {
            "searchFilter": self.search,
            "orderByKey": self.order_by,
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "modelVersionFilter": "All Runs",
            "datasetsFilter": [],
            "selectedColumns": list(self.columns),
            "columnOrder": [NAME, CREATED, *self.columns, DURATION],
            "columnWidths": {**OWN_WIDTHS, **{column: width_of(column) for column in self.columns}},
            "runsExpanded": {},
            "runsPinned": [],
            "runsHidden": [],
            "runsVisibilityMap": {},
            "runsHiddenMode": "FIRST_10_RUNS",
            "viewMaximized": False,
            "runListHidden": False,
            "isAccordionReordered": False,
            "groupBy": None,
            "groupsExpanded": {},
            "useGroupedValuesInCharts": True,
            "hideEmptyCharts": True,
            "autoRefreshEnabled": True,
            "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        }

    def envelope(self, time_ms: int) -> str:
        """The tag's value."""
        text = json.dumps(self.state(), separators=(",", ":"))
        deflated = "deflate;" + base64.b64encode(zlib.compress(text.encode())).decode()
        return json.dumps({"name": self.name, "createdAt": time_ms, "updatedAt": time_ms, "state": deflated})

    def page(self, experiment_id: str) -> str:
        """The page of the view, below the address of MLflow's server."""
        return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={self.key}"


def width_of(column: str) -> int:
    """Pixels in which a column's heading can be read.

    >>> width_of("metrics.`best_dev_score`"), width_of("params.`seed`")
    (122, 90)
    """
    return max(90, 24 + 7 * len(column.split("`")[1]))


def view_of(spec: SweepSpec, sweep_id: str, parent_run_id: str, bounds: tuple[float, float] | None = None) -> View:
    """The sweep's trials; with `bounds` those whose target sparsity is at least the first, and the second at most."""
    best = f"best_{spec.task.selection}_score"
    numbers = (best, "target_sparsity", *COSTS, "sparsity", "train_score_at_best")
    search = [f"tags.`mlflow.parentRunId` = '{parent_run_id}'", "tags.feasible = 'true'", "tags.status != 'failed'"]
    key, name = sweep_id[:12], spec.name
    if bounds is not None:
        low, high = bounds
        search += [f"metrics.target_sparsity >= {low!r}", f"metrics.target_sparsity <= {high!r}"]
        key, name = f"{key}-{low:g}", f"{name} at sparsity {low:g}"
    searched = ["method.name" if name == "method" else f"method.{name}" for name in spec.dimensions()]
    columns = [f"metrics.`{one}`" for one in numbers] + [f"params.`{one}`" for one in searched]
    columns += ["tags.`status`", "params.`seed`"]
    return View(key=key, name=name, search=" AND ".join(search), order_by=f"metrics.`{best}`", columns=columns)
