"""What a dry run calculates from what it measures."""

import numpy as np
import pytest
import torch

from spd_ray.checks.cost import Cost, computed_share, mean_over_middle, middle_batches
from spd_ray.config.method import MethodConfig
from spd_ray.config.timeline import Timeline
from spd_ray.data.batches import EncodedSplit
from spd_ray.trials.footprint import Footprint


def timeline_of(**method):
    return Timeline.of(MethodConfig(**{"total_epochs": 4, "stage1_epochs": 4, "stage2_epochs": 0, **method}), 32)


def test_the_share_of_layers_that_is_computed_is_the_mean_over_draws():
    """p = 1/2, 2 layers: all with 1/2 + 1/4 (none is drawn: all run once), the second alone with 1/4."""
    assert computed_share(timeline_of(p0=0.5, grafting="constant"), 2) == pytest.approx(7 / 8)
    assert computed_share(timeline_of(p0=1.0), 12) == 1.0
    assert computed_share(timeline_of(p0=0.5, teacher_dropout=0.1), 2) == 1.0


def test_the_batches_that_are_timed_are_those_in_the_middle():
    """Lengths 1 ... 12 in batches of 2 cost 4, 8, ..., 24 tokens with padding: the middle two are (5, 6) and (7, 8)."""
    lengths = np.arange(1, 13)
    split = EncodedSplit(torch.zeros(12, 12, dtype=torch.int32), None, torch.zeros(12), lengths)
    assert sorted(middle_batches(split, 2).lengths.tolist()) == [5, 6, 7, 8]
    assert mean_over_middle(split, 2) == pytest.approx((4 + 8 + 12 + 16 + 20 + 24) / 6 / ((12 + 16) / 2))
    assert len(middle_batches(split, 32)) == 12


def test_a_trial_is_its_steps_and_its_evaluations():
    timeline = timeline_of(p0=0.5)
    cost = Cost([], 2.0, 0.5, 3.0, 0.0, 0.0, Footprint(0, 0, 0, 0), 0, "")
    assert (timeline.t3, len(timeline.eval_steps)) == (4, 4)
    assert cost.trial(timeline) == 4 * 2.0 * 0.5 + 4 * 3.0
    with_gradients = timeline_of(p0=0.5, pruning="fisher", criterion={"gradients": 3}, regrowth={"kind": "gradient"})
    assert cost.trial(with_gradients) == cost.trial(timeline) + len(timeline.pruning_events) * (3 + 1) * 2.0
