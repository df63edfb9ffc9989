"""What the driver does at a trial's end looks at that trial alone, and leaves what it should."""

import json
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ray.tune.search import Searcher
from rich.console import Console

from spd_ray.config.load import load_spec
from spd_ray.driver import display as display_module
from spd_ray.driver import tune
from spd_ray.driver.display import MOST_IN_A_LINE, SweepDisplay
from spd_ray.driver.tune import LedgerSearcher, SweepWatcher, drop_students, last_reason
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.study.study import create_study
from spd_ray.training.taken_steps import TakenStep
from spd_ray.trials import signs as signs_module
from spd_ray.trials.signs import Recording, RecordingTeller, Sign, SignTeller, read_signs

SPACE = """\
task: {name: rte}
search: {p0: {low: 0.1, high: 1}}
study: {sampler: random, trials: 12}
checkpoints: {keep: 2}
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    (tmp_path / "space.yaml").write_text(SPACE)
    spec = load_spec(tmp_path / "space.yaml")
    ledger = Ledger(spec, create_study(spec, tmp_path / "study.journal"), tmp_path)
    for _ in range(12):
        trial_id = str(ledger.next_due())
        ledger.update(trial_id, status="running")
        (tmp_path / "checkpoints" / trial_id).mkdir(parents=True)
    return ledger


def test_the_best_students_and_those_of_running_trials_stay(ledger: Ledger, tmp_path: Path) -> None:
    checkpoints, storage = ledger.folder / "checkpoints", SweepStorage(str(tmp_path), "driver")
    for name in ("00001-s0-sparsity-0.5", "00003-s0-sparsity-0.5", ".00004-s0-half"):
        (checkpoints / name).mkdir()
    for number, score in enumerate((0.5, 0.9, 0.7, 0.6)):
        trial_id = f"{number:05d}-s0"
        ledger.end(trial_id, "finished", best_score=score, feasible=True, checkpoint=f"checkpoints/{trial_id}")
        drop_students(ledger, storage)
    ledger.end("00004-s0", "failed", feasible=False)
    drop_students(ledger, storage)
    left = sorted(path.name for path in checkpoints.iterdir())
    running = [f"{number:05d}-s0" for number in range(5, 12)]
    assert left == [".00004-s0-half", "00001-s0", "00001-s0-sparsity-0.5", "00002-s0", *running]
    assert [trial.trial_id for trial in ledger.trials.values() if trial.checkpoint] == ["00001-s0", "00002-s0"]


def test_a_trial_that_tune_gives_up_with_retries_left_is_due_again(ledger: Ledger, tmp_path: Path) -> None:
    display = SweepDisplay(ledger, Console(file=StringIO()))
    watcher = SweepWatcher(ledger, None, None, display, SweepStorage(str(tmp_path), "driver"))
    searcher = LedgerSearcher(ledger, lambda trial_id: {"request": {"trial_id": trial_id}})
    assert searcher.suggest("-") is None  # all are given out, and run
    died = SimpleNamespace(num_failures=2)
    watcher.on_trial_error(
        0, [], SimpleNamespace(config={"request": {"trial_id": "00003-s0"}}, run_metadata=died, max_failures=2)
    )
    assert ledger.trials["00003-s0"].status == "waiting"
    assert searcher.suggest("-") == {"request": {"trial_id": "00003-s0"}}
    for trial_id in ledger.trials:
        ledger.end(trial_id, "finished", best_score=0.5, feasible=True)
    assert searcher.suggest("-") == Searcher.FINISHED


DIED = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
HALF_SAID = """\
Worker exits unexpectedly. Worker exits with an exit code None. Traceback (most recent call last):
RuntimeError: DefaultCPUAllocator: can't allocate memory
During handling of the above exception, another exception occurred:
MemoryError: Unable to allocate internal buffer.
An unexpected internal error occurred while the worker was executing a task.
"""
RAISED = """\
ray::Trial.train() (pid=1)
  File "trial.py", line 1, in advance
ValueError: the loss is nan at step 3
"""


@pytest.mark.parametrize(
    ("failures", "reason"),
    [
        ([], "the trial's process died: killed, or out of memory"),
        ([RAISED], "ValueError: the loss is nan at step 3"),
        ([DIED + "End of file."], "the trial's process died: killed, or out of memory"),
        ([DIED + HALF_SAID], "the trial's process died: MemoryError: Unable to allocate internal buffer."),
        ([DIED + HALF_SAID, RAISED], "ValueError: the loss is nan at step 3"),
        ([RAISED, DIED + "End of file."], "the trial's process died: killed, or out of memory"),
    ],
)
def test_the_reason_is_the_last_thing_that_the_worker_said(failures: list[str], reason: str) -> None:
    errors = "".join(f"Failure # {n} (occurred at noon)\n{text}\n" for n, text in enumerate(failures, 1))
    assert last_reason(errors) == reason


def test_a_process_that_ended_itself_has_said_why(monkeypatch) -> None:
    """As rank 0 does after another rank's death, where it would wait for ever."""
    trial = SimpleNamespace(config={"request": {"trial_id": "00003-s0"}}, error_file=None)
    monkeypatch.setattr(tune, "read_last_words", {"00003-s0": RAISED}.get)
    assert tune._reason(trial) == "ValueError: the loss is nan at step 3"


def test_lines_name_a_few_running_trials_and_a_table_the_best_that_ended(ledger: Ledger) -> None:
    text = StringIO()
    display = SweepDisplay(ledger, Console(file=text, width=200))
    display.standings["00000-s0"] = {"stage": 2, "budget": 0.5, "sparsity": 0.9, "score": 0.7, "config": "long"}
    display.update()
    assert "00000-s0 spd stage II 50% sparsity 0.90 dev 0.7000; 00001-s0 starting" in text.getvalue()
    assert f"; {12 - MOST_IN_A_LINE} more | 0/12 trials, no best yet" in text.getvalue()
    display.update()
    assert text.getvalue().count("more") == 1  # nothing has happened, and it is not time
    ledger.end("00000-s0", "stopped", best_score=0.7, feasible=True)
    display.end("00000-s0")
    assert "1/12 trials, best accuracy 0.7000 (00000-s0)" in text.getvalue()
    assert display.standings == {"00000-s0": {"stage": 2, "budget": 0.5, "sparsity": 0.9, "score": 0.7}}
    Console(file=text, width=200, height=40).print(display.table())
    assert [line.split()[0] for line in text.getvalue().splitlines()[-13:-1]] == [*sorted(ledger.running), "00000-s0"]
    ledger.end("00001-s0", "failed", error="no memory")
    display.end("00001-s0")
    assert "00001-s0 spd failed (no memory): p0 0." in text.getvalue()  # no empty scores


def test_a_line_tells_a_trials_step_and_comes_only_when_something_has_happened(ledger: Ledger, monkeypatch) -> None:
    """The first step of all at once, then every half minute at most; a step that was told is not told again."""
    text, clock, signs = StringIO(), [1000.0], {}
    monkeypatch.setattr(display_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(display_module, "read_signs", lambda trial_ids: dict(signs))
    display = SweepDisplay(ledger, Console(file=text, width=400))

    def line_after(seconds: float) -> str:
        clock[0] += seconds
        before = len(text.getvalue())
        display.update()
        return text.getvalue()[before:]

    assert "00000-s0 starting" in line_after(0)
    assert line_after(100) == ""
    signs["00000-s0"] = Recording(64, 2490)
    assert "00000-s0 records the teacher's outputs 64/2,490; 00001-s0 starting" in line_after(2)
    signs["00000-s0"] = Recording(128, 2490)
    assert line_after(10) == ""
    assert "128/2,490" in line_after(20)
    signs["00000-s0"] = Sign(1, 1200, 1, 2.5, None)
    assert "00000-s0 spd stage I step 1/1,200 loss 2.5000; 00001-s0 starting" in line_after(2)
    signs["00000-s0"] = Sign(121, 1200, 1, 2.0, 12.0)
    assert line_after(10) == ""
    line = line_after(20)
    assert "step 121/1,200 loss 2.0000 12 steps/s 1 min 30 s left" in line
    assert "about 59 min" in line  # a tenth of one of twelve trials in 30 s; the workers' start does not count
    assert line_after(60) == ""
    display.standings["00000-s0"] = {"step": 150, "stage": 1, "budget": 0.125, "sparsity": 0.5, "score": 0.7}
    assert "00000-s0 spd stage I 12% sparsity 0.50 dev 0.7000" in line_after(2)
    signs.update({trial_id: Sign(9, 1200, 1, 2.5, None) for trial_id in ledger.running})
    assert "00001-s0 spd stage I step 9/1,200" in line_after(60)
    del signs["00001-s0"]
    assert line_after(2) == ""  # a trial that starts beside others waits for its turn


def test_a_trial_tells_its_first_step_and_then_one_now_and_then(monkeypatch) -> None:
    told, clock = [], [0.0]
    monkeypatch.setattr(signs_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(signs_module.internal_kv, "_internal_kv_initialized", lambda: True)
    monkeypatch.setattr(signs_module.internal_kv, "_internal_kv_put", lambda key, value, **_: told.append((key, value)))
    tell = SignTeller("00000-s0", 100)
    for step in range(21):
        tell(TakenStep(torch.tensor([1.5, 0.0]), ("task",), {"step": step, "stage": 2}))
        clock[0] += 0.5
    found = [Sign(*json.loads(value)) for _, value in told]
    assert [(sign.step, sign.rate, sign.seconds_left) for sign in found] == [
        (1, None, None),
        (11, 2.0, 44.5),
        (21, 2.0, 39.5),
    ]
    assert found[0][1:4] == (100, 2, 1.5)


def test_a_trial_tells_how_far_its_recording_is_until_it_takes_a_step(monkeypatch) -> None:
    store, clock = {}, [100.0]
    monkeypatch.setattr(signs_module.time, "monotonic", lambda: clock[0])
    kv = signs_module.internal_kv
    monkeypatch.setattr(kv, "_internal_kv_initialized", lambda: True)
    monkeypatch.setattr(kv, "_internal_kv_put", lambda key, value, **_: store.update({key: value}))
    monkeypatch.setattr(kv, "_internal_kv_get", lambda key, **_: store.get(key))
    tell = RecordingTeller("00000-s0")
    for done in (64, 128):
        tell(done, 400)
    assert read_signs(["00000-s0", "00001-s0"]) == {"00000-s0": Recording(64, 400)}  # twice within a second
    clock[0] += 2.0
    tell(192, 400)
    assert read_signs(["00000-s0"]) == {"00000-s0": Recording(192, 400)}
    SignTeller("00000-s0", 100)(TakenStep(torch.tensor([1.5]), ("task",), {"step": 0, "stage": 1}))
    assert read_signs(["00000-s0"]) == {"00000-s0": Sign(1, 100, 1, 1.5, None)}
