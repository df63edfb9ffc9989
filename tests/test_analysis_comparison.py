"""Methods side by side: each at its best configuration, by numbers worked by hand."""

from pathlib import Path

import pytest
from hand_made_sweep import trial

from analysis.page.result_tables import methods
from analysis.page.table import markdown
from analysis.paper import method_comparison as comparison
from analysis.reading.sweeps import read_tables
from spd_ray.records import write_trials

COUNTS = dict(
    encoder_parameters=200, remaining_encoder_parameters=100, remaining_parameters=150_000, device_seconds=10.0, t3=8
)


def sweep(folder: Path, *trials):
    write_trials(folder, trials)
    return read_tables(str(folder))


def test_each_method_stands_at_its_best_configuration(tmp_path: Path) -> None:
    tables = sweep(
        tmp_path,
        trial(0, 0, method="spd", best_score=0.70, train_score=0.9, stage1_lr=1e-3, **COUNTS),
        trial(0, 1, method="spd", best_score=0.80, train_score=0.9, stage1_lr=1e-3, **COUNTS),
        trial(1, 0, method="spd", best_score=0.79, train_score=0.9, stage1_lr=3e-3, **COUNTS),
        trial(1, 1, method="spd", best_score=0.69, train_score=0.9, stage1_lr=3e-3, **COUNTS),
        trial(2, 0, method="theseus", best_score=0.76, train_score=0.8, **COUNTS),
        trial(2, 1, method="theseus", best_score=0.78, train_score=0.8, **COUNTS),
        trial(3, 0, method="pkd", best_score=0.99, status="failed", feasible=False),
    )
    theseus, spd = comparison.compute(tables)
    assert (theseus.method, spd.method) == ("theseus", "spd")
    assert (spd.configurations, spd.seeds, spd.rate) == (2, 2, 1e-3)
    assert spd.score == pytest.approx(0.75)
    assert spd.deviation == pytest.approx(0.0707107)
    assert spd.gap == pytest.approx(0.15)
    assert (spd.remaining, spd.parameters, spd.steps, spd.seconds) == (0.5, 150_000, 8, 10.0)
    assert theseus.score == pytest.approx(0.77)
    row = markdown(methods([spd])).splitlines()[-1]
    assert "| 0.750 | 0.071 | 2 | +0.150 | 50.0% | 0.15M | 8 | 10.0 | 1e-3 | 2 |" in row


def test_one_method_alone_is_no_comparison(tmp_path: Path) -> None:
    assert comparison.compute(sweep(tmp_path, trial(0, 0), trial(1, 0))) == []
