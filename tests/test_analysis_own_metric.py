"""The report of a task of one's own: every figure and table that its data allow, in the words of its metric."""

from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.errors import NoData
from analysis.page.figure_list import list_figures
from tests.hand_made_sweep import Cell, read, varied, write_cells

METRICS = {
    "neg_mse": ("negative mean squared error", "constant mean"),
    "my.metrics:recall": ("recall", "majority class"),
}


@pytest.mark.parametrize("metric", METRICS)
def test_the_report_is_in_the_words_of_the_tasks_metric(metric: str, tmp_path: Path) -> None:
    cells = [Cell(varied(p0=p0, stage23_lr=rate), -p0, -0.1) for p0 in (0.2, 0.6) for rate in (1e-4, 4e-4)]
    scores = {"teacher_score": -0.15, "majority_score": -1.25}
    write_cells(tmp_path, "stars", cells, seeds=2, task="stars", metric=metric, **scores)
    assert main(["--sweep", str(tmp_path / "stars"), "--out", str(tmp_path / "out")]) == []
    page = (tmp_path / "out/index.html").read_text()
    name, baseline = METRICS[metric]
    assert f"metric {name}." in page
    assert baseline in page
    assert "accuracy" not in page.partition("<style")[0] + page.partition("</style>")[2].partition("<script")[0]


def test_figure_12_takes_any_regression_and_figure_11_none(tmp_path: Path) -> None:
    rates = [Cell(varied(stage23_lr=rate), -rate) for rate in (0.1, 0.4, 0.6)]
    write_cells(tmp_path, "stars", rates, seeds=2, task="stars", metric="neg_mse")
    figures = {figure.name: figure for figure in list_figures(None)}
    assert figures["fig12"].compute(read(tmp_path)).best.data.sweep == "stars"
    with pytest.raises(NoData, match="no trial is of the kind"):
        figures["fig11"].compute(read(tmp_path))
