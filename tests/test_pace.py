"""What is done at a pace takes no more than its share of the time."""

import pytest

from spd_ray.base import pace as module
from spd_ray.base.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("seconds", "pause"), [(0.0, 18.0), (5.0, 18.0), (60.0, 60.0)])
def test_a_pause_follows_that_makes_the_share_or_the_seconds(clock, seconds, pause):
    pace = Pace(share=0.1, seconds=seconds)
    assert pace.due
    with pace.measured():
        clock[0] += 2.0
    assert not pace.due
    assert pace.due_at == pytest.approx(102.0 + pause)
    clock[0] += pause
    assert pace.due


def test_what_failed_is_due_again_at_once(clock):
    pace = Pace(share=0.1)
    with pytest.raises(OSError, match="full"), pace.measured():
        raise OSError("full")
    assert pace.due
