"""Estimates, power, and comparison with the best: worked by hand, from printed tables, and by simulation.

The simulations are seeded; each bound has room for their own error of three standard deviations.
"""

import math

import numpy as np
import pytest

from analysis.numbers import contrasts
from analysis.numbers.power import describe_power, planning_spread, seeds_for, smallest_detectable
from analysis.numbers.statistics import Estimate, bootstrap, holm, t_quantile
from analysis.numbers.with_the_best import compare_with_the_best, dunnett_quantile

SIMULATIONS = 400


def seeded(scores: np.ndarray) -> list[dict[int, float]]:
    """Scores (G, n) as configurations under the seeds 0 to n - 1."""
    return [dict(enumerate(row.tolist())) for row in scores]


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


def error_of(rate: float) -> float:
    """Three standard deviations of a share of `SIMULATIONS` whose mean is `rate`."""
    return 3 * math.sqrt(rate * (1 - rate) / SIMULATIONS)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("shared", [0.0, 3.0])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds: int, shared: float) -> None:
    """Nominal coverage of a difference, be the seeds' common effect nothing or three times their own."""
    generator, inside = np.random.default_rng(3), []
    for _ in range(SIMULATIONS):
        both = generator.normal([[1.0], [0.0]], 1.0, (2, seeds)) + shared * generator.normal(size=seeds)
        estimate = bootstrap(seeded(both), contrasts.difference)
        inside.append(estimate.low <= 1.0 <= estimate.high)
    assert 0.95 - error_of(0.95) <= share(inside) <= 0.99


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("configurations", "ask"), [
    (2, contrasts.difference), (10, contrasts.first_above_others), (4, contrasts.descents),
    (5, contrasts.slope_over([0.0, 0.5, 0.8, 0.9, 0.95])),
])  # fmt: skip
def test_verdicts_among_equal_configurations_are_false_in_at_most_5_percent(
    seeds: int, configurations: int, ask: contrasts.Contrasts
) -> None:
    generator, false = np.random.default_rng(4), []
    for _ in range(SIMULATIONS):
        scores = generator.normal(size=(configurations, seeds)) + 2 * generator.normal(size=seeds)
        estimate = bootstrap(seeded(scores), ask)
        decided = estimate.low > 0 or estimate.high < 0
        assert decided == (estimate.p <= 0.05), estimate  # the p value is that of the interval
        false.append(decided)
    assert share(false) <= 0.05 + error_of(0.05)


def test_a_family_of_true_nulls_has_a_false_verdict_in_at_most_5_percent() -> None:
    generator, alone, together = np.random.default_rng(5), [], []
    for _ in range(SIMULATIONS):
        p = [bootstrap(seeded(generator.normal(size=(2, 5))), contrasts.difference).p for _ in range(11)]
        alone.append(min(p) <= 0.05)
        together.append(min(holm(p)) <= 0.05)
    assert share(alone) > 0.3  # 1 - 0.95^11 = 0.43 where each verdict had exactly 5%
    assert share(together) <= 0.05 + error_of(0.05)


@pytest.mark.parametrize(("seeds", "configurations"), [(5, 2), (8, 4)])
def test_the_detectable_difference_is_found_with_80_percent(seeds: int, configurations: int) -> None:
    difference = smallest_detectable(seeds, math.sqrt(2), configurations - 1)  # of a difference of two scores
    generator, found = np.random.default_rng(6), []
    for _ in range(SIMULATIONS):
        scores = generator.normal(size=(configurations, seeds))
        scores[0] += difference
        found.append(bootstrap(seeded(scores), contrasts.first_above_others).low > 0)
    assert share(found) >= 0.8 - error_of(0.8)
    assert share(found) <= 0.95


def test_planned_seeds_give_the_power_in_80_percent_of_studies() -> None:
    """True spread 1, true difference 0.5: 34 seeds have the power (Cohen 1988)."""
    generator = np.random.default_rng(7)
    seen = [float(np.std(generator.normal(size=5), ddof=1)) for _ in range(SIMULATIONS)]
    planned = [seeds_for(0.5, planning_spread(spread, 5)) or math.inf for spread in seen]
    with_the_estimate_itself = [seeds_for(0.5, spread) or math.inf for spread in seen]
    assert share([n >= 34 for n in planned]) >= 0.8 - error_of(0.8)
    assert share([n >= 34 for n in with_the_estimate_itself]) < 0.6


def test_power_by_published_values() -> None:
    assert [seeds_for(d, 1.0) for d in (0.2, 0.5, 0.8, 1.0)] == [199, 34, 15, 10]  # paired t, Cohen's d_z, 80%
    assert seeds_for(0.5, 1.0, contrasts=9) == 65  # power 1 - 0.2 / 9 each
    assert seeds_for(0.001, 1.0) is None
    assert smallest_detectable(2, 1.0) == math.inf
    estimate = Estimate(0.001, -0.01, 0.012, 5, True, 0.01)
    assert describe_power(estimate, 0.01).startswith("with these 5 seeds a difference of 0.017 is found with 80% power")


def test_dunnetts_quantiles_are_the_printed_ones() -> None:
    printed = {
        5: (2.02, 2.44, 2.68, 2.85, 2.98),
        10: (1.81, 2.15, 2.34, 2.47, 2.56),
        20: (1.72, 2.03, 2.19, 2.30, 2.39),
    }
    for freedom, row in printed.items():  # Dunnett 1955, Table 1a, one-sided 95%
        assert [dunnett_quantile(k, freedom) for k in range(1, 6)] == pytest.approx(row, abs=0.011)


def test_the_comparison_with_the_best_holds_for_all_at_once() -> None:
    generator, truth, held = np.random.default_rng(8), np.array([0.0, 0.0, -0.5, -2.0]), []
    for _ in range(SIMULATIONS):
        scores = truth[:, None] + generator.normal(size=(4, 5)) + 3 * generator.normal(size=5)
        standings = compare_with_the_best(seeded(scores))
        assert standings is not None
        to_best = [truth[i] - np.delete(truth, i).max() for i in range(4)]
        held.append(all(s.low <= d <= s.high for s, d in zip(standings, to_best, strict=True)))
    assert share(held) >= 0.95 - error_of(0.95)


def test_the_comparison_with_the_best_by_hand() -> None:
    # The seeds' common effect goes out; residuals +-1 of two configurations: s^2 = 4 / ((3 - 1) (3 - 1)) = 1
    seeds, own = np.array([0.0, 10.0, 20.0]), np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    scores = seeds + own - np.array([[0.0], [0.0], [30.0]])
    standings = compare_with_the_best(seeded(scores))
    assert standings is not None
    width = dunnett_quantile(2, 4) * math.sqrt(2 / 3)
    assert standings[0] == pytest.approx((-width, width))
    assert standings[2] == pytest.approx((-30 - width, 0.0))
    assert [standing.may_be_best for standing in standings] == [True, True, False]
    assert compare_with_the_best(seeded(scores[:, :2])) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


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


def test_one_seed_has_no_interval() -> None:
    estimate = bootstrap([{0: 0.5}, {0: 0.4}], contrasts.difference)
    assert (estimate.low, estimate.high) == (-math.inf, math.inf)
    assert estimate.p == 1


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
