"""A trial that cannot go on fails with its reason; the others end as if it had not been there."""

import os
import time

import psutil
import pytest

from spd_ray.records.trials import read_trials
from tests.conftest import save_bert
from tests.faults.conftest import TRIAL
from tests.sweeps import SPACE, states, study_states, trial_processes
from tests.waiting import wait_for

ONE_SEED = {"sampler": "grid", "trials": 4, "seeds": [0]}
ONE_AT_A_TIME = {"cpus_per_worker": 1, "concurrent": 1}
# What is larger is never kept in reserve, and no thread has a reserve of its own.
MAPPED_AT_ONCE = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


@pytest.fixture
def wide(tmp_path):
    """A BERT whose matrices take 256 KiB and more, and a trial of it that is over in seconds."""
    return {"model": {"path": str(save_bert(tmp_path, hidden_size=256))}, "method": SPACE["method"]}


def limit_memory(process):
    """Limit a running process to an address space between the least and the most that it takes in its steps.

    So a tensor is refused, and not the few bytes that some library needs to say so, as where everything is refused.
    """
    taken = [process.memory_info().vms for _ in range(1000)]
    process.rlimit(psutil.RLIMIT_AS, ((min(taken) + max(taken)) // 2,) * 2)


def test_out_of_memory_a_kill_and_a_loss_that_is_no_number_fail_their_trials_alone(sweep_of, wide, note):
    """The first trial's process is out of memory, the second's is killed, the fourth explodes; none is run again."""
    rates, folder = {"stage1_lr": {"choices": [2e-3, 1.5e-3, 1e-3, 1e30]}}, sweep_of.storage / "failing"
    words = sweep_of.command(folder.name, search=rates, study=ONE_SEED, resources=ONE_AT_A_TIME, retries=0, **wide)
    started = time.monotonic()
    driver = sweep_of.launch(words, env=MAPPED_AT_ONCE)
    assert wait_for(lambda: any("00000-s0" in state for state in states(folder)), driver)
    (process,) = trial_processes(driver)
    limit_memory(process)
    assert wait_for(lambda: any("00001-s0" in state for state in states(folder)), driver)
    for process in trial_processes(driver):
        process.kill()
    out, errors = driver.communicate()
    assert driver.returncode == 0, errors

    trials = read_trials(folder)
    assert [trial.status for trial in trials] == ["failed", "failed", "finished", "failed"]
    limited, killed, other, exploded = (trial.error for trial in trials)
    assert "memory" in limited.lower(), limited
    assert killed == "the trial's process died: killed, or out of memory"
    assert other is None
    assert exploded.startswith(("the loss is nan at step", "the loss is inf at step"))
    assert [state for _, state, *_ in study_states(folder)] == ["FAIL", "FAIL", "COMPLETE", "FAIL"]
    assert all(f"failed: {trial.trial_id}: {trial.error}" in out for trial in trials if trial.error)
    said = "each failed with its reason; the third finished"
    note("out of memory; killed, retries 0; loss NaN", 3, folder, time.monotonic() - started, 0.0, said)


def test_a_rank_that_is_out_of_memory_fails_its_trial_alone(sweep_of, wide, count):
    if count(0, 1) == 0:
        pytest.skip("one more sweep; integration/test_workers.py has a rank that is shot")
    folder, resources = sweep_of.storage / "failing_rank", {"workers": 2, "cpus_per_worker": 1}
    study = {**ONE_SEED, "trials": 2}
    wide = {**wide, "method": {**TRIAL, "batch_size": 32}}  # half a batch, too, is mapped at once
    words = sweep_of.command(folder.name, study=study, resources=resources, retries=0, **wide)
    driver = sweep_of.launch(words, env=MAPPED_AT_ONCE)
    assert wait_for(lambda: any("00000-s0" in state for state in states(folder)), driver)
    (rank,) = trial_processes(driver, "ray::Rank")
    limit_memory(rank)
    out, errors = driver.communicate()
    assert driver.returncode == 0, out + errors
    failed, other = read_trials(folder)
    assert (failed.status, other.status) == ("failed", "finished")
    assert "memory" in failed.error.lower(), failed.error


def test_endless_overflow_fails_its_trial_alone(sweep_of, count):
    if count(0, 1) == 0:
        pytest.skip("one more sweep; the overflow itself is tested in integration/test_trainer.py")
    rates = {"stage1_lr": {"choices": [2e-3, 1e30]}}
    done, folder = sweep_of("overflowing", search=rates, engine={"precision": "fp16"})
    assert done.returncode == 0, done.stderr
    found = {(trial.stage1_lr, trial.status, (trial.error or "")[:35]) for trial in read_trials(folder)}
    assert found == {(2e-3, "finished", ""), (1e30, "failed", "fp16 overflows even at loss scale 1")}
