"""Every method by name on a real engine: its parts do what its file says, and its student is what the record says."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from spd_ray.config.method import MethodConfig
from spd_ray.config.methods import METHODS, fill_in, load_method
from spd_ray.config.trial import EngineConfig, TrialConfig
from spd_ray.data.batches import DeviceSplit
from spd_ray.engine.engine_state import copy_state, load_state
from spd_ray.equations import criteria
from spd_ray.model import surgery
from spd_ray.model.objective import Needs
from spd_ray.training import recording
from spd_ray.training.checkpoint import count_zeros, export_student, load_checkpoint, verify_checkpoint
from spd_ray.training.teacher import evaluate, pretrained_classifier
from spd_ray.training.teacher_outputs import LiveTeacher, RecordedTeacher, in_memory, record
from spd_ray.training.trainer import batches_from, loss_terms, prepare, student_losses, train_spd
from tests.taken_steps import train_steps

BUDGET = dict(
    total_epochs=4, stage1_epochs=2, stage2_epochs=1, stage1_lr=2e-3, batch_size=8, target_sparsity=0.5,
    dropout=0.1, eval_every_epochs=2, criterion={"gradients": 2},
)  # fmt: skip


@pytest.fixture
def run_of(tiny_teacher):
    def make(name, engine=None, seed=3, **changes):
        task, model, settings = tiny_teacher.configs
        method = MethodConfig.model_validate(fill_in({**BUDGET, **changes}, load_method(name).method))
        return prepare(
            TrialConfig(
                task=task, model=model, teacher=settings, method=method,
                engine=engine or EngineConfig(), seed=seed,
            ),
            tiny_teacher.teacher,
        )  # fmt: skip

    return make


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_prunes_and_leaves_the_student_that_its_parts_say(run_of, tmp_path, name):
    run = run_of(name)
    method, teacher = run.config.method, run.teacher.model
    records = list(train_spd(run))
    steps = [r for r in records if r.split == "batch"]
    named = {term for term in method.objective.weights()}
    assert {t for t in named if getattr(steps[-1], f"loss_{t}") is not None} == named
    assert np.isfinite([r.value for r in steps]).all()
    assert ({r.draw for r in steps} != {"1" * len(run.layers)}) == method.grafts

    depth = max(1, round(method.student.depth * 2))
    assert len(run.layers) == depth
    export_student(run, tmp_path / "student")
    student = load_checkpoint(tmp_path / "student")
    assert student.config.num_hidden_layers == depth
    zeros, numel = (sum(getattr(one, field) for one in count_zeros(student)) for field in ("zeros", "numel"))
    assert zeros / numel == pytest.approx(method.final_sparsity, abs=1e-3)
    nonzero = sum(int((p != 0).sum()) for p in student.bert.encoder.parameters())
    assert surgery.remaining_parameters(run.model)[0] == nonzero
    per_matrix = not method.prunes_globally
    verified = verify_checkpoint(tmp_path / "student", run.timeline.final_sparsity, per_matrix, run.teacher)
    assert verified.score == pytest.approx(records[-1].value)

    same = torch.equal(student.bert.embeddings.word_embeddings.weight, teacher.bert.embeddings.word_embeddings.weight)
    assert same == (method.trained == "layers")


RESUMED = [
    "theseus", "tickets", "rpp", "tinybert6", "cr_ild", "soft_movement", "platon", "obert", "rigl", "dst_ee",
    "grow_prune",
]  # fmt: skip


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize(("precision", "zero_stage"), [("fp32", 0), ("fp16", 1), ("bf16", 2)])
def test_any_method_resumes_bit_for_bit(run_of, tmp_path, name, precision, zero_stage):
    """From the first evaluation, after which the pruned ones have events to come."""
    engine = EngineConfig.model_validate({"precision": precision, "zero_stage": zero_stage})
    whole = [(r.step, r.split, r.metric, r.value) for r in train_spd(run_of(name, engine, eval_every_epochs=1))]
    first = run_of(name, engine, eval_every_epochs=1)
    events = first.timeline.pruning_events
    assert not events or events[-1].step > 8
    cut = next(i for i, r in enumerate(train_spd(first)) if r.split == "dev" and r.metric != "loss")
    copy_state(first.engine).write(tmp_path)
    second = run_of(name, engine, eval_every_epochs=1)
    load_state(second.engine, tmp_path)
    assert whole[: cut + 1] + [(r.step, r.split, r.metric, r.value) for r in train_spd(second)] == whole


@pytest.mark.parametrize(
    "engine",
    [
        {}, {"gradient_accumulation_steps": 2}, {"zero_stage": 1}, {"zero_stage": 2, "gradient_accumulation_steps": 2},
        {"precision": "fp16", "initial_scale_power": 24}, {"precision": "fp16", "zero_stage": 2},
    ],
    ids=str,
)  # fmt: skip
def test_a_criterion_sees_weight_times_gradient_of_the_whole_step_whatever_the_engine(run_of, engine):
    """Also where fp16 overflows at first: these attempts count nothing."""
    run = run_of("movement", EngineConfig(**engine), dropout=0.0, clip_norm=1e-3)
    alone = run_of("movement", dropout=0.0)
    alone = replace(alone, engine=alone.model)
    weights = [linear.weight for _, linear in surgery.masked_linears(alone.model)]
    terms = loss_terms(alone, next(batches_from(alone, 0))[0], 0, (True,) * len(alone.layers))
    expected = torch.autograd.grad(terms["task"], weights)
    skipped = []
    train_steps(run, 1, lambda taken: skipped.append(taken.known["skipped"]))
    assert (skipped[0] > 0) == ("initial_scale_power" in engine)
    for (_, linear), weight, gradient in zip(surgery.masked_linears(run.model), weights, expected, strict=True):
        tolerance = 1e-6 if run.config.engine.precision == "fp32" else 2e-4
        torch.testing.assert_close(linear.statistics["movement"], -weight * gradient, rtol=0.02, atol=tolerance)


def test_layers_that_a_draw_leaves_out_keep_their_statistics(run_of):
    run = run_of("spd_movement", p0=0.5)
    seen = []

    def look(taken):
        sums = [float(own[0].statistics["movement"].sum()) if own[0].statistics else 0.0 for own in run.pruner._layers]
        seen.append((taken.known["draw"], sums))

    train_steps(run, 8, look)
    for (_, before), (draw, after) in itertools.pairwise(seen):
        assert [a != b for a, b in zip(before, after, strict=True)] == [r == "1" for r in draw]
    assert len({draw for draw, _ in seen}) > 2


def test_the_highest_scores_stay_at_an_event(run_of):
    run = run_of("platon", pruning_events=1)
    event = run.timeline.pruning_events[0].step
    scored = {}

    def look(taken):
        if taken.known["step"] == event - 1:
            for name, one in surgery.masked_linears(run.model):
                settings = run.config.method.criterion.model_dump()
                scored[name] = criteria.platon_score(one.weight.detach(), one.statistics, settings)

    train_steps(run, event + 1, look)
    linears = dict(surgery.masked_linears(run.model))
    kept, gone = (torch.cat([scored[n][one.mask == m] for n, one in linears.items()]) for m in (True, False))
    assert kept.min() >= gone.max()
    assert len(kept) == len(gone)  # in one ranking of all matrices


@pytest.mark.parametrize(
    "engine", [{}, {"precision": "bf16"}, {"zero_stage": 2}, {"precision": "fp16", "zero_stage": 1}], ids=str
)
def test_weights_that_come_back_begin_at_zero_without_moments(run_of, engine):
    run = run_of("rigl", EngineConfig(**engine), pruning_events=3)
    linears, step = dict(surgery.masked_linears(run.model)), run.timeline.pruning_events[1].step
    train_steps(run, step)
    before = {name: one.mask.clone() for name, one in linears.items()}
    run.pruner.event(step, partial(student_losses, run, step))
    state = copy_state(run.engine).tensors
    for name, one in linears.items():
        fresh, kept = one.mask & ~before[name], one.mask & before[name]
        assert int(one.mask.sum()) == int(before[name].sum()) == one.mask.numel() // 2
        assert fresh.any()
        for tensor in (one.weight, *(state[f"{kind}.{name}.weight"] for kind in ("weight", "exp_avg", "exp_avg_sq"))):
            assert not tensor[fresh].any()
            assert tensor[kept].count_nonzero() > 0.9 * kept.sum()


def test_grow_and_prune_makes_partitions_dense_in_turn_and_is_feasible_at_its_end_alone(run_of):
    run = run_of("grow_prune", pruning_events=4, regrowth={"partitions": 2})
    timeline, dense = run.timeline, []

    def look(taken):
        dense.append([all(bool(one.mask.all()) for _, one in surgery.masked_linears(layer)) for layer in run.layers])

    train_steps(run, timeline.pruning_end_step + 1, look)
    turns = [dense[event.step] for event in timeline.pruning_events]
    assert turns == [[True, False], [False, True], [True, False], [False, False]]
    assert [timeline.pruning_is_over(event.step) for event in timeline.pruning_events] == [False, False, False, True]


def test_tickets_rewind_what_is_left_to_the_pretrained_weights(run_of):
    run = run_of("tickets", pruning_events=1)
    pretrained = pretrained_classifier(run.config.model, run.teacher.data.task, 0.1, run.config.seed)
    before = [p.clone() for p in pretrained.bert.encoder.parameters()]
    event = run.timeline.pruning_events[0].step
    moved = []

    def look(taken):
        if taken.known["step"] == event - 1:  # its gradient is applied, and nothing is pruned yet
            moved.extend(p.clone() for p in run.layers[0].student.parameters())

    train_steps(run, event + 1, look)
    assert moved
    assert not all(torch.equal(a, b) for a, b in zip(moved, before, strict=False))
    linear = next(linear for _, linear in surgery.masked_linears(run.model))
    assert 0.3 < (~linear.mask).float().mean() < 0.7
    after_one_step = (linear.weight - before[0]).abs().max()
    assert after_one_step <= 2 * run.config.method.stage1_lr  # Adam's first step has length lr: moments were forgotten


def test_the_reweighted_norm_makes_small_weights_exactly_zero(run_of):
    run = run_of("rpp", l1=0.5)
    train_steps(run, 10)
    with_norm = [int((one.weight == 0).sum()) for _, one in surgery.masked_linears(run.model)]
    assert all(with_norm)
    steps = {r.step: r.sparsity for r in train_spd(run) if r.split == "batch"}
    event = run.timeline.pruning_events[0].step
    assert (steps[event - 2], steps[event]) == (0.0, pytest.approx(0.5, abs=0.01))
    assert 0.2 < steps[event - 1] < 0.9  # what the norm has zeroed before the event is recorded
    plain = run_of("rpp", l1=0.0)
    train_steps(plain, 10)
    assert not any(int((one.weight == 0).sum()) for _, one in surgery.masked_linears(plain.model))


def test_phases_change_the_objective(run_of):
    steps = [r for r in train_spd(run_of("tinybert6")) if r.split == "batch"]
    last_of_layers = max(r.step for r in steps if r.loss_hidden is not None)
    first_of_predictions = min(r.step for r in steps if r.loss_prediction is not None)
    assert (len(steps), last_of_layers, first_of_predictions) == (32, 19, 20)  # 0.6 of 32 steps is 19.2


def test_the_consistency_term_rises_from_zero_and_reaches_the_student(run_of):
    steps = [r for r in train_spd(run_of("cr_ild")) if r.split == "batch"]
    terms = [r.loss_consistency for r in steps if r.loss_consistency is not None]
    assert terms[0] == 0.0 < terms[-1]
    without = [r for r in train_spd(run_of("cr_ild", phases=[{
        "until": 0.5, "objective": {"layers": "last", "attention_maps": "scores", "prediction": 0, "attention": 0,
                                    "attention_relation": 1},
    }])) if r.split == "batch"]  # fmt: skip
    assert [r.loss_hidden for r in steps[:2]] == [r.loss_hidden for r in without[:2]]
    assert steps[10].loss_hidden != without[10].loss_hidden


@pytest.mark.parametrize("name", ["spd", "theseus", "minilm", "sparsebert"])
def test_recorded_and_live_teachers_give_the_same_terms(run_of, name):
    run = run_of(name, dropout=0.0)
    train = run.teacher.data.train
    model = run.model
    if run.config.method.trained == "all":
        model = surgery.teacher_in_blocks(run.teacher.model, run.config.method.student, "scores")
    live = LiveTeacher(model, surgery.grafted_layers(model))
    needs = Needs.of(run.config.method, len(run.layers))
    recorded = record(partial(in_memory, model), live, train, needs)
    assert isinstance(run.teacher_outputs, RecordedTeacher)
    batch = DeviceSplit.of(train, "cpu").batch(np.arange(8))
    ours, theirs = recorded.outputs(batch), live.outputs(batch)
    assert torch.allclose(ours.logits, theirs.logits, atol=1e-5)
    real = batch.tokens
    for index, (one, other) in enumerate(zip(ours.layers, theirs.layers, strict=True)):
        if index in needs.hidden:
            assert torch.allclose(one.hidden[real], other.hidden[real], atol=1e-5)
        else:
            assert one.hidden.numel() == 0
    draw = (True,) * len(run.layers)
    terms = loss_terms(run, batch, 0, draw)
    object.__setattr__(run, "teacher_outputs", live)
    for name_, value in loss_terms(run, batch, 0, draw).items():
        assert terms[name_].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("name", "precision"), [("spd", "fp32"), ("spd", "bf16"), ("minilm", "fp16")])
def test_a_teacher_too_large_for_memory_is_read_from_files_that_are_written_once(
    run_of, tmp_path, monkeypatch, name, precision
):
    engine = EngineConfig.model_validate({"precision": precision})

    def curve():
        run = run_of(name, engine)
        assert isinstance(run.teacher_outputs, RecordedTeacher)
        return [record.value for record in itertools.islice(train_spd(run), 6)]

    def files():
        return {file.name: file.stat().st_ino for file in tmp_path.glob("activations/*/*.bin")}

    expected = curve()
    monkeypatch.setattr(recording, "MEMORY_LIMIT_BYTES", 0)
    monkeypatch.setenv("SPD_RAY_CACHE", str(tmp_path))
    assert curve() == expected
    written = files()
    assert curve() == expected
    assert files() == written
    assert written


def test_a_teacher_too_large_for_memory_and_disk_is_computed_in_every_step(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "MEMORY_LIMIT_BYTES", 0)
    monkeypatch.setattr(recording, "SHARE_OF_FREE", 0.0)
    monkeypatch.setenv("SPD_RAY_CACHE", str(tmp_path))
    assert isinstance(run_of("spd").teacher_outputs, LiveTeacher)


def test_a_student_that_is_trained_whole_learns_without_the_teachers_layers(run_of):
    run = run_of("distilbert", total_epochs=8, stage1_epochs=4)
    assert surgery.teacher_modules(run.model) == [layer.teacher for layer in run.layers]
    before = evaluate(run.model, run.teacher.data.dev, run.teacher.data.task).loss
    list(train_spd(run))
    assert evaluate(run.model, run.teacher.data.dev, run.teacher.data.task).loss < before
