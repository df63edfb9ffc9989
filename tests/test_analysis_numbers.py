"""Which trials a figure compares."""

from pathlib import Path

import numpy as np
import pytest
from hand_made_sweep import Cell, evaluation, read, trial, two, varied, write_cells, write_steps, write_sweep

from analysis.errors import AnalysisError, NoData
from analysis.figures import fig08
from analysis.numbers import score_by_value
from analysis.numbers.dimensions import P0
from analysis.numbers.figure_data import choose_trial
from analysis.numbers.over_steps import mean_curve
from analysis.reading.sweeps import read_sweep
from analysis.reading.trials import Trial
from spd_ray.records.trials import write_trials


def chosen(folder: Path, trial_id: str | None = None) -> Trial:
    return choose_trial([read_sweep(folder)], trial_id)[1]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path)


def test_best_is_the_best_feasible_trial_that_did_not_fail(tmp_path: Path) -> None:
    write_trials(
        tmp_path,
        [
            trial(0, best_score=0.70),
            trial(1, best_score=0.80),
            trial(2, best_score=0.99, feasible=False),
            trial(3, best_score=0.98, status="failed"),
            trial(4, best_score=0.97, status="running"),
            trial(5, best_score=None),
            trial(6, best_score=0.80),
        ],
    )
    assert chosen(tmp_path).trial_id == "1-s0"
    write_trials(tmp_path, [trial(0, best_score=0.70), trial(1, best_score=0.80, status="stopped")])
    assert chosen(tmp_path).trial_id == "1-s0"


def test_chosen_by_id(sweep: Path) -> None:
    assert chosen(sweep, "0-s1").seed == 1
    assert chosen(sweep, f"{sweep.name}/0-s1").seed == 1
    with pytest.raises(AnalysisError, match="no sweep 'nowhere'"):
        chosen(sweep, "nowhere/0-s1")
    with pytest.raises(AnalysisError, match="no trial '9-s9'; there are, for example, 0-s0, 0-s1, 1-s0, 1-s1"):
        chosen(sweep, "9-s9")


def test_curves_are_means_over_the_evaluations_that_all_seeds_share(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, 0), trial(0, 1)])
    write_steps(
        tmp_path, "0-s0", 0, 8, [evaluation(step, "dev", value) for step, value in ((2, 0.1), (4, 0.5), (8, 0.9))]
    )
    write_steps(
        tmp_path, "0-s1", 0, 8, [evaluation(step, "dev", value) for step, value in ((4, 0.7), (6, 0.1), (8, 0.8))]
    )
    (sweep,) = read(tmp_path)
    curve = mean_curve(sweep, sweep.trials, None)
    assert curve.step.tolist() == [4, 8]
    np.testing.assert_allclose(curve.mean, [0.6, 0.85])
    assert (curve.low.tolist(), curve.high.tolist(), curve.n) == ([0.5, 0.8], [0.7, 0.9], 2)
    assert len(mean_curve(sweep, sweep.trials, "train").step) == 0


def test_a_figure_takes_its_own_sweep_and_else_says_which_it_took(tmp_path: Path) -> None:
    two(tmp_path, "demo", varied(p0=0.2), varied(p0=0.6))
    write_cells(tmp_path, "small", [Cell(varied(p0=p), 0.7) for p in (0.2, 0.6)], seeds=2)
    taken = fig08.compute(read(tmp_path))
    assert (taken.data.sweep, taken.data.own, taken.data.also) == ("demo", False, ("small",))
    text = fig08.caption(taken)
    assert "Taken from sweep demo (also possible: small); search_spaces/paper/fig08.yaml makes" in text
    two(tmp_path, "fig08_mini", varied(p0=0.4), varied(p0=0.5))
    own = fig08.compute(read(tmp_path))
    assert (own.data.sweep, own.data.own) == ("fig08_mini", True)
    assert own.value.tolist() == [0.4, 0.5]


def test_numbers_that_agree_to_nine_digits_are_one_value(tmp_path: Path) -> None:
    sweeps = two(tmp_path, "fig08", varied(p0=0.1 + 0.2), varied(p0=0.3))
    with pytest.raises(NoData, match="only one value"):
        score_by_value.compute(sweeps, "fig08", P0)


def test_dimensions_of_spd_are_not_those_of_other_methods(tmp_path: Path) -> None:
    cells = [Cell({"method": "kd_only", "p0": 1.0}, 0.7), Cell({"method": "spd", "p0": 0.6}, 0.8)]
    write_cells(tmp_path, "methods", cells)
    with pytest.raises(NoData, match=r"p₀ has only one value among the finished trials, 0\.6 \(n = 5\)"):
        fig08.compute(read(tmp_path))
