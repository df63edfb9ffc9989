"""The 16-bit step on flat tensors beside DeepSpeed's own, and what a step asks of the device."""

import itertools

import deepspeed
import pytest
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer

from benchmarks.counts import small_encoder, table_of_counts
from spd_ray.config.trial import EngineConfig
from spd_ray.engine.engine import Engine
from spd_ray.engine.engine_state import copy_state, load_state
from spd_ray.engine.optimizer import FlatOptimizer
from spd_ray.training.trainer import TrainingError, train_spd
from tests.integration.test_trainer import WITH_LABELS, run_of  # noqa: F401

STEPS = 20
WHOLE = {"trained": "all", "grafting": "none", "weight_decay": 0.1}


def batch_records(run, steps=STEPS):
    return list(itertools.islice((r for r in train_spd(run) if r.split == "batch"), steps))


@pytest.fixture
def deepspeeds_own(monkeypatch, run_of):  # noqa: F811
    """A run whose 16-bit step is DeepSpeed's, parameter by parameter."""

    def make(*args, **changes):
        own = deepspeed.DeepSpeedEngine._configure_fp16_optimizer
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "_configure_fp16_optimizer", own)
            run = run_of(*args, **changes)
        assert isinstance(run.engine.optimizer, FP16_UnfusedOptimizer)
        return run

    return make


def compare(engine, makers, **changes):
    """20 steps of both runs: the same draws, loss scales and skipped attempts; returns both columns of losses."""
    runs = [make(engine, objective=WITH_LABELS, **changes) for make in makers]
    assert isinstance(runs[0].engine.optimizer, FlatOptimizer)
    ours, theirs = map(batch_records, runs)
    assert [(r.step, r.draw, r.loss_scale, r.skipped) for r in ours] == [
        (r.step, r.draw, r.loss_scale, r.skipped) for r in theirs
    ]
    if engine.precision == "fp16":
        assert sum(r.skipped for r in ours[1:]) > 0
    return [[r.value for r in records] for records in (ours, theirs)]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("changes", [{}, WHOLE], ids=["layers", "all"])
def test_20_steps_are_those_of_deepspeeds_own(run_of, deepspeeds_own, precision, changes):  # noqa: F811
    engine = EngineConfig(precision=precision, initial_scale_power=24)
    ours, theirs = compare(engine, (run_of, deepspeeds_own), **changes)
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_they_are_near_where_the_loss_scale_grows(run_of, deepspeeds_own):  # noqa: F811
    """With that step DeepSpeed 0.19 divides the gradients by the scale that is to come, twice their own."""
    engine = EngineConfig(precision="fp16", initial_scale_power=24, loss_scale_window=6)
    ours, theirs = compare(engine, (run_of, deepspeeds_own))
    assert ours != pytest.approx(theirs, rel=1e-6)
    assert ours == pytest.approx(theirs, rel=1e-2)


def test_a_state_of_deepspeeds_own_step_is_one_of_ours(run_of, deepspeeds_own, tmp_path):  # noqa: F811
    engine = EngineConfig(precision="fp16")
    theirs, ours = deepspeeds_own(engine), run_of(engine)
    batch_records(theirs, 8)
    with pytest.MonkeyPatch.context() as patch:
        wrapped = theirs.engine.optimizer
        groups = zip(wrapped.fp16_groups, wrapped.fp32_groups, strict=True)
        masters = [pair for group in groups for pair in zip(*group, strict=True)]
        pairs = ((p, (master.data, wrapped.state[master])) for p, master in masters)
        patch.setattr("spd_ray.engine.engine_state._pairs", lambda engine: pairs)
        copy_state(theirs.engine).write(tmp_path)
    load_state(ours.engine, tmp_path)
    found = dict(ours.engine.optimizer.masters())
    for (_, master), (parameter, (weight, moments)) in zip(masters, found.items(), strict=True):
        assert torch.equal(weight, master)
        assert torch.equal(parameter, master.half())
        assert torch.equal(moments["exp_avg"], wrapped.state[master]["exp_avg"])
    assert ours.engine.optimizer.loss_scale == wrapped.loss_scale


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_that_are_not_finite_end_the_trial_at_the_evaluation(run_of, precision):  # noqa: F811
    run = run_of(EngineConfig(precision=precision))
    last = run.timeline.eval_steps[0] - 1  # the losses until then are finite
    parameter = run.layers[0].student.output.dense.weight

    def spoil(gradient):
        return gradient * torch.inf if run.step == last else gradient

    parameter.register_hook(spoil)
    with pytest.raises(TrainingError, match=f"gradients are not finite between step 0 and step {last}"):
        next(train_spd(run))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_that_is_not_finite_is_named_with_its_step(run_of, precision):  # noqa: F811
    run = run_of(EngineConfig(precision=precision), p0=1.0, stage1_lr=1e30)
    with pytest.raises(TrainingError, match="the loss is nan at step 1"):
        next(train_spd(run))


@pytest.fixture
def unsynchronized(monkeypatch):
    def refuse(*args):
        raise AssertionError("a step waited for the device")

    monkeypatch.setattr(get_accelerator(), "synchronize", refuse)


def test_a_step_has_few_calls_reads_next_to_nothing_and_copies_nothing(unsynchronized):
    counts = table_of_counts(small_encoder(), ["fp16", "bf16", "fp32"], [0])
    for precision, reads in (("fp16", 2), ("bf16", 0), ("fp32", 0)):
        found = counts[precision]["0"]
        assert 500 < found["calls"] <= 1300
        assert found["host_reads"] <= reads
        assert found["copies"] == 0
    assert counts["fp16"]["0"]["host_reads"] > 0  # whether the gradients overflowed: the counter sees it


def test_a_step_of_deepspeeds_zero_takes_no_more_than_docs_say():
    counts = table_of_counts(small_encoder(), ["fp16", "fp32"], [1])
    for precision, calls, reads in (("fp16", 4700, 4), ("fp32", 2100, 3)):
        found = counts[precision]["1"]
        assert found["calls"] <= calls
        assert found["host_reads"] <= reads
        assert found["copies"] <= 4
