"""One trial over two ranks: real processes, gloo, DeepSpeed at ZeRO 0, 1 and 2, and the sweep that runs it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray

from spd_ray.base.network import free_port
from spd_ray.base.ray_cluster import join_ray, leave_ray
from spd_ray.records.trials import read_trials
from spd_ray.trials import ranks, signs
from tests.integration.test_sweep import sweep_of  # noqa: F401
from tests.integration.two_ranks import PARTS, events, measure, resumed
from tests.sweeps import SPACE, scores, steps_of

METHOD = {
    "total_epochs": 4, "stage1_epochs": 2, "stage2_epochs": 1, "stage1_lr": 2e-3, "batch_size": 8,
    "target_sparsity": 0.5, "dropout": 0.0, "p0": 0.5, "pruning_events": 3, "objective": {"task": 1.0, "cosine": 1.0},
}  # fmt: skip
COMBINATIONS = [("fp32", 0), ("fp32", 1), ("fp32", 2), ("fp32", 3), ("bf16", 1), ("fp16", 2)]
# relative, of a training step's loss: the order of sums in fp32, rounded gradients below
TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}


@pytest.fixture(scope="module")
def curves(tiny_teacher, tmp_path_factory):
    """What `two_ranks.measure` finds on one rank, and on each of two."""
    folder = tmp_path_factory.mktemp("ranks")
    names = ("task", "model", "teacher")
    settings = {n: c.model_dump(mode="json") for n, c in zip(names, tiny_teacher.configs, strict=True)}
    order = {
        "settings": {**settings, "method": METHOD}, "combinations": COMBINATIONS, "folder": str(folder),
        "port": free_port(),
    }  # fmt: skip
    (folder / "order.json").write_text(json.dumps(order))
    alone = measure(order["settings"], COMBINATIONS, folder)
    alone["events"] = events(order["settings"])
    words = [sys.executable, "-m", "tests.integration.two_ranks", str(folder / "order.json")]
    others = [
        subprocess.Popen([*words, str(rank)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for rank in (0, 1)
    ]
    for other in others:
        _, errors = other.communicate()
        assert other.returncode == 0, errors.decode()
    for precision, stage in COMBINATIONS:
        of_two = folder / f"{precision}-{stage}-of-2"
        alone[f"{precision}-{stage}"]["shrunk"] = resumed(order["settings"], precision, stage, of_two)
    return alone, *(json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1))


@pytest.mark.parametrize(("precision", "zero_stage"), COMBINATIONS)
def test_two_ranks_follow_the_curve_of_one(curves, precision, zero_stage):
    alone, first, second = (found[f"{precision}-{zero_stage}"] for found in curves)
    steps = [[row for row in found["whole"] if row[1] == "batch"] for found in (alone, first)]
    assert [(s, d, n) for s, _, _, d, n in steps[0]] == [(s, d, n) for s, _, _, d, n in steps[1]]
    tolerance = TOLERANCE[precision]
    assert [row[2] for row in steps[1]] == pytest.approx([row[2] for row in steps[0]], rel=tolerance, abs=tolerance)
    assert first["masks"] == second["masks"] == alone["masks"]
    assert first["whole"] == second["whole"]
    assert first["norm"] == second["norm"] == pytest.approx(alone["norm"], rel=tolerance)


@pytest.mark.parametrize(("precision", "zero_stage"), COMBINATIONS)
def test_two_ranks_resume_bit_for_bit(curves, precision, zero_stage):
    for found in curves[1:]:
        both = found[f"{precision}-{zero_stage}"]
        assert both["resumed"] == both["whole"]


@pytest.mark.parametrize(("precision", "zero_stage"), COMBINATIONS)
def test_the_number_of_ranks_may_change_on_resume(curves, precision, zero_stage):
    alone, first, _ = (found[f"{precision}-{zero_stage}"] for found in curves)
    for changed, as_before in ((alone["shrunk"], first["whole"]), (first["grown"], alone["whole"])):
        expected = as_before[-len(changed) :]
        assert [(step, split) for step, split, *_ in changed] == [(step, split) for step, split, *_ in expected]
        losses = ([row[2] for row in rows if row[1] == "batch"] for rows in (changed, expected))
        tolerance = TOLERANCE[precision]
        assert next(losses) == pytest.approx(next(losses), rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("part", PARTS)
def test_two_ranks_score_prune_and_regrow_as_one(curves, part):
    """Scores that differ by the order of sums alone may change places at a mask's edge: a few of 8,000 weights."""
    alone, first, second = (found["events"][part] for found in curves)
    assert first == second
    assert first["statistics"] == pytest.approx(alone["statistics"], rel=1e-4, abs=1e-6)
    assert first["norm"] == pytest.approx(alone["norm"], rel=1e-5)
    assert len(first["kept"]) == len(alone["kept"])
    assert len({*first["kept"]} ^ {*alone["kept"]}) <= 0.001 * len(alone["kept"])


def swept(sweep_of, name: str, **changes: object) -> Path:  # noqa: F811
    """The folder of a sweep that has ended, and left no Ray worker: they have its variable in their environment."""
    mark = f"SPD_RAY_{name.upper()}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(mark, "1")
        done, folder = sweep_of(name, **changes)
    assert done.returncode == 0, done.stderr
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            assert "ray::" not in " ".join(process.info["cmdline"] or []) or mark not in process.environ(), process
    return folder


@pytest.fixture(scope="module")
def two_workers(sweep_of):  # noqa: F811
    # with the labels: a student that starts as its teacher has gradients of rounding noise, and AdamW steps along them
    trial = {**SPACE["method"], "dropout": 0.0, "objective": {"task": 1.0}}
    resources = {"workers": 2, "cpus_per_worker": 1, "concurrent": 1}
    folder = swept(sweep_of, "two_workers", method=trial, resources=resources, engine={"zero_stage": 2})
    return folder, trial


def test_a_sweep_of_two_worker_trials_ends_like_one_of_lone_workers(two_workers, sweep_of):  # noqa: F811
    folder, trial = two_workers
    alone = swept(sweep_of, "lone_workers", method=trial, engine={"zero_stage": 2})
    assert [row[:4] for row in scores(folder)] == [row[:4] for row in scores(alone)]
    ours, theirs = ([row for row in steps_of(which) if row["split"] == "batch"] for which in (folder, alone))
    assert [row["draw"] for row in ours] == [row["draw"] for row in theirs]
    assert [row["value"] for row in ours] == pytest.approx([row["value"] for row in theirs], rel=1e-3, abs=1e-3)


def test_a_rank_that_is_shot_costs_its_trial_nothing(two_workers, sweep_of):  # noqa: F811
    folder, trial = two_workers
    resources = {"workers": 2, "cpus_per_worker": 1, "concurrent": 1}
    words = sweep_of.command("shot_rank", method=trial, resources=resources, engine={"zero_stage": 2})
    sweep = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    shot = False
    while sweep.poll() is None:
        ranks = [
            p
            for p in psutil.process_iter(["name", "cmdline"])
            if (p.info["cmdline"] or [""])[0].startswith("ray::Rank")
        ]
        state = Path(folder.parent / "shot_rank" / "state")
        if ranks and not shot and any(state.glob("*/step-*")):
            os.kill(ranks[0].pid, signal.SIGKILL)
            shot = True
        time.sleep(0.2)
    assert sweep.wait() == 0, sweep.stderr.read().decode()
    assert shot
    assert scores(folder.parent / "shot_rank") == scores(folder)
    assert {trial.status for trial in read_trials(folder.parent / "shot_rank")} == {"finished"}


def other_rank():
    """Made in a function, for Ray to send it whole: a worker cannot import the tests."""

    class Other:
        def answer(self):
            return None

        def fail(self):
            raise MemoryError("no memory left on rank 1")

        def wait(self):
            threading.Event().wait()

        def process(self):
            return os.getpid()

    return ray.remote(Other).options(num_cpus=0).remote()


def test_a_rank_zero_that_waits_for_a_dead_rank_ends_within_seconds_with_its_reason(monkeypatch):
    """As in a collective of NCCL, which a stub stands for: it returns when the process would have been killed."""
    ended = threading.Event()
    monkeypatch.setattr(ranks, "end_process", ended.set)
    join_ray(None, "ERROR")
    try:
        others = [other_rank() for _ in range(2)]
        assert ranks.run_with_others(lambda: 7, [one.answer.remote() for one in others], 0.2) == 7
        with pytest.raises(MemoryError):  # it fails by itself, as gloo does: the other's reason is the trial's
            ranks.run_with_others(lambda: 1 / 0, [others[0].fail.remote()], 5.0)
        with pytest.raises(MemoryError):  # and it need not wait for one that waits for the dead one
            ranks.run_with_others(lambda: 7, [others[0].fail.remote(), others[1].wait.remote()])
        assert not ended.is_set()
        doomed = other_rank()
        process = ray.get(doomed.process.remote())

        def hang() -> None:
            """As a collective would, until the process is ended; a rank that waits is shot meanwhile."""
            if waits:
                os.kill(process, signal.SIGKILL)
            assert ended.wait(20)

        for waits, reason in ((False, "MemoryError: no memory left on rank 1"), (True, "worker process has died")):
            call = doomed.wait.remote() if waits else doomed.fail.remote()
            with pytest.raises(Exception, match=r"no memory|died"):
                ranks.run_with_others(hang, [call], 0.2, lambda words: signs.tell_last_words("1", words))
            assert reason in signs.read_last_words("1")
            ended.clear()
    finally:
        leave_ray()
