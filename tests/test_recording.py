"""Where a trial's recorded teacher outputs lie, how many there are, and that both change no bit."""

import itertools
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spd_ray.base import cache
from spd_ray.config.method import MethodConfig
from spd_ray.config.trial import EngineConfig, TrialConfig
from spd_ray.data.batches import DeviceSplit, Padding
from spd_ray.model.objective import Needs
from spd_ray.training import recording, teacher_outputs
from spd_ray.training.recording import FILES, PRIVATE, SHARED, Allowance
from spd_ray.training.teacher_outputs import LiveTeacher, PartlyRecordedTeacher, RecordedTeacher
from spd_ray.training.trainer import prepare, train_spd

TRAIN = 60  # examples
SHARES = Allowance(shares=True)


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """A worker that has recorded nothing yet, on a machine whose shared memory and cache are folders of the test."""
    for name in ("memory", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(cache, "SHARED_MEMORY", tmp_path / "memory")
    monkeypatch.setenv("SPD_RAY_CACHE", str(tmp_path / "cache"))
    kept = OrderedDict()
    monkeypatch.setattr(recording, "_kept", kept)
    yield tmp_path / "memory"
    for one in kept.values():
        if one.folder is not None:
            cache.leave(one.folder)


@pytest.fixture
def run_of(tiny_teacher, memory):
    task, model, settings = tiny_teacher.configs

    def make(allowed=SHARES, engine=None, **changes):
        method = MethodConfig(**{"batch_size": 8, "p0": 0.5, "dropout": 0.0, **changes})
        engine = EngineConfig(**(engine or {}))
        config = TrialConfig(task=task, model=model, teacher=settings, method=method, engine=engine)
        return prepare(config, tiny_teacher.teacher, allowed)

    return make


def limit_to(examples, run, monkeypatch):
    """Make room for about so many of the examples, all of which `run` has recorded."""
    free = run.teacher_outputs.nbytes * examples / TRAIN
    monkeypatch.setattr(recording, "_has_room", lambda size, entry, root: size <= free)


def curve(run, steps=8):
    return [record.value for record in itertools.islice(train_spd(run), steps)]


def tensors(memory):
    return {file.name: file.stat().st_ino for file in memory.glob("*/activations/*/*.bin")}


@pytest.mark.parametrize("engine", [{}, {"precision": "bf16", "zero_stage": 1}], ids=str)
def test_shared_outputs_are_the_private_ones_bit_for_bit(run_of, memory, engine):
    alone = run_of(recording.ALONE, engine)
    assert (alone.teacher_outputs.place, tensors(memory)) == (PRIVATE, {})
    expected = curve(alone)
    recording._kept.clear()
    run = run_of(SHARES, engine)
    assert run.teacher_outputs.place == SHARED
    assert tensors(memory)
    for name in ("hidden", "attention", "value"):
        ours, theirs = (getattr(one.teacher_outputs, name) for one in (run, alone))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[block], theirs[block]) for block in ours)
    assert curve(run) == expected


def test_another_worker_maps_what_one_has_recorded(run_of, memory, monkeypatch):
    first = run_of()
    before = tensors(memory)
    monkeypatch.setattr(recording, "_kept", OrderedDict())  # as another process's

    def refuse(*arguments):
        raise AssertionError("recorded again")

    monkeypatch.setattr(recording, "record", refuse)
    second = run_of()
    assert tensors(memory) == before
    first.teacher_outputs.logits[0] = 7.0  # the same memory
    assert second.teacher_outputs.logits[0].eq(7.0).all()


def test_what_a_worker_drops_for_its_next_trials_goes(run_of, memory, monkeypatch):
    run = run_of()
    before = tensors(memory)
    monkeypatch.setattr(recording, "MEMORY_LIMIT_BYTES", run.teacher_outputs.nbytes + 1)
    other = run_of(engine={"precision": "bf16"})
    assert other.teacher_outputs.place == SHARED
    after = tensors(memory)
    assert before.keys() == after.keys()
    assert set(before.values()).isdisjoint(after.values())
    assert curve(run)  # what is mapped stays


@pytest.mark.parametrize("memory_is", ["full", "absent", "somebody else's"])
def test_without_shared_memory_they_are_files_of_the_cache(run_of, memory, monkeypatch, memory_is):
    expected = curve(run_of(recording.ALONE))
    recording._kept.clear()
    if memory_is == "full":
        free = recording._has_room
        monkeypatch.setattr(
            recording, "_has_room", lambda size, entry, root: root != memory and free(size, entry, root)
        )
    elif memory_is == "absent":
        memory.rmdir()
    else:
        cache.memory_root().symlink_to(memory)
    run = run_of()
    assert run.teacher_outputs.place == FILES
    assert curve(run) == expected


def test_ranks_of_zero_3_record_for_themselves(run_of, memory):
    assert run_of(engine={"zero_stage": 3}).teacher_outputs.place == PRIVATE
    assert tensors(memory) == {}


def test_where_not_all_fit_the_first_examples_are_recorded_and_the_others_computed(run_of, monkeypatch):
    whole = run_of()
    limit_to(40, whole, monkeypatch)
    run = run_of()
    outputs, train = run.teacher_outputs, run.teacher.data.train
    assert isinstance(outputs, PartlyRecordedTeacher)
    count = outputs.recorded.count
    assert count in [TRAIN * eighths // recording.PARTS for eighths in range(1, recording.PARTS)]
    chosen = np.array([count + 2, 0, 59, 3, count - 1, count])
    batch = DeviceSplit.of(train, "cpu").batch(chosen)
    found, expected = outputs.outputs(batch), whole.teacher_outputs.outputs(batch)
    known = chosen < count
    recorded = outputs.recorded.outputs(
        DeviceSplit.of(train, "cpu").batch(chosen[known], padding=Padding(batch.tokens.shape[1]))
    )
    assert torch.equal(found.logits[known], recorded.logits)
    real = batch.tokens
    for ours, part, theirs in zip(found.layers, recorded.layers, expected.layers, strict=True):
        assert torch.equal(ours.hidden[known], part.hidden)
        assert torch.allclose(ours.hidden[real], theirs.hidden[real], atol=1e-5)
        pairs = (real[:, None, :, None] & real[:, None, None, :]).expand_as(theirs.attention)
        assert torch.allclose(ours.attention[pairs], theirs.attention[pairs], atol=1e-5)
    assert torch.allclose(found.logits, expected.logits, atol=1e-5)
    assert curve(run) == pytest.approx(curve(whole), rel=1e-3, abs=1e-5)


def test_as_many_are_recorded_as_was_decided_whatever_there_is_room_for(run_of, monkeypatch):
    whole = run_of()
    expected = {}
    for count in (TRAIN, 30, 0):
        run = run_of(Allowance(count, shares=True))
        kind = {TRAIN: RecordedTeacher, 30: PartlyRecordedTeacher, 0: LiveTeacher}[count]
        assert isinstance(run.teacher_outputs, kind)
        expected[count] = curve(run)
    limit_to(0, whole, monkeypatch)
    monkeypatch.setattr(recording, "_kept", OrderedDict())
    assert isinstance(run_of().teacher_outputs, LiveTeacher)
    for count, values in expected.items():
        assert curve(run_of(Allowance(count, shares=True))) == values


@pytest.mark.parametrize("shares", [False, True])
def test_who_records_tells_each_batch(run_of, monkeypatch, shares):
    monkeypatch.setattr(teacher_outputs, "BATCH_SIZE", 25)
    told = []
    allowed = Allowance(shares=shares, tell=lambda done, of: told.append((done, of)))
    run_of(allowed)
    assert told == [(25, TRAIN), (50, TRAIN), (TRAIN, TRAIN)]
    run_of(allowed)  # finds them
    assert len(told) == 3


@pytest.mark.parametrize(("gpus", "free", "gib"), [(1.0, 16, 4), (0.5, 16, 2), (0.25, 15, 1), (0.5, 4, 1)])
def test_a_gpus_outputs_take_a_quarter_of_the_workers_part_or_of_what_is_free(run_of, monkeypatch, gpus, free, gib):
    """No GPU is needed: one of 16 GiB is said to be there."""
    live = LiveTeacher(SimpleNamespace(device=torch.device("cuda", 0)), ())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * 2**30, 16 * 2**30))
    run = run_of()
    recorder = recording.Recorder(live, run.teacher.data.train, Needs((), (), ()), (), False, Allowance(gpus=gpus))
    for size, place in ((gib * 2**30, PRIVATE), (gib * 2**30 + 1, None)):
        monkeypatch.setattr(recording, "bytes_needed", lambda *arguments, size=size: size)
        assert recorder.place_of(TRAIN) == place
