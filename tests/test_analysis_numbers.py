"""Which trials a figure compares, and the statistics, by numbers worked by hand and by simulation."""

import math
from pathlib import Path

import numpy as np
import pytest
from hand_made_sweep import Cell, evaluation, read, trial, two, varied, write_cells, write_steps, write_sweep

from analysis.errors import AnalysisError, NoData
from analysis.figures import fig08
from analysis.numbers import contrasts, score_by_value
from analysis.numbers.dimensions import P0
from analysis.numbers.figure_data import choose_trial
from analysis.numbers.over_steps import mean_curve
from analysis.numbers.statistics import Estimate, bootstrap, seeds_needed, t_quantile
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


def test_the_paired_bootstrap_removes_what_seeds_share() -> None:
    generator = np.random.default_rng(1)
    shared = generator.normal(0, 0.1, 8)
    one = {seed: 0.51 + shared[seed] for seed in range(8)}
    other = {seed: 0.50 + shared[seed] for seed in range(8)}
    paired = bootstrap([one, other], contrasts.difference)
    assert (paired.paired, paired.n) == (True, 8)
    assert paired.low == pytest.approx(0.01)
    assert paired.high == pytest.approx(0.01)
    apart = bootstrap([one, {seed + 100: score for seed, score in other.items()}], contrasts.difference)
    assert not apart.paired
    assert apart.value == pytest.approx(0.01)
    assert apart.low < 0 < apart.high


def test_the_bootstrap_keeps_to_the_seeds_that_all_configurations_share() -> None:
    one = {0: 0.5, 1: 0.6, 2: 0.7, 3: 99.0}
    other = {0: 0.4, 1: 0.5, 2: 0.6}
    estimate = bootstrap([one, other], contrasts.difference)
    assert (estimate.n, estimate.paired) == (3, True)
    assert estimate.value == pytest.approx(0.1)


def test_three_seeds_of_one_sign_do_not_settle_a_claim() -> None:
    estimate = bootstrap([{0: 0.1, 1: 0.2, 2: 0.6}, dict.fromkeys(range(3), 0.0)], contrasts.difference)
    mean, error = 0.3, np.std([0.1, 0.2, 0.6], ddof=1) / math.sqrt(3)
    assert estimate.value == pytest.approx(mean)
    assert estimate.low == pytest.approx(mean - 4.303 * error, abs=0.02)  # Student's t, the wider one here
    assert estimate.low < 0 < estimate.high


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(seeds: int) -> None:
    generator = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        estimate = bootstrap([dict(enumerate(generator.normal(1.0, 1.0, seeds)))], contrasts.identity)
        inside += estimate.low <= 1.0 <= estimate.high
    assert 0.91 <= inside / 200 <= 0.995


def test_among_equal_configurations_the_best_is_seldom_called_worse() -> None:
    generator = np.random.default_rng(4)
    below = above = 0
    for _ in range(200):
        groups = [dict(enumerate(generator.normal(0.0, 1.0, 5))) for _ in range(6)]
        estimate = bootstrap(groups, contrasts.first_above_others)
        below, above = below + (estimate.high < 0), above + (estimate.low > 0)
    assert below <= 10
    assert above <= 4


def test_one_seed_has_no_interval() -> None:
    estimate = bootstrap([{0: 0.5}, {0: 0.4}], contrasts.difference)
    assert (estimate.low, estimate.high) == (-math.inf, math.inf)
    assert seeds_needed(estimate) is None


def test_seeds_needed_by_hand() -> None:
    # t_{n-1} s / sqrt(n) < |e| with s = 1, e = 1: n = 6 gives 2.571 / 2.449 > 1, n = 7 gives 2.447 / 2.646 < 1
    estimate = Estimate(1.0, -0.1, 2.1, 4, True, 1.0)
    assert seeds_needed(estimate) == 3
    assert seeds_needed(estimate._replace(n=7)) == 1
    assert seeds_needed(estimate._replace(value=0.0)) is None


def test_the_statistics_by_hand() -> None:
    means = np.array([[0.6, 0.5, 0.4]])
    np.testing.assert_allclose(contrasts.difference(means[:, :2]), [[0.1]])
    np.testing.assert_allclose(contrasts.first_above_others(means), [[0.1, 0.2]])
    np.testing.assert_allclose(contrasts.others_above_first(means), [[-0.1, -0.2]])
    np.testing.assert_allclose(contrasts.descents(means), [[0.1, 0.1]])
    np.testing.assert_allclose(contrasts.slope_over([0.0, 0.5, 1.0])(means), [[-0.2]])


def test_the_least_contrast_is_estimated_and_bounded() -> None:
    groups = [{s: 1.0 for s in range(4)}, {s: 0.5 for s in range(4)}, {s: 0.8 for s in range(4)}]
    estimate = bootstrap(groups, contrasts.first_above_others)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.2, 0.2, 0.2))


def test_the_t_quantile_is_scipys() -> None:
    from scipy.stats import t

    for freedom in (1, 2, 5, 30, 150, 500):
        for level in (0.95, 0.99):
            expected = t.ppf((1 + level) / 2, freedom)
            assert t_quantile(freedom, level) == pytest.approx(expected, rel=6e-3)
