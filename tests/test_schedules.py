"""Eqs. (5) and (6) and the pruning rate at values worked by hand from the printed formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spd_ray import schedules

T1, T2, T3 = 300, 400, 600


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.6), (299, 0.6), (300, 0.6), (325, 0.7), (350, 0.8), (399, 0.996), (400, 1.0), (599, 1.0), (10_000, 1.0)],
)
def test_replacing_probability_is_eq_5(step, expected):
    assert schedules.replacing_probability(step, 0.6, T1, T2) == pytest.approx(expected)


def test_without_stage_2_the_probability_jumps_to_1():
    assert [schedules.replacing_probability(t, 0.2, 5, 5) for t in (4, 5)] == [0.2, 1.0]


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 3e-5), (150, 1.5e-5), (299, 1e-7), (300, 6e-4), (450, 3e-4), (599, 2e-6), (600, 0.0), (700, 0.0)],
)
def test_learning_rate_is_eq_6_and_restarts_at_t1(step, expected):
    assert schedules.learning_rate(step, 3e-5, 6e-4, T1, T3) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "cubic", "linear", "one_shot"),
    # events due after 3, 6, 9 and 12 steps; cubic theta_j = 0.8 (1 - (1 - j/4)^3)
    [(0, 0, 0, 0), (2, 0, 0, 0), (3, 0.4625, 0.2, 0), (6, 0.7, 0.4, 0), (11, 0.7875, 0.6, 0), (12, 0.8, 0.8, 0.8)],
)
def test_pruning_rate_by_hand(step, cubic, linear, one_shot):
    for schedule, expected in (("cubic", cubic), ("linear", linear), ("one_shot", one_shot)):
        assert schedules.pruning_rate(step, 0.8, 12, 4, schedule) == pytest.approx(expected)


@given(
    target=st.floats(0, 0.99),
    end=st.integers(1, 500),
    events=st.integers(1, 40),
    schedule=st.sampled_from(["cubic", "linear", "one_shot"]),
)
def test_pruning_rate_rises_from_event_to_event_and_ends_at_the_target(target, end, events, schedule):
    rates = [schedules.pruning_rate(t, target, end, events, schedule) for t in range(end + 3)]
    assert rates == sorted(rates)
    assert rates[end] == rates[-1] == target
    due = set(schedules.pruning_steps(end, events))
    assert max(due) == end
    assert min(due) >= 1
    changed = {t for t in range(1, end + 3) if rates[t] != rates[t - 1]}
    assert changed <= due


@given(p0=st.floats(0, 1), t1=st.integers(1, 50), ramp=st.integers(0, 50))
def test_replacing_probability_never_falls_and_stays_in_the_unit_interval(p0, t1, ramp):
    p = [schedules.replacing_probability(t, p0, t1, t1 + ramp) for t in range(t1 + ramp + 5)]
    assert p == sorted(p)
    assert p[0] == p0
    assert p[-1] == 1.0
