"""A trial that cannot go on fails with its reason; the others end as if it had not been there."""

import subprocess

import psutil
import pytest

from spd_ray.records import read_trials
from tests.sweeps import study_states, trial_processes, wait_for

EXPLODES = {"stage1_lr": {"choices": [2e-3, 1e30]}}
ONE_AT_A_TIME = {"cpus_per_worker": 1, "concurrent": 1}


def test_out_of_memory_and_a_loss_that_is_no_number_fail_their_trials_alone(sweep_of, undisturbed):
    """The address space of a trial's process is limited while it trains to what it has, as `ulimit -v` would."""
    words = sweep_of.command("failing", search=EXPLODES, resources=ONE_AT_A_TIME, retries=0)
    folder = sweep_of.storage / "failing"
    driver = psutil.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert wait_for(lambda: list(folder.glob("state/*/step-*")), driver)
    limited = next(folder.glob("state/*/step-*")).parent.name
    (process,) = trial_processes(driver)
    process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms,) * 2)
    out, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors

    trials = {trial.trial_id: trial for trial in read_trials(folder)}
    failed = trials.pop(limited)
    print(failed.error)
    assert failed.status == "failed"
    assert "memory" in failed.error, failed.error
    exploded = [trial for trial in trials.values() if trial.stage1_lr == 1e30]
    assert {(trial.status, trial.error.split(" at step")[0]) for trial in exploded} <= {
        ("failed", "the loss is nan"), ("failed", "the loss is inf"),
    }  # fmt: skip
    assert len(exploded) == 2
    (other,) = [trial for trial in trials.values() if trial.stage1_lr != 1e30]
    assert (other.status, other.error) == ("finished", None)
    assert [state for _, state, _ in study_states(folder)] == ["FAIL", "FAIL"]
    assert all(f"failed: {trial.trial_id}: {trial.error}" in out for trial in [failed, *exploded])


def test_endless_overflow_fails_its_trial_alone(sweep_of, count):
    if count(0, 1) == 0:
        pytest.skip("one more sweep; the overflow itself is tested in integration/test_trainer.py")
    done, folder = sweep_of("overflowing", search=EXPLODES, engine={"precision": "fp16"})
    assert done.returncode == 0, done.stderr
    found = {(trial.stage1_lr, trial.status, (trial.error or "")[:35]) for trial in read_trials(folder)}
    assert found == {(2e-3, "finished", ""), (1e30, "failed", "fp16 overflows even at loss scale 1")}
