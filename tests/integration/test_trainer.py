"""Algorithm 1 on a real DeepSpeed engine: what it reduces to, what it resumes to, and that zeros are exact."""

import copy
import itertools
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from spd_ray.config.method import MethodConfig, ObjectiveConfig
from spd_ray.config.trial import EngineConfig, TrialConfig
from spd_ray.data.batches import collate, epoch_batches
from spd_ray.engine.engine_state import copy_state, load_state, whole_parameters
from spd_ray.equations.masks import zeros_asked
from spd_ray.model import surgery
from spd_ray.training.checkpoint import count_zeros, export_student, load_checkpoint, verify_checkpoint
from spd_ray.training.trainer import TrainingError, prepare, train_spd

SHORT = dict(
    total_epochs=6, stage1_epochs=3, stage2_epochs=1, stage1_lr=2e-3, stage23_lr=1e-3, batch_size=8,
    target_sparsity=0.5, dropout=0.0, p0=0.5, pruning_events=3, eval_every_epochs=2,
)  # fmt: skip
# A student that starts as its teacher has gradients of rounding noise, and AdamW steps along them: where curves are
# compared, the labels give it others.
WITH_LABELS = ObjectiveConfig(task=1.0, cosine=1.0)
# relative, of a training step's loss
TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}


@pytest.fixture
def run_of(tiny_teacher):
    def make(engine=None, seed=3, **changes):
        task, model, settings = tiny_teacher.configs
        return prepare(
            TrialConfig(
                task=task, model=model, teacher=settings, method=MethodConfig(**{**SHORT, **changes}),
                engine=engine or EngineConfig(), seed=seed,
            ),
            tiny_teacher.teacher,
        )  # fmt: skip

    return make


def losses_of(run):
    return [record.value for record in train_spd(run) if record.split == "batch"]


def plain_loop(run, student, loss_of, pruned_at=None):
    """What a person would write: a stock model, AdamW, clipping, linear decay. Shares no code with the trainer."""
    train, method, t1, t3 = run.teacher.data.train, run.config.method, run.timeline.t1, run.timeline.t3
    layers = student.requires_grad_(False).bert.encoder.layer.requires_grad_(True)
    trained = list(layers.parameters())
    optimizer = torch.optim.AdamW(trained, weight_decay=0.0)
    linears = [module for module in layers.modules() if isinstance(module, torch.nn.Linear)]
    masks = [torch.ones_like(linear.weight) for linear in linears]
    order = (
        indices
        for epoch in itertools.count()
        for indices in epoch_batches(train.lengths, method.batch_size, run.config.seed, epoch)
    )
    history = []
    for step, indices in zip(range(t3), order, strict=False):
        stage1, later = method.stage1_lr * (1 - step / t1), method.stage23_lr * (1 - (step - t1) / (t3 - t1))
        optimizer.param_groups[0]["lr"] = stage1 if step < t1 else later
        for linear, mask in zip(linears, masks, strict=True):
            linear.weight.data.mul_(mask)
        loss = loss_of(student, collate(train, indices, torch.device("cpu")))
        optimizer.zero_grad()
        loss.backward()
        for linear, mask in zip(linears, masks, strict=True):
            linear.weight.grad.mul_(mask)
        torch.nn.utils.clip_grad_norm_(trained, method.clip_norm)
        optimizer.step()
        history.append(loss.item())
        if step + 1 == pruned_at:
            for linear, mask in zip(linears, masks, strict=True):
                order_of_magnitude = linear.weight.detach().abs().flatten().argsort()
                mask.view(-1)[order_of_magnitude[: round(method.target_sparsity * mask.numel())]] = 0.0
    return history


def distillation(student, teacher, batch):
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    maps = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        t = teacher(**inputs, **maps)
    s = student(**inputs, **maps)
    real = batch["attention_mask"].bool()
    pairs = (real[:, :, None] & real[:, None, :])[:, None]
    loss = -(t.logits.softmax(-1) * s.logits.log_softmax(-1)).sum(-1).mean()
    for hs, ht in zip(s.hidden_states[1:], t.hidden_states[1:], strict=True):
        loss = loss + F.mse_loss(hs[real], ht[real])
    for a_s, a_t in zip(s.attentions, t.attentions, strict=True):
        chosen = pairs.expand_as(a_s)
        loss = loss + F.mse_loss(a_s[chosen], a_t[chosen])
    return loss


def test_zero_sparsity_with_p_1_is_plain_distillation(run_of):
    run = run_of(target_sparsity=0.0, p0=1.0)
    for parameter in (p for p in run.model.parameters() if p.requires_grad):
        torch.manual_seed(parameter.numel())
        parameter.data.add_(0.05 * torch.randn_like(parameter))  # else the student starts as the teacher: no loss
    student = copy.deepcopy(run.teacher.model)
    student.load_state_dict(surgery.extract_student(run.model))
    expected = plain_loop(run, student, lambda model, batch: distillation(model, run.teacher.model, batch))
    assert losses_of(run) == pytest.approx(expected, rel=2e-3)
    assert expected[0] > expected[-1]


def test_kd_off_with_p_1_is_plain_fine_tuning_with_pruning(run_of):
    kd_off = ObjectiveConfig(hidden=0, attention=0, prediction=0, task=1)
    run = run_of(p0=1.0, pruning_schedule="one_shot", objective=kd_off)

    def task_loss(model, batch):
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        return F.cross_entropy(model(**inputs).logits, batch["labels"])

    student = copy.deepcopy(run.teacher.model)
    expected = plain_loop(run, student, task_loss, pruned_at=run.timeline.pruning_end_step)
    assert losses_of(run) == pytest.approx(expected, rel=2e-3)
    assert surgery.sparsity(run.model) == pytest.approx(0.5, abs=1e-3)


def test_records_tell_the_schedules_the_draws_and_the_scores(run_of):
    run = run_of()
    records = list(train_spd(run))
    timeline, steps = run.timeline, [r for r in records if r.split == "batch"]
    assert [r.step for r in steps] == list(range(timeline.t3))
    assert [r.p for r in steps] == [timeline.replacing_probability(t) for t in range(timeline.t3)]
    assert [r.learning_rate for r in steps] == [timeline.learning_rate(t) for t in range(timeline.t3)]
    assert [r.sparsity for r in steps] == pytest.approx(
        [timeline.pruning_rate(t) for t in range(timeline.t3)], abs=2e-3
    )
    assert {r.draw for r in steps if r.stage == 3} == {"11"}
    assert len({r.draw for r in steps if r.stage == 1}) == 4
    assert all(r.value == pytest.approx(r.loss_hidden + r.loss_attention + r.loss_prediction, rel=1e-5) for r in steps)
    scores = [r for r in records if r.split != "batch"]
    assert [r.step for r in scores] == [t for t in timeline.eval_steps for _ in range(4)]
    assert [(r.split, r.metric) for r in scores[:4]] == [
        ("train", "loss"), ("train", "accuracy"), ("dev", "loss"), ("dev", "accuracy"),
    ]  # fmt: skip


def test_a_draw_of_no_student_layer_is_a_step_with_gradient_zero(run_of):
    run = run_of(p0=0.0, target_sparsity=0.0)
    before = surgery.extract_student(run.model)
    steps = list(itertools.islice(train_spd(run), run.timeline.eval_steps[0]))
    assert {r.draw for r in steps} == {"00"}
    assert run.step == len(steps)
    assert all(torch.equal(before[name], tensor) for name, tensor in surgery.extract_student(run.model).items())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_zeros_are_exact_and_a_resumed_trial_goes_on_bit_for_bit(run_of, tmp_path, precision, zero_stage):
    engine = EngineConfig(precision=precision, zero_stage=zero_stage)
    undisturbed = run_of(engine, dropout=0.1)
    whole = list(train_spd(undisturbed))

    first = run_of(engine, dropout=0.1)
    part = []
    for record in train_spd(first):
        part.append(record)
        if record.split == "dev" and record.metric != "loss":
            break
    copy_state(first.engine).write(tmp_path)
    second = run_of(engine, dropout=0.1)
    load_state(second.engine, tmp_path)
    resumed = part + list(train_spd(second))
    assert [(r.step, r.split, r.metric, r.value, r.draw) for r in resumed] == [
        (r.step, r.split, r.metric, r.value, r.draw) for r in whole
    ]

    with whole_parameters(second.engine):
        export_student(second, tmp_path / "student")
    for layer in count_zeros(load_checkpoint(tmp_path / "student")):
        assert layer.zeros == zeros_asked(layer.numel, 0.5)
    verified = verify_checkpoint(tmp_path / "student", 0.5, True, second.teacher)
    assert verified.score == pytest.approx(whole[-1].value, abs=0 if precision == "fp32" else 0.1)


def test_a_skipped_step_advances_no_schedule(run_of):
    run = run_of(EngineConfig(precision="fp16", initial_scale_power=32))
    steps = list(itertools.islice((r for r in train_spd(run) if r.split == "batch"), 6))
    assert sum(r.skipped for r in steps) > 0
    assert steps[-1].loss_scale < 2**32
    assert [r.step for r in steps] == list(range(6))
    assert [r.learning_rate for r in steps] == [run.timeline.learning_rate(t) for t in range(6)]


def test_a_trial_resumed_among_skipped_steps_goes_on_bit_for_bit(run_of, tmp_path):
    engine = EngineConfig(precision="fp16", initial_scale_power=24, loss_scale_window=3)
    whole, first, second = [list(train_spd(run_of(engine)))], run_of(engine), run_of(engine)
    part = list(itertools.islice(train_spd(first), first.timeline.eval_steps[0] + 4))
    copy_state(first.engine).write(tmp_path)
    load_state(second.engine, tmp_path)
    columns = [
        [(r.step, r.value, r.loss_scale, r.skipped) for r in records if r.split == "batch"]
        for records in (*whole, part + list(train_spd(second)))
    ]
    assert columns[0] == columns[1]
    assert any(skipped for step, *_, skipped in columns[0] if step < len(part))
    assert any(skipped for step, *_, skipped in columns[0] if step > len(part))


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(run_of):
    assert losses_of(run_of()) == losses_of(run_of())
    assert losses_of(run_of(seed=3)) != losses_of(run_of(seed=4))


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_endless_overflow_ends_the_trial_with_its_reason(run_of, zero_stage):
    run = run_of(EngineConfig(precision="fp16", zero_stage=zero_stage, initial_scale_power=3))
    for parameter in run.model.parameters():
        parameter.data.mul_(1e4)
    with pytest.raises(TrainingError, match="fp16 overflows even at loss scale 1 at step 0"):
        next(train_spd(run))


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_a_layer_that_the_draw_leaves_out_keeps_its_momentum_at_every_zero_stage(run_of, zero_stage):
    run = run_of()
    assert losses_of(run_of(EngineConfig(zero_stage=zero_stage))) == pytest.approx(losses_of(run), rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_lower_precision_follows_the_fp32_curve(run_of, precision, zero_stage):
    expected = losses_of(run_of(objective=WITH_LABELS))
    curve = losses_of(run_of(EngineConfig(precision=precision, zero_stage=zero_stage), objective=WITH_LABELS))
    tolerance = TOLERANCE[precision]
    assert curve == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize(("precision", "zero_stage"), [("fp32", 0), ("fp32", 2), ("bf16", 1), ("fp16", 0)])
def test_a_batch_in_parts_gives_the_curve_of_the_whole(run_of, precision, zero_stage):
    settings = {"precision": precision, "zero_stage": zero_stage}
    whole = run_of(EngineConfig(**settings), objective=WITH_LABELS)
    parts = run_of(EngineConfig(**settings, gradient_accumulation_steps=3), objective=WITH_LABELS)  # 8 in 3, 3, 2
    tolerance = TOLERANCE[precision]
    assert losses_of(parts) == pytest.approx(losses_of(whole), rel=tolerance, abs=tolerance)
    assert parts.step == whole.step == whole.timeline.t3


def test_one_rank_compiles_nothing_and_needs_no_compiler(tmp_path):
    script = "from spd_ray.engine import engine; engine.ensure_group(); print(engine.world_size())"
    bare = {"PATH": str(tmp_path), "HOME": str(tmp_path), "TORCH_EXTENSIONS_DIR": str(tmp_path / "built")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=bare)
    assert done.stdout.split()[-1] == "1", done.stderr
    assert not (tmp_path / "built").exists()


def test_what_a_killed_process_left_while_it_compiled_stops_nobody():
    script = """
from pathlib import Path
from spd_ray.engine import engine
from torch.utils import cpp_extension

builder = engine.get_accelerator().create_op_builder("ShareMemCommBuilder")
(Path(cpp_extension._get_build_directory(builder.name, verbose=False)) / "lock").touch()
engine._load_shared_memory_op()
print("loaded")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split()[-1] == "loaded", done.stderr
