"""The study and the trials' files in step, through every way in which a driver can die between them."""

import shutil

import optuna
import pyarrow.parquet as pq
import pytest
from hand_made_sweep import evaluation, write_steps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from spd_ray.config.load import load_spec
from spd_ray.records.trials import read_trials
from spd_ray.study.ledger import Ledger
from spd_ray.study.sparsity import level_of
from spd_ray.study.study import create_study

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


def test_a_sweep_ends_when_its_space_is_used_up(spec, tmp_path, monkeypatch):
    ledger = open_ledger(spec, tmp_path)
    ledger.configurations = 99  # as where the points cannot be counted
    draws = ledger._draws
    ask = draws.ask
    monkeypatch.setattr(draws, "ask", lambda: ask() if draws.count < 3 else None)
    assert [ledger.next_due() for _ in range(8)][5:] == ["00002-s7", None, None]
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


def test_where_target_sparsity_is_searched_the_sparsest_come_first_and_each_keeps_its_best(tmp_path):
    (tmp_path / "space.yaml").write_text(
        "task: {name: rte}\nsearch: {target_sparsity: {choices: [0.8, 0.95]}, p0: {low: 0.2, high: 1.0, step: 0.2}}\n"
        "study: {sampler: grid, trials: 10}\n"
    )
    ledger = open_ledger(load_spec(tmp_path / "space.yaml"), tmp_path)
    at: dict[float, list[str]] = {0.8: [], 0.95: []}
    while (trial_id := ledger.next_due()) is not None:
        at[ledger.level(trial_id)].append(trial_id)
    (a, b, c, *_), (x, y, z, *_) = at[0.8], at[0.95]
    for trial_id, score in ((a, 0.9), (b, 0.93), (c, 0.91), (x, 0.7), (y, 0.6), (z, 0.8)):
        finish(ledger, trial_id, score)
    assert ledger.levels == [0.95, 0.8]
    assert ledger.best().trial_id == z
    assert [trial.trial_id for trial in ledger.best_first()] == [z, x, y, b, c, a]
    assert [trial.trial_id for trial in ledger.best_of_levels(2)] == [z, x, b, c]
    assert ledger.ended_count == 6


@pytest.mark.parametrize(
    ("dimension", "target", "level"),
    [
        ("{choices: [0.8, 0.93]}", 0.93, 0.93),
        ("{low: 0.5, high: 0.9, step: 0.1}", 0.7, 0.7),
        ("{low: 0.5, high: 0.95}", 0.9, 0.9),
        ("{low: 0.5, high: 0.95}", 0.93, 0.9),
        ("{low: 0.5, high: 0.95}", 0.8999, 0.85),
        ("{low: 0.5, high: 0.95, step: 0.01}", 0.64, 0.6),
    ],
)
def test_a_level_is_a_target_sparsity_or_a_band_of_many(dimension, target, level, tmp_path):
    (tmp_path / "space.yaml").write_text(f"task: {{name: rte}}\nsearch: {{target_sparsity: {dimension}}}\n")
    assert level_of(target, load_spec(tmp_path / "space.yaml")) == level


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


def test_a_driver_killed_before_the_table_is_written_again_loses_nothing(spec, tmp_path):
    """trials.parquet is as old as the first trial; the end, its score and the second trial are in the journal."""
    first = open_ledger(spec, tmp_path)
    for _ in range(3):
        first.next_due()
    finish(first, "00000-s0", 0.8)
    first.end("00000-s7", "failed", error="why")
    assert {row["status"] for row in pq.read_table(tmp_path / "trials.parquet").to_pylist()} == {"waiting"}
    second = open_ledger(spec, tmp_path)
    assert second.trials == first.trials
    assert [second.next_due() for _ in range(5)] == ["00001-s0", "00001-s7", "00002-s0", "00002-s7", None]
    assert states(second)[0] == (TrialState.FAIL, None)


def test_a_driver_killed_while_it_noted_an_end_runs_that_trial_again(spec, tmp_path):
    first = open_ledger(spec, tmp_path)
    first.next_due()
    first.fold()
    finish(first, "00000-s0", 0.8)
    journal = tmp_path / "trials.journal"
    journal.write_bytes(journal.read_bytes()[:-20])
    second = open_ledger(spec, tmp_path)
    assert second.trials["00000-s0"].status == "waiting"
    assert [second.next_due() for _ in range(2)] == ["00000-s0", "00000-s7"]


RECORDS = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["waiting", "running", "finished", "stopped", "failed"]),
        "best_score": st.sampled_from([None, 0.1, 0.2, 0.3]),
        "feasible": st.sampled_from([None, True, False]),
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 5), RECORDS), max_size=25), reopened=st.booleans())
def test_what_the_ledger_keeps_is_what_a_look_at_all_trials_finds(changes, reopened, spec, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    ledger = open_ledger(spec, folder)
    ids = [ledger.next_due() for _ in range(6)]
    for index, change in changes:
        ledger.update(ids[index], **change)
    if reopened:
        ledger = open_ledger(spec, folder)
    trials = list(ledger.trials.values())
    ended = [t for t in trials if t.status in ("finished", "stopped", "failed")]
    feasible = [t for t in ended if t.status != "failed" and t.feasible]
    best = sorted(feasible, key=lambda t: (-(t.best_score or 0.0), t.trial_id))
    assert ledger.best_first() == best
    assert ledger.best_first(2) == best[:2]
    assert ledger.best() == (best[0] if best else None)
    assert ledger.ended == ended
    assert ledger.ended_count == len(ended)
    assert ledger.ended_best_first(len(best)) == best
    assert {t.trial_id for t in ledger.ended_best_first(99)} == {t.trial_id for t in ended}
    assert set(ledger.running) == {t.trial_id for t in trials if t.status == "running"}
    assert [t.trial_id for t in ledger.seeds_of(1)] == ["00001-s0", "00001-s7"]


def test_the_journal_has_a_named_objective_and_each_configurations_course(spec, tmp_path):
    """Two seeds, of which one is stopped at step 8: the means at 4 and 8, the last is the configuration's value."""
    ledger = open_ledger(spec, tmp_path)
    for seed, scores in ((0, {4: 0.5, 8: 0.6}), (7, {4: 0.7, 8: 0.5, 12: 0.9})):
        trial_id = ledger.next_due()
        for first, (step, score) in zip((0, 4, 8), scores.items(), strict=False):
            records = [evaluation(step, "train", 0.1), evaluation(step, "dev", score)]
            write_steps(tmp_path, trial_id, first, step, records)
        ledger.end(trial_id, "stopped" if seed == 0 else "finished", best_score=0.6, feasible=True)
    (study,) = optuna.get_all_study_names(ledger.study._storage)
    found = optuna.load_study(study_name=study, storage=ledger.study._storage)
    assert found.metric_names == ["best dev accuracy"]
    (trial,) = found.get_trials(states=(TrialState.PRUNED,))
    assert trial.intermediate_values == {4: 0.6, 8: 0.55}  # round numbers
    assert trial.value == pytest.approx(0.55)
    assert [one.intermediate_values for one in ledger._draws._look()][:1] == [{}]  # the sampler is shown none of it


def test_behind_a_store_a_course_is_what_was_seen_and_what_is_fetched_of_earlier_sessions(spec, tmp_path):
    """One seed has ended under an earlier driver, the other was at step 4: its later score is seen, not read."""
    here, store = tmp_path / "here", tmp_path / "store"
    for trial_id in ("00000-s0", "00000-s7"):
        write_steps(store, trial_id, 0, 4, [evaluation(4, "dev", 0.5)])
    before = open_ledger(spec, here)
    for trial_id in (before.next_due(), before.next_due()):
        before.update(trial_id, status="running")
        before.see_score(trial_id, 4, 0.5, evaluations=1)
    write_steps(store, "00000-s0", 4, 8, [evaluation(8, "dev", 0.7)])
    finish(before, "00000-s0", 0.7)
    fetched = []

    def fetch(folder):
        fetched.append(folder.name)
        shutil.copytree(store / folder.relative_to(here), folder)

    ledger = Ledger(spec, create_study(spec, here / "study.journal"), here, fetch)
    assert ledger.next_due() == "00000-s7"
    ledger.see_score("00000-s7", 8, 0.9, evaluations=2)
    finish(ledger, "00000-s7", 0.9)
    for trial_id in (ledger.next_due(), ledger.next_due()):
        ledger.see_score(trial_id, 4, 0.25, evaluations=1)
        finish(ledger, trial_id, 0.25)
    first, second = ledger.study.trials
    assert first.intermediate_values == {4: 0.5, 8: 0.8}
    assert second.intermediate_values == {4: 0.25}
    assert fetched == ["trial=00000-s0", "trial=00000-s7"]  # nothing of what this session has seen all of
