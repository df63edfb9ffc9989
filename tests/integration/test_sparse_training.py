"""Trials whose pruned matrices are computed by the sparse kernels: when they are, and that a resume changes nothing."""

import json

import pytest

from spd_ray.config.method import MethodConfig, ObjectiveConfig
from spd_ray.config.trial import EngineConfig, TrialConfig
from spd_ray.engine.engine_state import NUMBERS, copy_state, load_state
from spd_ray.kernels import build
from spd_ray.model.surgery import masked_linears
from spd_ray.training import sparse
from spd_ray.training.trainer import prepare, train_spd

METHOD = MethodConfig(
    total_epochs=3, stage1_epochs=1.5, stage2_epochs=0.5, stage1_lr=2e-3, batch_size=8, p0=0.5, target_sparsity=0.8,
    pruning_events=3, pruning_end=0.8, dropout=0.1, eval_every_epochs=1, objective=ObjectiveConfig(task=1.0),
)  # fmt: skip
compiled = pytest.mark.skipif(not build.available(), reason=str(build.unavailable_because()))


@pytest.fixture
def run_of(tiny_teacher):
    def make(**engine):
        task, model, teacher = tiny_teacher.configs
        config = TrialConfig(
            task=task, model=model, teacher=teacher, method=METHOD, engine=EngineConfig(**engine), seed=3
        )
        return prepare(config, tiny_teacher.teacher)

    return make


def linears(run):
    return [linear for _, linear in masked_linears(run.model)]


@compiled
@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_a_resume_keeps_the_crossovers_of_its_trial_and_goes_on_bit_for_bit(run_of, tmp_path, zero_stage):
    def decided(run, sparse_from):
        for index, linear in enumerate(linears(run)):
            linear.sparse_from = sparse_from if index % 2 else None
        return run

    whole = [(r.step, r.split, r.value) for r in train_spd(decided(run_of(zero_stage=zero_stage), 0.3))]
    first, part = decided(run_of(zero_stage=zero_stage), 0.3), []
    for record in train_spd(first):
        part.append((record.step, record.split, record.value))
        if record.split == "dev" and record.metric != "loss":
            break
    used = [linear.kept is not None for linear in linears(first)]
    assert used == [bool(index % 2) for index in range(len(used))]
    copy_state(first.engine).write(tmp_path)
    second = decided(run_of(zero_stage=zero_stage), None)
    load_state(second.engine, tmp_path)
    assert [linear.sparse_from for linear in linears(second)] == [linear.sparse_from for linear in linears(first)]
    assert [linear.kept is not None for linear in linears(second)] == used
    assert part + [(r.step, r.split, r.value) for r in train_spd(second)] == whole
    assert set(json.loads((tmp_path / NUMBERS).read_text())["sparse_from"].values()) == {0.3, None}


@pytest.mark.parametrize(
    "engine", [{"sparse_kernels": "never"}, {"zero_stage": 3}, {"precision": "bf16"}, {"precision": "fp16"}], ids=str
)
def test_other_settings_leave_all_products_dense(run_of, monkeypatch, engine):
    monkeypatch.setattr(sparse, "crossover", lambda out, inputs: pytest.fail("nothing is to be measured"))
    assert {linear.sparse_from for linear in linears(run_of(**engine))} == {None}


@compiled
def test_auto_asks_the_machine_for_each_shape(run_of, monkeypatch):
    monkeypatch.setattr(sparse, "crossover", lambda out, inputs: out / 1000 + inputs / 100)
    for linear in linears(run_of()):
        assert linear.sparse_from == linear.out_features / 1000 + linear.in_features / 100
        assert linear.kept is None


def test_without_kernels_one_line_says_why_and_training_is_dense(run_of, tiny_teacher, monkeypatch):
    monkeypatch.setattr(sparse, "unavailable_because", lambda: "no C++ compiler (c++) is installed")
    line = sparse.make_kernels_ready(EngineConfig(), tiny_teacher.teacher.model, 1)
    assert line == "sparse kernels: no C++ compiler (c++) is installed; trials compute all products densely"
    assert sparse.make_kernels_ready(EngineConfig(sparse_kernels="never"), tiny_teacher.teacher.model, 1) is None
    assert {linear.sparse_from for linear in linears(run_of())} == {None}
