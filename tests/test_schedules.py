"""Eqs. (5) and (6) and the pruning rate at values worked by hand from the printed formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spd_ray.equations import schedules

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
    ("schedule", "expected"),
    # at target 0.8: cubic theta_j = 0.8 (1 - (1 - j/4)^3); geometric keeps 0.2^(j/4) = .669, .447, .299, .2
    [
        ("cubic", [0.4625, 0.7, 0.7875, 0.8]),
        ("linear", [0.2, 0.4, 0.6, 0.8]),
        ("geometric", [0.33126, 0.55279, 0.70093, 0.8]),
        ("one_shot", [0, 0, 0, 0.8]),
    ],
)
def test_event_rates_by_hand(schedule, expected):
    rates = [schedules.event_rate(j, 4, 0.8, schedule) for j in (1, 2, 3, 4)]
    assert rates == pytest.approx(expected, abs=1e-5)


@given(
    target=st.floats(0.01, 0.99),
    end=st.integers(1, 500),
    events=st.integers(1, 40),
    schedule=st.sampled_from(["cubic", "linear", "geometric", "one_shot"]),
)
def test_rates_rise_from_event_to_event_and_end_at_the_target(target, end, events, schedule):
    rates = [schedules.event_rate(j, events, target, schedule) for j in range(1, events + 1)]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(target)
    due = schedules.pruning_steps(end, events)
    assert len(due) == events
    assert max(due) == end
    assert min(due) >= 1


@pytest.mark.parametrize(
    ("ladder", "expected"),
    [([0.5], [0.3, 0.5, 0.8, 0.9]), ([0.5, 0.55], [0.3, 0.5, 0.55, 0.9]), ([0.1, 0.8], [0.1, 0.6, 0.8, 0.9])],
)
def test_levels_take_the_first_event_that_would_reach_them(ladder, expected):
    assert schedules.with_ladder([0.3, 0.6, 0.8, 0.9], ladder) == expected


def test_too_few_events_for_the_ladder_are_refused():
    with pytest.raises(ValueError, match=r"pruning_events: 2 events leave none for the level 0.6 of ladder"):
        schedules.with_ladder([0.5, 0.9], [0.6])


@given(p0=st.floats(0, 1), t1=st.integers(1, 50), ramp=st.integers(0, 50))
def test_replacing_probability_never_falls_and_stays_in_the_unit_interval(p0, t1, ramp):
    p = [schedules.replacing_probability(t, p0, t1, t1 + ramp) for t in range(t1 + ramp + 5)]
    assert p == sorted(p)
    assert p[0] == p0
    assert p[-1] == 1.0
