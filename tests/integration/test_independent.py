"""SPD written a second time, as functions of tensors, against the trainer: three stages, two pruning events, dropout.

Nothing of the model, the objective, the schedules, the masks or the optimizer is shared: this file has its own, from
the paper's equations. The project gives the batches, the uniform numbers behind r of Eq. (1), and dropout's masks,
which are recorded where they are drawn.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from spd_ray.config.method import MethodConfig
from spd_ray.config.trial import EngineConfig, TrialConfig
from spd_ray.model import attention, dropout
from spd_ray.training.trainer import batches_from, prepare, train_spd

T1, T2, T3, P0, TARGET, TEMPERATURE, DECAY, CLIP, SEED = 4, 6, 8, 0.5, 0.6, 2.0, 0.01, 0.5, 5
RATES = (2e-3, 3e-3)
EVENTS = {2: TARGET * (1 - 0.5**3), 4: TARGET}  # after 2 and 4 steps; cubic
MATRICES = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
            "intermediate.dense", "output.dense")  # fmt: skip


@pytest.fixture
def masks(monkeypatch):
    """Dropout's masks, scaled, in the order in which they are drawn."""
    drawn: list[Tensor] = []

    def drop(input: Tensor, p: float, training: bool) -> Tensor:
        if not training or p == 0:
            return input
        drawn.append((torch.rand(input.shape) >= p) / (1 - p))
        return input * drawn[-1]

    monkeypatch.setattr(dropout, "drop", drop)
    monkeypatch.setattr(attention, "drop", drop)
    return drawn


@pytest.fixture
def run(tiny_teacher):
    task, model, settings = tiny_teacher.configs
    method = MethodConfig(
        p0=P0, total_epochs=1, stage1_epochs=0.5, stage2_epochs=0.25, stage1_lr=RATES[0], stage23_lr=RATES[1],
        target_sparsity=TARGET, pruning_events=2, batch_size=8, dropout=0.2, weight_decay=DECAY, clip_norm=CLIP,
        objective={"temperature": TEMPERATURE},
    )  # fmt: skip
    engine = EngineConfig(sparse_kernels="never")  # they draw dropout's masks in another place
    config = TrialConfig(task=task, model=model, teacher=settings, method=method, engine=engine, seed=SEED)
    return prepare(config, tiny_teacher.teacher)


def normalize(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
    return centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]


def encoder_layer(x: Tensor, real: Tensor, w: dict[str, Tensor], heads: int, drops) -> tuple[Tensor, Tensor]:
    """One layer of Devlin et al. 2018, Section 3: its hidden states and attention maps; w by short names."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    query, key, value = (linear(x, name).unflatten(-1, (heads, -1)).transpose(1, 2) for name in MATRICES[:3])
    scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    maps = scores.masked_fill(~real[:, None, None, :], -torch.inf).softmax(-1)
    context = ((maps * next(drops)) @ value).transpose(1, 2).flatten(2)
    x = normalize(x + linear(context, MATRICES[3]) * next(drops), w, "attention.output.LayerNorm")
    inner = linear(x, MATRICES[4])
    inner = inner / 2 * (1 + torch.erf(inner / 2**0.5))
    return normalize(x + linear(inner, MATRICES[5]) * next(drops), w, "output.LayerNorm"), maps


def classifier(frozen: dict[str, Tensor], inputs, real: Tensor, layers, heads: int, drops):
    """Embeddings, the given layers, pooler and classifier: logits, and the hidden states and maps of each layer."""
    e = "bert.embeddings"
    x = frozen[f"{e}.word_embeddings.weight"][inputs["input_ids"]]
    x = x + frozen[f"{e}.position_embeddings.weight"][: x.shape[1]] + frozen[f"{e}.token_type_embeddings.weight"][0]
    x, outputs = normalize(x, frozen, f"{e}.LayerNorm"), []
    for weights, has_dropout in layers:
        x, maps = encoder_layer(x, real, weights, heads, drops if has_dropout else iter([1.0] * 3))
        outputs.append((x, maps))
    pooled = torch.tanh(x[:, 0] @ frozen["bert.pooler.dense.weight"].T + frozen["bert.pooler.dense.bias"])
    return pooled @ frozen["classifier.weight"].T + frozen["classifier.bias"], outputs


def objective(grafted, taught, real: Tensor) -> Tensor:
    """Eqs. (2) and (4), all lambda_i = 1, means over real positions."""
    (logits, own), (target, theirs) = grafted, taught
    pairs = real[:, :, None] & real[:, None, :]
    loss = -(target.softmax(-1) * (logits / TEMPERATURE).log_softmax(-1)).sum(-1).mean()
    for (h, a), (h_t, a_t) in zip(own, theirs, strict=True):
        loss = loss + (h - h_t).square().mean(-1)[real].mean() + (a - a_t).square().mean(1)[pairs].mean()
    return loss


def project(weight: Tensor, sparsity: float) -> Tensor:
    """Eq. (3): the largest magnitudes stay."""
    kept = weight.numel() - round(sparsity * weight.numel())
    threshold = weight.abs().flatten().sort(descending=True).values[kept - 1]
    return weight.abs() >= threshold


def weights_of(model, index: int, who: str) -> dict[str, Tensor]:
    """Copies of the parameters of a layer, by short names."""
    prefix = f"bert.encoder.layer.{index}.{who}."
    named = {name: one for name, one in model.state_dict().items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): one.clone() for name, one in named.items() if not name.endswith("mask")}


class Second:
    """The second implementation: teacher, student, its masks and Adam's moments."""

    def __init__(self, model, depth: int, heads: int) -> None:
        self.heads = heads
        self.frozen = {n: one.clone() for n, one in model.state_dict().items() if "encoder.layer" not in n}
        self.teacher = [weights_of(model, index, "teacher.0") for index in range(depth)]
        self.student = [weights_of(model, index, "student") for index in range(depth)]
        names = [f"{name}.weight" for name in MATRICES]
        self.kept = [{name: torch.ones_like(layer[name]) for name in names} for layer in self.student]
        self.moments = [{n: (torch.zeros_like(w), torch.zeros_like(w)) for n, w in one.items()} for one in self.student]

    def loss(self, batch, grafts: np.ndarray, drops: Iterator[Tensor]) -> Tensor:
        """The objective under the draw `grafts`; gradients go to the student's weights."""
        for weight in (weight for layer in self.student for weight in layer.values()):
            weight.requires_grad_(True).grad = None
        own = [{n: w * self.kept[i].get(n, 1.0) for n, w in layer.items()} for i, layer in enumerate(self.student)]
        layers = [(own[i], True) if graft else (self.teacher[i], False) for i, graft in enumerate(grafts)]
        grafted = classifier(self.frozen, batch.inputs, batch.tokens, layers, self.heads, drops)
        with torch.no_grad():
            whole = [(weights, False) for weights in self.teacher]
            taught = classifier(self.frozen, batch.inputs, batch.tokens, whole, self.heads, drops)
        return objective(grafted, taught, batch.tokens)

    @torch.no_grad()
    def take_step(self, step: int) -> None:
        """Clipped AdamW (Loshchilov and Hutter 2019) at the rate of Eq. (6); what was not grafted has gradient 0."""
        rate = RATES[0] * (1 - step / T1) if step < T1 else RATES[1] * (1 - (step - T1) / (T3 - T1))
        found = [{n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in one.items()} for one in self.student]
        norm = torch.stack([g.square().sum() for layer in found for g in layer.values()]).sum().sqrt()
        scale = min(1.0, CLIP / (norm.item() + 1e-6))
        for layer, own, gradients in zip(self.student, self.moments, found, strict=True):
            for name, weight in layer.items():
                first, second = own[name]
                own[name] = (0.9 * first + 0.1 * scale * gradients[name],
                             0.999 * second + 0.001 * (scale * gradients[name]) ** 2)  # fmt: skip
                mean, square = own[name][0] / (1 - 0.9 ** (step + 1)), own[name][1] / (1 - 0.999 ** (step + 1))
                decay = DECAY if weight.ndim > 1 else 0.0
                weight.copy_(weight * (1 - rate * decay) - rate * mean / (square.sqrt() + 1e-8))

    @torch.no_grad()
    def prune(self, sparsity: float) -> None:
        """An event: Eq. (3) for each of the six matrices of each layer."""
        for layer, kept in zip(self.student, self.kept, strict=True):
            for name in kept:
                kept[name] = project(layer[name] * kept[name], sparsity).float()


def test_the_trainer_takes_the_steps_of_the_second_implementation(run, masks):
    second = Second(run.model, len(run.layers), run.teacher.model.config.num_attention_heads)
    batches, seen = batches_from(run, 0), set()
    records = [one for one in train_spd(run) if one.split == "batch"]
    assert len(records) == T3
    drops = iter(masks)  # of all steps, in order
    for step, record in enumerate(records):
        (batch,) = next(batches)
        p = P0 if step < T1 else min(1.0, P0 + (1 - P0) * (step - T1) / (T2 - T1))  # Eq. (5)
        grafts = np.random.default_rng([SEED, step]).random(len(run.layers)) < p  # r of Eq. (1)
        seen.add(tuple(grafts))
        loss = second.loss(batch, grafts, drops)
        assert (record.step, record.value) == (step, pytest.approx(loss.item(), rel=1e-5, abs=1e-7))
        if grafts.any():
            loss.backward()
        else:  # the trainer runs the student for a gradient of zero
            list(itertools.islice(drops, 3 * len(run.layers)))
        second.take_step(step)
        if step + 1 in EVENTS:
            second.prune(EVENTS[step + 1])
    assert next(drops, None) is None  # maps, attention output, output: dropout is where BERT has it, and nowhere else
    assert len(seen) > 1
    buffers = dict(run.model.named_buffers())
    for index, (layer, kept) in enumerate(zip(second.student, second.kept, strict=True)):
        found = weights_of(run.model, index, "student")
        for name, weight in layer.items():
            mask = kept.get(name, torch.ones(()))
            if name in kept:
                ours = buffers[f"bert.encoder.layer.{index}.student.{name.removesuffix('weight')}mask"]
                assert torch.equal(ours, mask.bool())
                assert int((mask == 0).sum()) == round(TARGET * mask.numel())
            if name != "attention.self.key.bias":  # its gradient is 0 but for rounding, which Adam's steps blow up
                torch.testing.assert_close(found[name] * mask, weight.detach() * mask, rtol=0, atol=1e-4)
