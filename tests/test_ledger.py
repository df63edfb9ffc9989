"""The study and trials.parquet in step, through every way in which a driver can die between them."""

import pytest
from optuna.trial import TrialState

from spd_ray.ledger import Ledger
from spd_ray.records import read_trials
from spd_ray.space import load_spec
from spd_ray.study import create_study

SPACE = """\
task: {name: rte}
search: {p0: {choices: [0.2, 0.5, 0.8]}}
study: {sampler: grid, trials: 3, seeds: [0, 7]}
"""


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    return load_spec(tmp_path / "space.yaml")


def open_ledger(spec, folder):
    return Ledger(spec, create_study(spec, folder / "study.journal"), folder)


def finish(ledger, trial_id, score):
    ledger.end(trial_id, "finished", best_score=score, feasible=True)


def states(ledger):
    return [(trial.state, trial.value) for trial in ledger.study.trials]


def test_each_configuration_is_run_under_each_seed_and_told_once_with_the_mean(spec, tmp_path):
    ledger = open_ledger(spec, tmp_path)
    given = [ledger.next_due() for _ in range(7)]
    assert given == ["00000-s0", "00000-s7", "00001-s0", "00001-s7", "00002-s0", "00002-s7", None]
    finish(ledger, "00000-s7", 0.6)
    assert states(ledger)[0] == (TrialState.RUNNING, None)
    finish(ledger, "00000-s0", 0.8)
    assert states(ledger)[0] == (TrialState.COMPLETE, pytest.approx(0.7))
    assert ledger.config("00001-s7").seed == 7
    assert ledger.config("00001-s7").method.p0 == 0.5
    assert ledger.total == 6


def test_a_failed_seed_fails_its_configuration_and_a_stopped_one_prunes_it(spec, tmp_path):
    ledger = open_ledger(spec, tmp_path)
    for _ in range(4):
        ledger.next_due()
    finish(ledger, "00000-s0", 0.8)
    ledger.end("00000-s7", "failed", error="why")
    finish(ledger, "00001-s0", 0.8)
    ledger.end("00001-s7", "stopped", best_score=0.5, feasible=True)
    assert [state for state, _ in states(ledger)] == [TrialState.FAIL, TrialState.PRUNED]


def test_only_feasible_students_can_be_best(spec, tmp_path):
    ledger = open_ledger(spec, tmp_path)
    for _ in range(4):
        ledger.next_due()
    ledger.end("00000-s0", "finished", best_score=None, final_score=0.99, feasible=False)
    finish(ledger, "00000-s7", 0.7)
    finish(ledger, "00001-s0", 0.7)
    ledger.end("00001-s7", "failed", best_score=0.9, feasible=True)
    assert [trial.trial_id for trial in ledger.best_first()] == ["00000-s7", "00001-s0"]


def test_a_new_driver_gives_out_what_has_not_ended_and_nothing_twice(spec, tmp_path):
    first = open_ledger(spec, tmp_path)
    for _ in range(3):
        first.next_due()
    finish(first, "00000-s0", 0.8)
    first.update("00000-s7", status="running", mlflow_run_id="run")
    second = open_ledger(spec, tmp_path)
    assert [second.next_due() for _ in range(6)] == ["00000-s7", "00001-s0", "00001-s7", "00002-s0", "00002-s7", None]
    assert second.trials["00000-s7"].mlflow_run_id == "run"
    assert second.trials["00000-s0"].best_score == 0.8


def test_a_driver_that_died_between_the_file_and_the_study_tells_the_study_at_its_start(spec, tmp_path):
    first = open_ledger(spec, tmp_path)
    first.next_due()
    first.next_due()
    for trial_id, score in (("00000-s0", 0.4), ("00000-s7", 0.6)):
        first.update(trial_id, status="finished", best_score=score, feasible=True)  # died before study.tell
    assert states(open_ledger(spec, tmp_path)) == [(TrialState.COMPLETE, pytest.approx(0.5))]


def test_a_driver_that_died_between_the_study_and_the_file_loses_no_trial(spec, tmp_path):
    first = open_ledger(spec, tmp_path)
    first.next_due()
    (tmp_path / "trials.parquet").unlink()
    second = open_ledger(spec, tmp_path)
    assert [trial.trial_id for trial in read_trials(tmp_path)] == ["00000-s0", "00000-s7"]
    assert second.next_due() == "00000-s0"
