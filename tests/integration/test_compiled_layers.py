"""Trials whose encoder layers are compiled: whole graphs, made once a process, which compute the same."""

import weakref
from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from spd_ray.checks import nodes
from spd_ray.config.method import ObjectiveConfig
from spd_ray.config.trial import EngineConfig
from spd_ray.data import batches
from spd_ray.engine import engine as engines
from spd_ray.engine.engine_state import copy_state, load_state
from spd_ray.model import compiled
from spd_ray.model.surgery import masked_linears
from spd_ray.training import recording, trainer
from spd_ray.training.trainer import train_spd
from tests.integration.test_trainer import TOLERANCE, WITH_LABELS, run_of  # noqa: F401

WIDTHS = 2  # of the tiny task, whose texts have up to 11 tokens
GRAFTED = 3  # graphs: the student's layers, their input with a gradient and without, and the teacher's behind them


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    """Graphs by autograd alone, which take no compiler; returns how many have been compiled."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    monkeypatch.setattr(batches, "COMPILED_WIDTHS", WIDTHS)
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    assert counters["graph_break"] == {}


def pair(run_of, objective=WITH_LABELS, engine=None, **changes):  # noqa: F811
    """The losses of a trial without compiled layers, and with them."""
    runs = [run_of(EngineConfig(compile_layers=on, **(engine or {})), objective=objective, **changes) for on in (0, 1)]
    columns = [[(r.value, r.draw, r.sparsity) for r in train_spd(run) if r.split == "batch"] for run in runs]
    assert [column[1:] for column in columns[0]] == [column[1:] for column in columns[1]]
    return [[value for value, *_ in column] for column in columns]


def test_one_compile_a_worker_serves_all_draws_widths_batch_sizes_and_trials(run_of, graphs):  # noqa: F811
    torch.compiler.reset()
    run = run_of(EngineConfig(compile_layers=True))
    draws = {record.draw for record in train_spd(run) if record.split == "batch"}
    on_device = batches.DeviceSplit.of(run.teacher.data.train, "cpu")
    widths = {on_device.batch(rows, padding=batches.Padding.of(run.config)).tokens.shape for rows in
              batches.epoch_batches(run.teacher.data.train.lengths, 8, 3, 0)}  # fmt: skip
    assert {linear.sparse_from for _, linear in masked_linears(run.model)} == {None}  # auto is dense here
    assert draws == {"00", "01", "10", "11"}
    assert len(widths) > 2
    assert graphs() == GRAFTED
    left = weakref.ref(run.model)
    engines.release(run.engine)
    del run, on_device
    engines.collect_memory()
    assert left() is None
    changes = {"batch_size": 12, "p0": 0.3, "target_sparsity": 0.8, "pruning_schedule": "one_shot", "seed": 4}
    list(train_spd(run_of(EngineConfig(compile_layers=True, gradient_accumulation_steps=2), **changes)))
    assert graphs() == GRAFTED


@pytest.mark.parametrize(
    "engine",
    [{}, {"zero_stage": 2, "gradient_accumulation_steps": 3}, {"precision": "fp16", "zero_stage": 1}],
    ids=str,
)
def test_the_curve_is_that_of_plain_layers(run_of, graphs, engine):  # noqa: F811
    """Over three pruning events and all draws; the plain trial's batches are as wide as their longest text."""
    plain, found = pair(run_of, engine=engine)
    tolerance = TOLERANCE[engine.get("precision", "fp32")]
    assert found == pytest.approx(plain, rel=tolerance, abs=tolerance)
    assert graphs() <= GRAFTED


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({"pruning": "movement"}, GRAFTED),  # reads the gradient of each weight in each step
        ({"pruning": "fisher", "regrowth": {"kind": "gradient"}}, GRAFTED),  # events take gradients, without graphs
        ({"teacher_dropout": 1e-9}, GRAFTED + 1),  # teacher's layers that come first are computed
        ({"trained": "all", "grafting": "none"}, 1),
        ({"objective": ObjectiveConfig(task=1.0, consistency=1.0)}, GRAFTED + 1),
    ],
    ids=str,
)
def test_methods_of_all_kinds_give_the_same_curve(run_of, graphs, changes, most):  # noqa: F811
    plain, found = pair(run_of, **changes)
    assert found == pytest.approx(plain, rel=1e-3)
    assert graphs() <= most


@pytest.mark.parametrize("recorded", [0, 30], ids=["none recorded", "half recorded"])
def test_a_teacher_that_is_computed_in_steps_is_compiled_too(run_of, graphs, monkeypatch, recorded):  # noqa: F811
    choose = partial(recording.choose_teacher_outputs, allowed=recording.Allowance(recorded))
    monkeypatch.setattr(trainer, "choose_teacher_outputs", lambda *arguments: choose(*arguments[:4]))
    plain, found = pair(run_of)
    assert found == pytest.approx(plain, rel=1e-3)
    assert 1 <= graphs() <= GRAFTED + 2  # without a gradient; of a single example


def test_a_resumed_trial_with_dropout_goes_on_bit_for_bit(run_of, tmp_path):  # noqa: F811
    engine = EngineConfig(compile_layers=True)
    whole = [(r.step, r.split, r.value) for r in train_spd(run_of(engine, dropout=0.1))]
    first, part = run_of(engine, dropout=0.1), []
    for record in train_spd(first):
        part.append((record.step, record.split, record.value))
        if record.split == "dev" and record.metric != "loss":
            break
    copy_state(first.engine).write(tmp_path)
    second = run_of(engine, dropout=0.1)
    load_state(second.engine, tmp_path)
    assert part + [(r.step, r.split, r.value) for r in train_spd(second)] == whole


@pytest.mark.skipif(not nodes.compiles_layers(), reason="torch.compile finds no C++ compiler")
def test_inductors_kernels_give_the_curve_of_plain_layers(run_of, graphs, monkeypatch):  # noqa: F811
    monkeypatch.setattr(compiled, "BACKEND", "inductor")
    plain, found = pair(run_of, p0=1.0)
    assert found == pytest.approx(plain, rel=TOLERANCE["fp32"])
    assert found != plain
    assert graphs() == 2  # no draw has a teacher's layer
