"""Early stopping at equal budget, after the last pruning event; and who is handed out next."""

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from spd_ray.driver.early_stopping import StageAwareAsha, survives

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def level_of(trial_id):
    """The trials whose names begin with "dense-" are pruned to 0.5, the others to 0.9."""
    return 0.5 if trial_id.startswith("dense-") else 0.9


def trial(trial_id):
    return SimpleNamespace(config={"request": {"trial_id": trial_id}})


def result(budget, score, pruning_done=True):
    return {"budget": budget, "score": score, "pruning_done": pruning_done}


@pytest.fixture
def asha(tmp_path):
    return StageAwareAsha([0.5, 0.75], reduction_factor=2, file=tmp_path / "rungs.jsonl", level_of=level_of)


def test_the_upper_half_of_a_rung_goes_on(asha):
    decisions = [asha.on_trial_result(None, trial(name), result(0.5, score)) for name, score in
                 (("a", 0.6), ("b", 0.8), ("c", 0.5), ("d", 0.7))]  # fmt: skip
    assert decisions == [CONTINUE, CONTINUE, STOP, CONTINUE]


def test_before_a_rung_nobody_is_judged(asha):
    assert asha.on_trial_result(None, trial("a"), result(0.49, 0.9)) == CONTINUE
    assert asha.on_trial_result(None, trial("b"), result(0.49, 0.1)) == CONTINUE
    assert not asha.file.exists()


def test_a_trial_that_still_prunes_is_neither_judged_nor_a_rival(asha):
    asha.on_trial_result(None, trial("dense"), result(0.5, 0.99, pruning_done=False))
    assert asha.on_trial_result(None, trial("sparse"), result(0.5, 0.6)) == CONTINUE
    asha.on_trial_result(None, trial("sparse2"), result(0.5, 0.9))
    assert asha.on_trial_result(None, trial("late"), result(0.5, 0.1, pruning_done=False)) == CONTINUE
    assert asha.on_trial_result(None, trial("late"), result(0.6, 0.1)) == CONTINUE  # its rung is past


def test_a_trial_is_judged_among_those_of_its_sparsity_also_after_a_restart(asha):
    for name, score in (("dense-a", 0.9), ("dense-b", 0.95), ("sparse-a", 0.6)):
        assert asha.on_trial_result(None, trial(name), result(0.5, score)) == CONTINUE
    again = StageAwareAsha([0.5, 0.75], 2, asha.file, level_of)
    assert again.on_trial_result(None, trial("sparse-b"), result(0.5, 0.7)) == CONTINUE
    assert again.on_trial_result(None, trial("sparse-c"), result(0.5, 0.5)) == STOP
    assert again.on_trial_result(None, trial("dense-c"), result(0.5, 0.8)) == STOP


def test_a_trial_counts_once_a_rung_also_after_a_restart_of_the_driver(asha):
    asha.on_trial_result(None, trial("a"), result(0.5, 0.9))
    again = StageAwareAsha([0.5, 0.75], 2, asha.file, level_of)
    for _ in range(3):
        again.on_trial_result(None, trial("a"), result(0.55, 0.9))
    assert again.on_trial_result(None, trial("b"), result(0.5, 0.5)) == STOP
    assert again._scores["0.5"] == {"a": 0.9, "b": 0.5}


def test_a_driver_that_was_killed_while_it_noted_a_score_judges_that_trial_again(asha):
    for name, score in (("a", 0.9), ("b", 0.8)):
        asha.on_trial_result(None, trial(name), result(0.5, score))
    asha.file.write_bytes(asha.file.read_bytes()[:-3])
    again = StageAwareAsha([0.5, 0.75], 2, asha.file, level_of)
    assert again._scores["0.5"] == {"a": 0.9}
    assert again.on_trial_result(None, trial("b"), result(0.5, 0.8)) == STOP
    assert StageAwareAsha([0.5, 0.75], 2, asha.file, level_of)._scores["0.5"] == {"a": 0.9, "b": 0.8}


@pytest.mark.parametrize(
    ("score", "rivals", "factor", "expected"),
    [(0.5, [], 3, True), (0.5, [0.6], 3, False), (0.7, [0.6, 0.8, 0.9], 2, False), (0.85, [0.6, 0.8, 0.9], 2, True)],
)
def test_survives_by_hand(score, rivals, factor, expected):
    assert survives(score, rivals, factor) is expected
