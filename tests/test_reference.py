"""`preset: reference` against NumPy: loss, schedules, masks and a training step, by code that shares nothing with ours.

The public code (docs/methods.md) trains with dropout; it is switched off here, so that a step is a
function of its numbers.
"""

import math

import numpy as np
import pytest
import torch

from spd_ray.config.method import MethodConfig
from spd_ray.config.methods import fill_in
from spd_ray.config.presets import load_preset
from spd_ray.config.timeline import Timeline
from spd_ray.config.trial import TaskConfig, TrialConfig
from spd_ray.data.batches import DeviceSplit, Padding
from spd_ray.model import surgery
from spd_ray.training.trainer import batches_from, draw_at, loss_terms, prepare
from tests.taken_steps import train_steps

EXAMPLES = 2490  # RTE
SEED = 8


def reference(**changes):
    return MethodConfig.model_validate(fill_in(changes, load_preset("reference", {"name": "rte"})["method"]))


def test_the_schedules_at_rtes_size():
    timeline = Timeline.of(reference(), EXAMPLES)
    steps, t1, t2, t3 = np.arange(4680), 2340, 3120, 4680  # 78 steps an epoch; 30, 40 and 60 epochs
    p = np.where(steps < t1, 0.6, np.minimum(1, 0.6 + 0.4 * (steps - t1) / (t2 - t1)))
    rate = np.where(steps < t1, 3e-5 * (1 - steps / t1), 3e-5 * (1 - (steps - t1) / (t3 - t1)))
    assert [timeline.replacing_probability(t) for t in steps] == pytest.approx(p)
    assert [timeline.learning_rate(t) for t in steps] == pytest.approx(rate)
    # an event every 2,340 / 12 = 195 steps; the division is exact, so the twelfth is dropped: 0.8995, not 0.9
    sparsity = np.array([0.9 * (1 - (1 - min(t // 195, 11) / 12) ** 3) for t in steps])
    assert [timeline.pruning_rate(t) for t in steps] == pytest.approx(sparsity)
    assert timeline.final_sparsity == pytest.approx(0.8995, abs=1e-4)


@pytest.fixture
def run(tiny_teacher):
    task, model, settings = tiny_teacher.configs
    method = reference(
        dropout=0.0, teacher_dropout=0.0, total_epochs=6, stage1_epochs=3, stage2_epochs=1, stage1_lr=1e-3,
        stage23_lr=1e-3, batch_size=8, p0=0.5,
    )  # fmt: skip
    padded = TaskConfig(**{**task.model_dump(), "padding": "max_length"})
    run = prepare(
        TrialConfig(task=padded, model=model, teacher=settings, method=method, seed=SEED), tiny_teacher.teacher
    )
    torch.manual_seed(0)
    for parameter in (p for layer in run.layers for p in layer.student.parameters()):
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return run


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class NumpyBert:
    """A BERT classifier in float64, written from its equations; `layers[i]` names the state of layer i."""

    def __init__(self, state, heads):
        self.state = {name: tensor.double().numpy() for name, tensor in state.items()}
        self.heads = heads

    def norm(self, x, name):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        s = self.state
        return (x - mean) / np.sqrt(variance + 1e-12) * s[f"{name}.weight"] + s[f"{name}.bias"]

    def linear(self, x, name):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def run(self, ids, mask, layers):
        e = "bert.embeddings"
        s = self.state
        x = s[f"{e}.word_embeddings.weight"][ids] + s[f"{e}.position_embeddings.weight"][: ids.shape[1]]
        x = self.norm(x + s[f"{e}.token_type_embeddings.weight"][0], f"{e}.LayerNorm")
        hidden, maps = [], []
        for name in layers:
            q, k, v = (
                self.linear(x, f"{name}.attention.self.{part}").reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)
                for part in ("query", "key", "value")
            )
            scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1]) + np.where(mask[:, None, None, :], 0, -1e30)
            maps.append(softmax(scores))
            context = (maps[-1] @ v).swapaxes(1, 2).reshape(x.shape)
            x = self.norm(
                x + self.linear(context, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
            )
            inner = self.linear(x, f"{name}.intermediate.dense")
            gelu = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / np.sqrt(2)))
            x = self.norm(x + self.linear(gelu, f"{name}.output.dense"), f"{name}.output.LayerNorm")
            hidden.append(x)
        pooled = np.tanh(self.linear(x[:, 0], "bert.pooler.dense"))
        return self.linear(pooled, "classifier"), hidden, maps


def numpy_state(run):
    """The grafted model's weights by (who, layer), masks multiplied in."""
    state = {}
    masks = {f"{n}.weight": linear.mask for n, linear in surgery.masked_linears(run.model)}
    for name, tensor in run.model.state_dict().items():
        if not name.endswith("mask"):
            state[name.replace(".teacher.0.", ".teacher.")] = (
                tensor * masks[name] if name in masks else tensor
            ).clone()
    return state


def numpy_loss(run, batch, draw):
    """Padded to 32, every position in the means, the soft cross-entropy over B x C, dropout off."""
    bert = NumpyBert(numpy_state(run), heads=2)
    ids, mask = batch.inputs["input_ids"].numpy(), batch.tokens.numpy()
    names = [
        [f"bert.encoder.layer.{i}.{'student' if r else 'teacher'}" for i, r in enumerate(d)] for d in (draw, (0, 0))
    ]
    (z_s, h_s, a_s), (z_t, h_t, a_t) = (bert.run(ids, mask, layers) for layers in names)
    z_s = z_s - z_s.max(-1, keepdims=True)
    log_s = z_s - np.log(np.exp(z_s).sum(-1, keepdims=True))
    prediction = np.mean(-softmax(z_t) * log_s)
    states, attention = (
        sum(np.mean((x - y) ** 2) for x, y in zip(*both, strict=True)) for both in ((h_s, h_t), (a_s, a_t))
    )
    return {"hidden": states, "attention": attention, "prediction": prediction}


@pytest.mark.parametrize("draw", [(True, True), (False, True), (True, False)])
def test_the_loss_is_numpys(run, draw):
    batch = DeviceSplit.of(run.teacher.data.train, "cpu").batch(np.arange(8), padding=Padding(32))
    assert batch.tokens.shape[1] == 32
    terms = loss_terms(run, batch, 0, draw)
    expected = numpy_loss(run, batch, draw)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_the_masks_are_numpys(run):
    weights = [linear.weight.detach().numpy().copy() for _, linear in surgery.masked_linears(run.model)]
    masks = [np.ones(w.shape, bool) for w in weights]
    for j in (1, 2, 3):
        rate = 0.9 * (1 - (1 - j / 12) ** 3)
        surgery.prune(run.model, rate)
        for weight, mask in zip(weights, masks, strict=True):
            flat = np.abs(np.where(mask, weight, 0)).ravel()
            mask.ravel()[np.argsort(flat, kind="stable")[: round(rate * flat.size)]] = False
    ours = [linear.mask.numpy() for _, linear in surgery.masked_linears(run.model)]
    assert all(np.array_equal(a, b) for a, b in zip(ours, masks, strict=True))


def test_a_training_step_is_numpys(run):
    """Some weights' gradients by central differences of the NumPy loss; then AdamW's first step and first moment."""
    (batch,) = next(batches_from(run, 0))
    draw = draw_at(SEED, 0, 0.5, 2)
    assert draw == (True, False)  # teacher layer 2 is frozen, the gradient passes through it
    state = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    chosen = [("bert.encoder.layer.0.student.output.dense.weight", (3, 5)),
              ("bert.encoder.layer.0.student.attention.self.query.weight", (1, 2)),
              ("bert.encoder.layer.0.student.intermediate.dense.bias", (7,))]  # fmt: skip

    def loss_at(name, index, change):
        value = state[name][index].item()
        parameter = dict(run.model.named_parameters())[name]
        parameter.data[index] = value + change
        total = sum(numpy_loss(run, batch, draw).values())
        parameter.data[index] = value
        return total

    gradients = [(loss_at(n, i, 1e-3) - loss_at(n, i, -1e-3)) / 2e-3 for n, i in chosen]
    train_steps(run, 1)
    parameters = dict(run.model.named_parameters())
    clipped = []
    for (name, index), gradient in zip(chosen, gradients, strict=True):
        # the first step: m / (1 - b1) = g and v / (1 - b2) = g^2, so that it has length lr g / (|g| + eps)
        expected = state[name][index].item() - 1e-3 * gradient / (abs(gradient) + 1e-8)
        assert parameters[name][index].item() == pytest.approx(expected, abs=2e-6)
        clipped.append(run.engine.optimizer.state[parameters[name]]["exp_avg"][index].item() / 0.1 / gradient)
    assert clipped == pytest.approx([clipped[0]] * 3, rel=1e-2)  # one factor for all: the clipping's
    assert 0 < clipped[0] <= 1 + 1e-2


def test_clipping_counts_the_gradients_of_frozen_parts(tiny_teacher):
    """A clip norm that the student alone stays under is exceeded by all parts together: Adam's moments show it."""
    task, model, settings = tiny_teacher.configs

    def first_moments(**changes):
        method = reference(
            dropout=0.0, teacher_dropout=0.0, batch_size=8, p0=1.0, clip_norm=1e-3, pruning="none",
            total_epochs=6, stage1_epochs=3, stage2_epochs=1, objective={"task": 1.0}, **changes,
        )  # fmt: skip
        run = prepare(
            TrialConfig(task=task, model=model, teacher=settings, method=method, seed=1), tiny_teacher.teacher
        )
        train_steps(run, 1)
        parameters = [p for p in run.model.parameters() if p in run.engine.optimizer.state]
        return torch.stack([run.engine.optimizer.state[p]["exp_avg"].norm() for p in parameters]).norm().item()

    # exp_avg = 0.1 x the clipped gradient: its norm is 1e-3 over the trained parts, less where frozen ones share it
    assert first_moments(clip_over="trained") == pytest.approx(1e-4, rel=1e-3)
    assert first_moments(clip_over="all") < 0.9e-4
